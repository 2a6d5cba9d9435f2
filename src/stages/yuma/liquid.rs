//! Liquid alpha: bonds that move at a rate of their own per entry (YUMA §8.C and §8.D).

use super::state::{ConsensusMode, Hyperparameters};
use crate::fixed::I32F32;
use crate::matrix::{Csr, Dense, Matrix};

/// How fast a bond moves, by how far the weight is from where it was and from consensus.
#[derive(Clone, Copy, Debug)]
pub struct LiquidAlpha {
    pub(super) low: I32F32,
    pub(super) high: I32F32,
    pub(super) slope: I32F32,
}

impl LiquidAlpha {
    /// Rates from `low` to `high` in 65535ths; `steepness` in hundredths.
    pub fn new(low: u16, high: u16, steepness: i16) -> Self {
        Self {
            low: I32F32::from_proportion(low),
            high: I32F32::from_proportion(high),
            slope: I32F32::from_i16(steepness).saturating_div(I32F32::from_i16(-100)),
        }
    }

    /// The rate in `low ..= high` for one entry.
    ///
    /// ```text
    /// d = clamp(weight - consensus, 0, 1) where weight >= bond, else clamp(bond - weight, 0, 1)
    /// sigmoid = 1 / (1 + exp(-steepness / 100 * (d - 1/2)))
    /// rate = clamp(low + sigmoid (high - low), low, high)
    /// ```
    pub fn rate(&self, consensus: I32F32, weight: I32F32, bond: I32F32) -> I32F32 {
        let [rate] = self.rates_at([distance(consensus, weight, bond)]);
        rate
    }

    /// The rates at several distances d.
    fn rates_at<const N: usize>(&self, distances: [I32F32; N]) -> [I32F32; N] {
        let exponents = distances.map(|distance| self.slope.saturating_mul(distance.saturating_sub(I32F32::HALF)));
        I32F32::exp_safe_each(exponents).map(|exponential| {
            let sigmoid = I32F32::ONE.saturating_div(I32F32::ONE.saturating_add(exponential));
            let rate = self.low.saturating_add(sigmoid.saturating_mul(self.high.saturating_sub(self.low)));
            rate.max(self.low).min(self.high)
        })
    }
}

/// How far a weight lies above consensus, or a bond above its weight, in 0 ..= 1.
fn distance(consensus: I32F32, weight: I32F32, bond: I32F32) -> I32F32 {
    let distance = if weight >= bond { weight.saturating_sub(consensus) } else { bond.saturating_sub(weight) };
    distance.clamp(I32F32::ZERO, I32F32::ONE)
}

/// Whether liquid alpha compares weights with the stored consensus.
pub(super) fn compares_with_stored(hyper: &Hyperparameters, stored: &[u16]) -> bool {
    let previous = match hyper.liquid_alpha_consensus_mode {
        ConsensusMode::Current => false,
        ConsensusMode::Previous => true,
        ConsensusMode::Auto => hyper.bonds_penalty == u16::MAX,
    };
    previous && !stored.is_empty()
}

/// The consensus that liquid alpha compares weights with, by mode: this epoch's or the stored one, as long as this epoch's.
pub fn reference_consensus(hyper: &Hyperparameters, consensus: &[I32F32], stored: &[u16]) -> Vec<I32F32> {
    if compares_with_stored(hyper, stored) {
        let mut reference: Vec<I32F32> = stored.iter().copied().map(I32F32::from_proportion).collect();
        reference.resize(consensus.len(), I32F32::ZERO);
        reference
    } else {
        consensus.to_vec()
    }
}

/// One row laid out by column as the chain's rates see it.
///
/// The chain looks a row up with a cursor that only moves forward, as if columns ascended. An entry behind one with a larger column
/// (inside the subnet or not) is not seen, and of repeated ones only the first is: its rate is computed as if it were zero.
#[derive(Clone, Debug)]
struct SeenRow(Vec<I32F32>);

impl SeenRow {
    fn fill(&mut self, row: impl Iterator<Item = (u16, I32F32)>) {
        let mut next = 0;
        for (column, value) in row {
            let column = usize::from(column);
            if column >= next {
                next = column + 1;
                if let Some(seen) = self.0.get_mut(column) {
                    *seen = value;
                }
            }
        }
    }

    fn clear(&mut self, row: impl Iterator<Item = (u16, I32F32)>) {
        for (column, _) in row {
            if let Some(seen) = self.0.get_mut(usize::from(column)) {
                *seen = I32F32::ZERO;
            }
        }
    }
}

/// An entry whose bond moves: where, what is bought, what is held, and how fast.
#[derive(Clone, Copy, Debug)]
struct Entry {
    column: u16,
    weight: I32F32,
    held: I32F32,
    distance: I32F32,
    rate: I32F32,
}

impl Entry {
    /// The bond after the epoch.
    fn bond(&self) -> I32F32 {
        let decayed = I32F32::ONE.saturating_sub(self.rate).saturating_mul(self.held);
        let bought = self.rate.saturating_mul(self.weight).max(I32F32::ZERO);
        decayed.saturating_add(bought).min(I32F32::ONE)
    }
}

/// Bonds after this epoch, each entry at its own rate; rows keep the order of `weights`.
///
/// `E_ij = min(1, (1 - alpha_ij) B_ij + alpha_ij w~_ij)`, products floored, values above zero only. A bond in a miner that its
/// validator gives no weight entry is gone at once. Written to the memory of a matrix that has served.
pub fn moving_average(
    weights: &impl Matrix<Value = I32F32>,
    bonds: &impl Matrix<Value = I32F32>,
    consensus: &[I32F32],
    alpha: &LiquidAlpha,
    memory: Csr<I32F32>,
) -> Csr<I32F32> {
    /// As many exponentials as keep a processor's multiplier busy.
    const LANES: usize = 8;
    let n = weights.rows();
    let mut average = memory.emptied(weights.most_entries());
    let (mut seen_weights, mut seen_bonds) = (SeenRow(vec![I32F32::ZERO; n]), SeenRow(vec![I32F32::ZERO; n]));
    let mut old = vec![I32F32::ZERO; n];
    let (mut entries, mut apart) = (Vec::new(), Vec::new());
    // Most weights are at consensus and above their bonds, where all move at one rate.
    let [rate_at_zero] = alpha.rates_at([I32F32::ZERO]);
    for row in 0..n {
        seen_weights.fill(weights.row(row));
        seen_bonds.fill(bonds.row(row));
        for (column, bond) in bonds.row(row) {
            if let Some(old) = old.get_mut(usize::from(column)) {
                *old = bond;
            }
        }
        for (column, weight) in weights.row(row) {
            let place = usize::from(column);
            let (Some(&consensus), Some(&held)) = (consensus.get(place), old.get(place)) else { continue };
            // Nothing held and nothing bought: nothing at any rate.
            if weight == I32F32::ZERO && held == I32F32::ZERO {
                continue;
            }
            let distance = distance(consensus, seen_weights.0[place], seen_bonds.0[place]);
            if distance != I32F32::ZERO {
                apart.push(entries.len());
            }
            entries.push(Entry { column, weight, held, distance, rate: rate_at_zero });
        }
        for apart in apart.chunks(LANES) {
            let distance = |lane: usize| apart.get(lane).map_or(I32F32::ZERO, |&place: &usize| entries[place].distance);
            let rates = alpha.rates_at::<LANES>(std::array::from_fn(distance));
            for (&place, rate) in apart.iter().zip(rates) {
                entries[place].rate = rate;
            }
        }
        apart.clear();
        for entry in entries.drain(..) {
            let bond = entry.bond();
            if bond > I32F32::ZERO {
                average.push(entry.column, bond);
            }
        }
        average.end_row();
        seen_weights.clear(weights.row(row));
        seen_bonds.clear(bonds.row(row));
        for (column, _) in bonds.row(row) {
            if let Some(old) = old.get_mut(usize::from(column)) {
                *old = I32F32::ZERO;
            }
        }
    }
    average
}

/// The rate of every pair, also of those without an entry: for the raw output only.
pub fn rates(
    weights: &impl Matrix<Value = I32F32>,
    bonds: &impl Matrix<Value = I32F32>,
    consensus: &[I32F32],
    alpha: &LiquidAlpha,
) -> Dense<I32F32> {
    let n = weights.rows();
    let mut rates = Dense::filled(n, n, I32F32::ZERO);
    let (mut seen_weights, mut seen_bonds) = (SeenRow(vec![I32F32::ZERO; n]), SeenRow(vec![I32F32::ZERO; n]));
    for (row, rates) in rates.rows_mut().enumerate() {
        seen_weights.fill(weights.row(row));
        seen_bonds.fill(bonds.row(row));
        let seen = seen_weights.0.iter().zip(&seen_bonds.0);
        for ((rate, &consensus), (&weight, &bond)) in rates.iter_mut().zip(consensus).zip(seen) {
            *rate = alpha.rate(consensus, weight, bond);
        }
        seen_weights.clear(weights.row(row));
        seen_bonds.clear(bonds.row(row));
    }
    rates
}
