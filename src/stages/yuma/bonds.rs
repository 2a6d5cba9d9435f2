//! What validators hold in miners from epoch to epoch (YUMA §8).

use std::borrow::Cow;

use crate::fixed::{I32F32, I64F64};
use crate::matrix::Csr;

/// A row laid out by column, together with the columns that were written: reading it back gives them ascending.
#[derive(Clone, Debug)]
struct WideRow {
    values: Vec<I32F32>,
    written: Vec<u64>,
}

impl WideRow {
    fn new(columns: usize) -> Self {
        Self { values: vec![I32F32::ZERO; columns], written: vec![0; columns.div_ceil(64)] }
    }

    /// The value in a column, to be written; none outside the matrix.
    #[inline]
    fn at(&mut self, column: u16) -> Option<&mut I32F32> {
        let place = usize::from(column);
        let value = self.values.get_mut(place)?;
        self.written[place / 64] |= 1 << (place % 64);
        Some(value)
    }

    /// Hands out every value written, columns ascending, and forgets them.
    #[inline]
    fn drain(&mut self, mut take: impl FnMut(u16, I32F32)) {
        for (word, written) in self.written.iter_mut().enumerate() {
            while *written != 0 {
                let place = word * 64 + written.trailing_zeros() as usize;
                *written &= *written - 1;
                take(place as u16, std::mem::take(&mut self.values[place]));
            }
        }
    }
}

/// The weights that bonds are built from: between the weights (penalty 0) and the clipped weights (penalty 1).
///
/// `w~_ij = w_ij + penalty (c_ij - w_ij)` with `c_ij = min(w_ij, C_j)`, the product floored. At 0 and 1 the rows are handed on as they
/// are, order and zeros included; in between columns ascend and only values above zero stay.
pub fn weights_for_bonds<'a>(
    weights: &'a Csr<I32F32>,
    clipped: &'a Csr<I32F32>,
    consensus: &[I32F32],
    penalty: I32F32,
) -> Cow<'a, Csr<I32F32>> {
    if penalty == I32F32::ZERO {
        return Cow::Borrowed(weights);
    }
    if penalty == I32F32::ONE {
        return Cow::Borrowed(clipped);
    }
    let mut mixed = Csr::with_capacity(weights.rows(), weights.len());
    let mut wide = WideRow::new(weights.rows());
    for row in 0..weights.rows() {
        for (column, weight) in weights.row(row) {
            if let (Some(place), Some(&limit)) = (wide.at(column), consensus.get(usize::from(column))) {
                let cut = weight.min(limit).saturating_sub(weight);
                *place = weight.saturating_add(penalty.saturating_mul(cut));
            }
        }
        wide.drain(|column, value| {
            if value > I32F32::ZERO {
                mixed.push(column, value);
            }
        });
        mixed.end_row();
    }
    Cow::Owned(mixed)
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

/// The stored bonds in miners registered before `before`. Columns outside the subnet count as registered at block 0 and stay.
pub fn registered(
    bonds: &Csr<u16>,
    before: u64,
    block_at_registration: &[u64],
    convert: impl Fn(u16) -> I32F32,
) -> Csr<I32F32> {
    let mut registered = Csr::with_capacity(bonds.rows(), bonds.len());
    for row in 0..bonds.rows() {
        for (column, bond) in bonds.row(row) {
            if before > block_at_registration.get(usize::from(column)).copied().unwrap_or(0) {
                registered.push(column, convert(bond));
            }
        }
        registered.end_row();
    }
    registered
}

/// Divides every column by its sum, `b_ij / SUM_i b_ij`; columns from `columns` on and such with sum zero stay.
pub fn normalize_columns(bonds: &mut Csr<I32F32>, columns: usize) {
    let mut sums = vec![I32F32::ZERO; columns];
    for (&column, &bond) in bonds.columns().iter().zip(bonds.values()) {
        if let Some(sum) = sums.get_mut(usize::from(column)) {
            *sum = sum.wrapping_add(bond);
        }
    }
    divide_columns(bonds, &sums);
}

/// Divides every column by its largest value, which so becomes 1; columns from `columns` on and such of zeros stay.
pub fn upscale_columns(bonds: &mut Csr<I32F32>, columns: usize) {
    let mut largest = vec![I32F32::ZERO; columns];
    for (&column, &bond) in bonds.columns().iter().zip(bonds.values()) {
        if let Some(largest) = largest.get_mut(usize::from(column)) {
            *largest = bond.max(*largest);
        }
    }
    divide_columns(bonds, &largest);
}

fn divide_columns(bonds: &mut Csr<I32F32>, divisors: &[I32F32]) {
    let (columns, values) = bonds.columns_and_values_mut();
    for (&column, value) in columns.iter().zip(values) {
        match divisors.get(usize::from(column)) {
            Some(&divisor) if divisor != I32F32::ZERO => *value = value.safe_div(divisor),
            _ => {}
        }
    }
}

/// This epoch's purchases under Yuma2: `dB_ij = w~_ij s_i`, floored; then columns normalised.
pub fn purchases(weights: &Csr<I32F32>, active_stake: &[I32F32]) -> Csr<I32F32> {
    let mut purchases = weights.clone();
    for (row, &stake) in active_stake.iter().enumerate() {
        for value in purchases.row_values_mut(row) {
            *value = value.saturating_mul(stake);
        }
    }
    normalize_columns(&mut purchases, active_stake.len());
    purchases
}

/// The moving average `alpha new + (1 - alpha) old`, each product floored; only values above zero, columns ascending.
pub fn moving_average(new: &Csr<I32F32>, old: &Csr<I32F32>, alpha: I32F32) -> Csr<I32F32> {
    let kept = I32F32::ONE.saturating_sub(alpha);
    let mut average = Csr::with_capacity(new.rows(), new.len().max(old.len()));
    let mut wide = WideRow::new(new.rows());
    for row in 0..new.rows() {
        for (part, rate) in [(new, alpha), (old, kept)] {
            for (column, value) in part.row(row) {
                if let Some(sum) = wide.at(column) {
                    *sum = sum.saturating_add(rate.saturating_mul(value));
                }
            }
        }
        wide.drain(|column, value| {
            if value > I32F32::ZERO {
                average.push(column, value);
            }
        });
        average.end_row();
    }
    average
}

/// What every row earns from incentive: `SUM_j b_ij I_j`, each product floored.
pub fn earnings(bonds: &Csr<I32F32>, incentive: &[I32F32]) -> Vec<I32F32> {
    let product = |(column, bond): (u16, I32F32)| Some(bond.saturating_mul(*incentive.get(usize::from(column))?));
    (0..bonds.rows()).map(|row| bonds.row(row).filter_map(product).sum()).collect()
}

/// Bonds as the chain stores them, in 65535ths: the rows of those with a permit, the others empty.
pub fn stored(bonds: &Csr<I32F32>, permit: &[bool]) -> Csr<u16> {
    let mut stored = Csr::with_capacity(bonds.rows(), bonds.len());
    for (row, &permit) in permit.iter().enumerate() {
        if permit {
            for (column, bond) in bonds.row(row) {
                stored.push(column, bond.to_proportion());
            }
        }
        stored.end_row();
    }
    stored
}
