//! What validators hold in miners from epoch to epoch (YUMA §8).

use crate::fixed::{Divisor, I32F32, I64F64};
use crate::matrix::{Csr, Matrix};

/// A row laid out by column, together with the columns that were written: reading it back gives them ascending.
#[derive(Clone, Debug)]
struct WideRow {
    values: Vec<I32F32>,
    /// 1 for every column that was written, eight of them to a word.
    written: Vec<[u8; 8]>,
}

impl WideRow {
    fn new(columns: usize) -> Self {
        Self { values: vec![I32F32::ZERO; columns], written: vec![[0; 8]; columns.div_ceil(8)] }
    }

    /// The value in a column, to be written; none outside the matrix.
    #[inline]
    fn at(&mut self, column: u16) -> Option<&mut I32F32> {
        let place = usize::from(column);
        let value = self.values.get_mut(place)?;
        self.written[place / 8][place % 8] = 1;
        Some(value)
    }

    /// Hands out every value written, columns ascending, and forgets them.
    #[inline]
    fn drain(&mut self, mut take: impl FnMut(u16, I32F32)) {
        for (word, written) in self.written.iter_mut().enumerate() {
            let mut left = u64::from_le_bytes(std::mem::take(written));
            while left != 0 {
                let place = word * 8 + left.trailing_zeros() as usize / 8;
                left &= left - 1;
                take(place as u16, std::mem::take(&mut self.values[place]));
            }
        }
    }
}

/// The weights that bonds are built from: between the weights (penalty 0) and the clipped weights (penalty 1).
///
/// `w~_ij = w_ij + penalty (c_ij - w_ij)` with `c_ij = min(w_ij, C_j)`, the product floored. At 0 and 1 rows keep their order, zeros
/// that were given stay and what is cut to zero goes; in between columns ascend and only values above zero stay.
pub fn weights_for_bonds(mut weights: Csr<I32F32>, consensus: &[I32F32], penalty: I32F32) -> Csr<I32F32> {
    let limit = |column: u16| consensus.get(usize::from(column)).copied().unwrap_or(I32F32::ZERO);
    if penalty == I32F32::ONE {
        weights.retain_map(|_, column, weight| {
            let limit = limit(column);
            (weight <= limit || limit > I32F32::ZERO).then_some(weight.min(limit))
        });
    }
    if penalty == I32F32::ZERO || penalty == I32F32::ONE {
        return weights;
    }
    let mut between = Csr::with_capacity(weights.rows(), weights.len());
    let mut wide = WideRow::new(weights.rows());
    for row in 0..weights.rows() {
        for (column, weight) in weights.row(row) {
            if let Some(place) = wide.at(column) {
                let cut = weight.min(limit(column)).saturating_sub(weight);
                *place = weight.saturating_add(penalty.saturating_mul(cut));
            }
        }
        wide.drain(|column, value| {
            if value > I32F32::ZERO {
                between.push(column, value);
            }
        });
        between.end_row();
    }
    between
}

/// How far bonds move towards this epoch's, in 0 ..= 1: `1 - moving_average / 10^6`, the quotient floored.
pub fn moving_average_alpha(moving_average: u64) -> I32F32 {
    let kept = I64F64::from_u64(moving_average).safe_div(I64F64::from_u64(1_000_000)).to_i32f32();
    I32F32::ONE.saturating_sub(kept)
}

/// The first block that a miner must not have been registered at, or after, for bonds in it to count.
///
/// The block after the previous epoch; a tempo back where there was none.
pub fn bonds_count_before(block: u64, last_step: u64, tempo: u16) -> u64 {
    if last_step == 0 { block.saturating_sub(tempo.into()) } else { last_step.saturating_add(1) }
}

/// What each column is divided by; columns outside stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Divisors(Vec<Divisor>);

impl Divisors {
    /// The sums of the columns of a square matrix.
    pub fn sums(matrix: &impl Matrix<Value = I32F32>) -> Self {
        Self::folded(matrix, I32F32::wrapping_add)
    }

    /// The largest values of the columns of a square matrix of values from 0 up.
    pub fn largest(matrix: &impl Matrix<Value = I32F32>) -> Self {
        Self::folded(matrix, Ord::max)
    }

    fn folded(matrix: &impl Matrix<Value = I32F32>, fold: impl Fn(I32F32, I32F32) -> I32F32) -> Self {
        let mut folded = vec![I32F32::ZERO; matrix.rows()];
        for row in 0..matrix.rows() {
            matrix.row(row).for_each(|(column, value)| {
                if let Some(place) = folded.get_mut(usize::from(column)) {
                    *place = fold(*place, value);
                }
            });
        }
        // Divided by 1, what has nothing to be divided by stays.
        let one = Divisor::new(I32F32::ONE);
        Self(folded.into_iter().map(|sum| if sum == I32F32::ZERO { one } else { Divisor::new(sum) }).collect())
    }

    /// The value over its column's divisor; unchanged where that is zero.
    #[inline]
    pub fn divide(&self, column: u16, value: I32F32) -> I32F32 {
        self.0.get(usize::from(column)).map_or(value, |divisor| divisor.divide(value))
    }

    /// Every value over its column's divisor, computed while it is read.
    pub fn of<'a, M: Matrix<Value = I32F32>>(&'a self, matrix: &'a M) -> impl Matrix<Value = I32F32> + 'a {
        matrix.mapped(|_, column, value| self.divide(column, value))
    }

    /// Divides every value.
    pub fn divide_all(&self, bonds: &mut Csr<I32F32>) {
        bonds.map_in_place(|_, column, value| self.divide(column, value));
    }
}

/// The moving average `alpha new + (1 - alpha) old`, each product floored; only values above zero, columns ascending. Written
/// to the memory of a matrix that has served.
pub fn moving_average(
    new: &impl Matrix<Value = I32F32>,
    old: &impl Matrix<Value = I32F32>,
    alpha: I32F32,
    memory: Csr<I32F32>,
) -> Csr<I32F32> {
    let kept = I32F32::ONE.saturating_sub(alpha);
    let mut average = memory.emptied(new.most_entries().max(old.most_entries()));
    let mut wide = WideRow::new(new.rows());
    for row in 0..new.rows() {
        let new_row = new.row(row).map(|(column, value)| (column, alpha.saturating_mul(value)));
        let old_row = old.row(row).map(|(column, value)| (column, kept.saturating_mul(value)));
        let mut push = |column, value| {
            if value > I32F32::ZERO {
                average.push(column, value);
            }
        };
        if new.ascends(row) && old.ascends(row) {
            united(new_row, old_row, new.rows(), push);
        } else {
            for (column, part) in new_row.chain(old_row) {
                if let Some(sum) = wide.at(column) {
                    *sum = sum.saturating_add(part);
                }
            }
            wide.drain(&mut push);
        }
        average.end_row();
    }
    average
}

/// Hands out the sums of two rows, both with ascending columns, of the columns below `columns`.
fn united(
    new: impl Iterator<Item = (u16, I32F32)>,
    mut old: impl Iterator<Item = (u16, I32F32)>,
    columns: usize,
    mut take: impl FnMut(u16, I32F32),
) {
    let mut held = old.next();
    for (column, mut sum) in new {
        while let Some((before, value)) = held.filter(|held| held.0 < column) {
            take(before, value);
            held = old.next();
        }
        if let Some((_, value)) = held.filter(|held| held.0 == column) {
            sum = sum.saturating_add(value);
            held = old.next();
        }
        take(column, sum);
    }
    while let Some((column, value)) = held.filter(|held| usize::from(held.0) < columns) {
        take(column, value);
        held = old.next();
    }
}

/// What every row earns from incentive: `SUM_j b_ij I_j`, each product floored.
pub fn earnings(bonds: &impl Matrix<Value = I32F32>, incentive: &[I32F32]) -> Vec<I32F32> {
    let product = |(column, bond): (u16, I32F32)| Some(bond.saturating_mul(*incentive.get(usize::from(column))?));
    (0..bonds.rows()).map(|row| bonds.row(row).filter_map(product).sum()).collect()
}

/// Bonds as the chain stores them, each converted by column and value, in 65535ths: the rows of those with a permit, the others empty.
pub fn stored(bonds: &Csr<I32F32>, permit: &[bool], convert: impl Fn(u16, I32F32) -> I32F32) -> Csr<u16> {
    let mut stored = Csr::with_capacity(bonds.rows(), bonds.len());
    for (row, &permit) in permit.iter().enumerate() {
        if permit {
            let values = bonds.row(row).map(|(column, bond)| convert(column, bond).to_proportion());
            stored.extend_as(bonds.row_columns(row), values);
        }
        stored.end_row();
    }
    stored
}
