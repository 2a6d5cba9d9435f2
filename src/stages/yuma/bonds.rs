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
    /// To divide each column of a square matrix by its sum.
    pub fn sums(matrix: &impl Matrix<Value = I32F32>) -> Self {
        let mut sums = vec![I32F32::ZERO; matrix.rows()];
        for row in 0..matrix.rows() {
            matrix.row(row).for_each(|(column, value)| {
                if let Some(sum) = sums.get_mut(usize::from(column)) {
                    *sum = sum.wrapping_add(value);
                }
            });
        }
        Self::new(&sums)
    }

    /// The value over its column's divisor; unchanged where that is zero.
    #[inline]
    pub fn divide(&self, column: u16, value: I32F32) -> I32F32 {
        self.0.get(usize::from(column)).map_or(value, |divisor| divisor.divide(value))
    }

    /// To divide each column by a number of its own.
    pub fn new(divisors: &[I32F32]) -> Self {
        // Divided by 1, what has nothing to be divided by stays.
        let one = Divisor::new(I32F32::ONE);
        Self(divisors.iter().map(|&sum| if sum == I32F32::ZERO { one } else { Divisor::new(sum) }).collect())
    }

    /// Every value over its column's divisor, computed while it is read.
    pub fn of<'a, M: Matrix<Value = I32F32>>(&'a self, matrix: &'a M) -> impl Matrix<Value = I32F32> + 'a {
        matrix.mapped(|_, column, value| self.divide(column, value))
    }

    /// Divides every value, and returns the largest quotient of each column, of values from 0 up.
    pub fn divide_all(&self, bonds: &mut Csr<I32F32>) -> Vec<I32F32> {
        let mut largest = vec![I32F32::ZERO; self.0.len()];
        bonds.map_in_place(|_, column, value| {
            let quotient = self.divide(column, value);
            if let Some(largest) = largest.get_mut(usize::from(column)) {
                *largest = quotient.max(*largest);
            }
            quotient
        });
        largest
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
    let (mut bought, mut held) = (Part::default(), Part::default());
    for row in 0..new.rows() {
        bought.fill(new.row(row), alpha);
        held.fill(old.row(row), kept);
        let mut push = |column, value| {
            if value > I32F32::ZERO {
                average.push(column, value);
            }
        };
        if bought.columns == held.columns && bought.columns.is_sorted_by(|a, b| a < b) {
            let sums = bought.values.iter().zip(&held.values).map(|(bought, &held)| bought.saturating_add(held));
            bought
                .columns
                .iter()
                .zip(sums)
                .filter(|(column, _)| usize::from(**column) < new.rows())
                .for_each(|(&column, sum)| push(column, sum));
        } else {
            for (&column, &value) in bought.entries().chain(held.entries()) {
                if let Some(sum) = wide.at(column) {
                    *sum = sum.saturating_add(value);
                }
            }
            wide.drain(push);
        }
        average.end_row();
    }
    average
}

/// A row times a rate.
#[derive(Debug, Default)]
struct Part {
    columns: Vec<u16>,
    values: Vec<I32F32>,
}

impl Part {
    fn fill(&mut self, row: impl Iterator<Item = (u16, I32F32)>, rate: I32F32) {
        self.columns.clear();
        self.values.clear();
        row.for_each(|(column, value)| {
            self.columns.push(column);
            self.values.push(rate.saturating_mul(value));
        });
    }

    fn entries(&self) -> impl Iterator<Item = (&u16, &I32F32)> {
        self.columns.iter().zip(&self.values)
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
