//! The oracle: the Yuma epoch as its specification tells it, plainly and slowly, for the engine to be held to.
//!
//! Written from YUMA.md alone; the paragraphs stand beside the steps. It shares the fixed-point types with the engine, and of the
//! rest only what goes in and what comes out. Nothing here is done for speed: rows are lists in their stored order, a look-up makes
//! a map, and the median recurses as the chain's does instead of using the closed form.

use std::collections::BTreeMap;

use tauscore::fixed::{I32F32, I64F64, U96F32};
use tauscore::matrix::{Csr, Dense};
use tauscore::stages::yuma::{ActivityCutoff, ConsensusMode, Epoch, Hyperparameters, Raw, State};

/// Entries `(uid, value)` in stored order; a uid may be there twice, and a value may be zero.
type Row = Vec<(u16, I32F32)>;

/// One row per uid.
type Matrix = Vec<Row>;

/// One epoch with every intermediate result.
pub fn epoch(state: &State) -> Epoch {
    let (n, hyper) = (state.n(), &state.hyper);
    let owner = hyper.owner_uid.map(usize::from);

    // §3: stake and permits.
    let stake = stake_shares(state);
    let new_validator_permit = new_permits(&stake, hyper);
    let permit: Vec<bool> = (0..n).map(|uid| state.validator_permit[uid] || owner == Some(uid)).collect();

    // §4: active stake.
    let active: Vec<bool> =
        (0..n).map(|uid| last_update(state, uid).saturating_add(activity_cutoff(hyper)) >= state.block).collect();
    let active_stake = normalized(
        &(0..n).map(|uid| if active[uid] && permit[uid] { stake[uid] } else { I32F32::ZERO }).collect::<Vec<_>>(),
    );

    // §5, §6: weights and consensus.
    let weights = weights_that_count(state, &permit);
    let consensus = consensus(&weights, &active_stake, I32F32::from_proportion(hyper.kappa));

    // §7: clip, trust, rank, incentive.
    let clipped = clipped(&weights, &consensus);
    let validator_trust: Vec<I32F32> = clipped.iter().map(|row| row.iter().map(|entry| entry.1).sum()).collect();
    let rank = stake_weighted_columns(&clipped, &active_stake);
    let incentive = normalized(&rank);
    let legacy_prerank = stake_weighted_columns(&weights, &active_stake);
    let legacy_trust = rank.iter().zip(&legacy_prerank).map(|(rank, prerank)| rank.safe_div(*prerank)).collect();

    // §8: bonds and dividends.
    let weights_for_bonds = weights_for_bonds(&weights, &clipped, hyper.bonds_penalty);
    let bonding = if hyper.yuma3 {
        yuma3(state, &weights_for_bonds, &consensus, &incentive, &active_stake)
    } else {
        yuma2(state, &weights_for_bonds, &incentive, &active_stake)
    };

    // §9: emission.
    let combined: Vec<I32F32> =
        incentive.iter().zip(&bonding.dividends).map(|(miner, validator)| miner.saturating_add(*validator)).collect();
    let sum: I32F32 = combined.iter().sum();
    let shares = |values: &[I32F32]| -> Vec<I32F32> { values.iter().map(|value| value.safe_div(sum)).collect() };
    let (server, validator, both) = if sum != I32F32::ZERO {
        (shares(&incentive), shares(&bonding.dividends), shares(&combined))
    } else if active_stake.iter().sum::<I32F32>() == I32F32::ZERO {
        (incentive.clone(), stake.clone(), stake.clone())
    } else {
        (incentive.clone(), active_stake.clone(), active_stake.clone())
    };
    let rao = |shares: &[I32F32]| -> Vec<u64> { shares.iter().map(|share| share.of_rao(state.rao_emission)).collect() };

    // §10: outputs.
    let proportions = |values: &[I32F32]| -> Vec<u16> { values.iter().copied().map(I32F32::to_proportion).collect() };
    let mut stored = bonding.stored.clone();
    for (row, permit) in stored.iter_mut().zip(&new_validator_permit) {
        if !permit {
            row.clear();
        }
    }
    Epoch {
        active,
        stake_weight: proportions(&stake),
        consensus: proportions(&consensus),
        incentive: proportions(&incentive),
        dividends: proportions(&bonding.dividends),
        validator_trust: proportions(&validator_trust),
        new_validator_permit,
        server_emission: rao(&server),
        validator_emission: rao(&validator),
        emission: rao(&both),
        bonds: compressed(&stored, I32F32::to_proportion),
        raw: Some(Box::new(Raw {
            stake_norm: stake,
            active_stake,
            weights_norm: compressed(&weights, |bits| bits),
            consensus,
            clipped_weights: compressed(&clipped, |bits| bits),
            validator_trust,
            rank,
            incentive,
            weights_for_bonds: compressed(&weights_for_bonds, |bits| bits),
            bonds_old: compressed(&bonding.old, |bits| bits),
            bonds_delta: bonding.delta.as_ref().map(|delta| compressed(delta, |bits| bits)),
            consensus_for_liquid_alpha: bonding.reference_consensus,
            alphas: bonding.alphas,
            ema_bonds: compressed(&bonding.stored, |bits| bits),
            ema_bonds_norm: compressed(&bonding.normalized, |bits| bits),
            total_bonds_per_validator: bonding.total_bonds,
            dividends: bonding.dividends,
            norm_server_emission: server,
            norm_validator_emission: validator,
            norm_combined_emission: both,
            legacy_prerank,
            legacy_trust,
        })),
    }
}

/// The block of a uid's last weights; 0 where the vector is short (§4, §5.4).
fn last_update(state: &State, uid: usize) -> u64 {
    state.last_update.get(uid).copied().unwrap_or(0)
}

/// The block at which a uid was registered; 0 where the vector is short or the uid is none of the subnet's (§5.4, §8.3).
fn registered(state: &State, uid: u16) -> u64 {
    state.block_at_registration.get(usize::from(uid)).copied().unwrap_or(0)
}

/// §2: blocks without weights after which a neuron is inactive.
fn activity_cutoff(hyper: &Hyperparameters) -> u64 {
    match hyper.activity_cutoff {
        ActivityCutoff::Factor(milli) => (u64::from(milli) * u64::from(hyper.tempo) / 1000).max(1),
        ActivityCutoff::Blocks(blocks) => blocks,
    }
}

/// Every value over the sum of all; as they are where the sum is zero.
fn normalized(values: &[I32F32]) -> Vec<I32F32> {
    let sum: I32F32 = values.iter().sum();
    values.iter().map(|value| if sum == I32F32::ZERO { *value } else { value.safe_div(sum) }).collect()
}

/// §3.1 to §3.4: shares of the stake that reaches the threshold.
fn stake_shares(state: &State) -> Vec<I32F32> {
    let hyper = &state.hyper;
    let tao_weight = I64F64::from(U96F32::from_u64(hyper.tao_weight).safe_div(U96F32::from_u64(u64::MAX)));
    let counted: Vec<I64F64> = (0..state.n())
        .map(|uid| {
            let tao = state.tao_stake.as_ref().map_or(0, |tao_stake| tao_stake[uid]);
            let total =
                I64F64::from_u64(state.stake[uid]).saturating_add(I64F64::from_u64(tao).saturating_mul(tao_weight));
            let exempt = hyper.owner_uid.map(usize::from) == Some(uid);
            if total.to_u64() < hyper.stake_threshold && !exempt { I64F64::ZERO } else { total }
        })
        .collect();
    let sum: I64F64 = counted.iter().copied().sum();
    counted.into_iter().map(|stake| if sum == I64F64::ZERO { stake } else { stake.safe_div(sum) }.to_i32f32()).collect()
}

/// §3.5: the uids with most stake, of equals the higher ones, and the owner.
fn new_permits(stake: &[I32F32], hyper: &Hyperparameters) -> Vec<bool> {
    let (n, most) = (stake.len(), usize::from(hyper.max_allowed_validators));
    let mut permit: Vec<bool> = stake.iter().map(|stake| *stake != I32F32::ZERO).collect();
    if n >= most {
        let mut ascending: Vec<usize> = (0..n).collect();
        ascending.sort_by_key(|&uid| stake[uid]);
        for &uid in &ascending[..n - most] {
            permit[uid] = false;
        }
    }
    if let Some(owner) = hyper.owner_uid {
        permit[usize::from(owner)] = true;
    }
    permit
}

/// §5: rows as submitted, without the entries that do not count, normalised.
fn weights_that_count(state: &State, permit: &[bool]) -> Matrix {
    let counts = |row: usize, column: u16| {
        let own = usize::from(column) == row && state.hyper.owner_uid != Some(column);
        let outdated = last_update(state, row) <= registered(state, column);
        // Enabled or not, a validator without an open commit is masked by nothing.
        let commit = state.commit_block.as_ref().and_then(|blocks| blocks[row]).unwrap_or(u64::MAX);
        permit[row] && !own && !outdated && commit >= registered(state, column)
    };
    (0..state.n())
        .map(|row| {
            let kept = state.weights.row(row).filter(|entry| counts(row, entry.0));
            let (columns, values): (Vec<u16>, Vec<I32F32>) =
                kept.map(|(column, value)| (column, I32F32::from_u16(value))).unzip();
            let sum: I32F32 = values.iter().sum();
            let normalized = values.iter().map(|value| if sum > I32F32::ZERO { value.safe_div(sum) } else { *value });
            columns.into_iter().zip(normalized).collect()
        })
        .collect()
}

/// A row to look up in, where of repeated uids the last counts.
fn last_wins(row: &[(u16, I32F32)]) -> BTreeMap<u16, I32F32> {
    row.iter().copied().collect()
}

fn value_at(row: &BTreeMap<u16, I32F32>, column: u16) -> I32F32 {
    row.get(&column).copied().unwrap_or(I32F32::ZERO)
}

/// §6: for each column the weight that more than the minority of active stake does not exceed.
fn consensus(weights: &Matrix, active_stake: &[I32F32], kappa: I32F32) -> Vec<I32F32> {
    let voters: Vec<usize> = (0..weights.len()).filter(|&uid| active_stake[uid] > I32F32::ZERO).collect();
    let stake = normalized(&voters.iter().map(|&uid| active_stake[uid]).collect::<Vec<_>>());
    let rows: Vec<BTreeMap<u16, I32F32>> = voters.iter().map(|&uid| last_wins(&weights[uid])).collect();
    let total: I32F32 = stake.iter().sum();
    let minority = total.saturating_sub(kappa);
    (0..weights.len() as u16)
        .map(|column| {
            let votes: Vec<Vote> =
                rows.iter().zip(&stake).map(|(row, &stake)| Vote { stake, score: value_at(row, column) }).collect();
            weighted_median(&votes, minority, I32F32::ZERO, total)
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Vote {
    stake: I32F32,
    score: I32F32,
}

/// §6: the median as the chain searches it. The votes are those between the stakes `low` and `high` of the whole.
fn weighted_median(votes: &[Vote], minority: I32F32, low: I32F32, high: I32F32) -> I32F32 {
    if votes.len() < 2 {
        return votes.first().map_or(I32F32::ZERO, |vote| vote.score);
    }
    let pivot = votes[votes.len() / 2].score;
    let lower: Vec<Vote> = votes.iter().copied().filter(|vote| vote.score < pivot).collect();
    let upper: Vec<Vote> = votes.iter().copied().filter(|vote| vote.score > pivot).collect();
    let below = low.saturating_add(lower.iter().map(|vote| vote.stake).sum());
    let above = high.saturating_sub(upper.iter().map(|vote| vote.stake).sum());
    if minority < below && !lower.is_empty() {
        weighted_median(&lower, minority, low, below)
    } else if above <= minority && !upper.is_empty() {
        weighted_median(&upper, minority, above, high)
    } else {
        pivot
    }
}

/// §7.1: weights above consensus come down to it, or go where there is none.
fn clipped(weights: &Matrix, consensus: &[I32F32]) -> Matrix {
    let clip = |&(column, weight): &(u16, I32F32)| {
        let limit = consensus[usize::from(column)];
        if limit >= weight {
            Some((column, weight))
        } else if limit > I32F32::ZERO {
            Some((column, limit))
        } else {
            None
        }
    };
    weights.iter().map(|row| row.iter().filter_map(clip).collect()).collect()
}

/// §7.3: for each column the sum of its entries, each times its row's stake.
fn stake_weighted_columns(matrix: &Matrix, active_stake: &[I32F32]) -> Vec<I32F32> {
    let mut sums = vec![I32F32::ZERO; matrix.len()];
    for (row, stake) in matrix.iter().zip(active_stake) {
        for &(column, value) in row {
            let sum = &mut sums[usize::from(column)];
            *sum = sum.wrapping_add(stake.saturating_mul(value));
        }
    }
    sums
}

/// §8.1: between the weights and the clipped weights, by how much the penalty says.
fn weights_for_bonds(weights: &Matrix, clipped: &Matrix, bonds_penalty: u16) -> Matrix {
    let penalty = I32F32::from_proportion(bonds_penalty);
    if penalty == I32F32::ZERO {
        return weights.clone();
    }
    if penalty == I32F32::ONE {
        return clipped.clone();
    }
    let uids = weights.len() as u16;
    let between = |(weights, clipped): (&Row, &Row)| {
        let (weights, clipped) = (last_wins(weights), last_wins(clipped));
        let blend = |column| {
            let (weight, clipped) = (value_at(&weights, column), value_at(&clipped, column));
            let value = weight.saturating_add(penalty.saturating_mul(clipped.saturating_sub(weight)));
            (value > I32F32::ZERO).then_some((column, value))
        };
        (0..uids).filter_map(blend).collect()
    };
    weights.iter().zip(clipped).map(between).collect()
}

/// What §8.A and §8.B come to.
struct Bonding {
    /// Bonds before the epoch, under Yuma2 with columns normalised.
    old: Matrix,
    /// Purchases; Yuma2 only.
    delta: Option<Matrix>,
    /// What liquid alpha compares with.
    reference_consensus: Option<Vec<I32F32>>,
    /// The rate of every pair; liquid alpha only.
    alphas: Option<Dense<I32F32>>,
    /// Bonds after the epoch, as they go to storage.
    stored: Matrix,
    /// Bonds after the epoch, columns normalised.
    normalized: Matrix,
    /// What bonds earn before stake counts; Yuma3 only.
    total_bonds: Option<Vec<I32F32>>,
    /// Validators' shares.
    dividends: Vec<I32F32>,
}

/// §8.A: purchases are weight times stake, and bonds are shares of a miner.
fn yuma2(state: &State, weights_for_bonds: &Matrix, incentive: &[I32F32], active_stake: &[I32F32]) -> Bonding {
    let old = columns_normalized(&bonds_that_count(state, I32F32::from_u16));
    let bought = |(row, stake): (&Row, &I32F32)| -> Row {
        row.iter().map(|&(column, weight)| (column, weight.saturating_mul(*stake))).collect()
    };
    let delta = columns_normalized(&weights_for_bonds.iter().zip(active_stake).map(bought).collect());
    let normalized_bonds = columns_normalized(&moving_average(&delta, &old, moving_average_rate(&state.hyper)));
    let dividends = normalized(&row_earnings(&normalized_bonds, incentive));
    Bonding {
        old,
        delta: Some(delta),
        reference_consensus: None,
        alphas: None,
        stored: columns_upscaled(&normalized_bonds),
        normalized: normalized_bonds,
        total_bonds: None,
        dividends,
    }
}

/// §8.B: bonds follow the weights themselves, and stake counts at the end.
fn yuma3(
    state: &State,
    weights_for_bonds: &Matrix,
    consensus: &[I32F32],
    incentive: &[I32F32],
    active_stake: &[I32F32],
) -> Bonding {
    let old = bonds_that_count(state, I32F32::from_proportion);
    let (mut reference_consensus, mut alphas) = (None, None);
    let stored = if state.hyper.liquid_alpha && consensus.iter().any(|value| *value != I32F32::ZERO) {
        let reference = consensus_for_liquid_alpha(state, consensus);
        let rates = liquid_alphas(&state.hyper, weights_for_bonds, &old, &reference);
        let stored = liquid_average(weights_for_bonds, &old, &rates);
        reference_consensus = Some(reference);
        let mut dense = Dense::filled(rates.len(), rates.len(), I32F32::ZERO);
        for (to, row) in dense.rows_mut().zip(&rates) {
            to.copy_from_slice(row);
        }
        alphas = Some(dense);
        stored
    } else {
        moving_average(weights_for_bonds, &old, moving_average_rate(&state.hyper))
    };
    let normalized_bonds = columns_normalized(&stored);
    let total_bonds = row_earnings(&normalized_bonds, incentive);
    let earned: Vec<I32F32> = total_bonds
        .iter()
        .zip(active_stake)
        .map(|(total, stake)| total.checked_mul(*stake).unwrap_or(I32F32::ZERO))
        .collect();
    Bonding {
        old,
        delta: None,
        reference_consensus,
        alphas,
        stored,
        normalized: normalized_bonds,
        total_bonds: Some(total_bonds),
        dividends: normalized(&earned),
    }
}

/// §8.3: stored bonds, but on those miners alone who were there when the previous epoch ended.
fn bonds_that_count(state: &State, value: impl Fn(u16) -> I32F32) -> Matrix {
    let last_tempo = match state.last_mechanism_step_block {
        0 => state.block.saturating_sub(u64::from(state.hyper.tempo)),
        block => block.saturating_add(1),
    };
    let counts = |column: u16| last_tempo > registered(state, column);
    (0..state.n())
        .map(|row| {
            let kept = state.bonds.row(row).filter(|entry| counts(entry.0));
            kept.map(|(column, bond)| (column, value(bond))).collect()
        })
        .collect()
}

/// §8.2: what the moving average takes of the new.
fn moving_average_rate(hyper: &Hyperparameters) -> I32F32 {
    let kept = I64F64::from_u64(hyper.bonds_moving_average).safe_div(I64F64::from_u64(1_000_000));
    I32F32::ONE.saturating_sub(kept.to_i32f32())
}

/// §8.A.c: at one rate for all; the uids of either side, ascending, where anything is left.
fn moving_average(new: &Matrix, old: &Matrix, rate: I32F32) -> Matrix {
    let kept = I32F32::ONE.saturating_sub(rate);
    let uids = new.len();
    let mix = |(new, old): (&Row, &Row)| {
        let mut cells: BTreeMap<u16, I32F32> = BTreeMap::new();
        for (row, part) in [(new, rate), (old, kept)] {
            for &(column, value) in row.iter().filter(|entry| usize::from(entry.0) < uids) {
                let cell = cells.entry(column).or_default();
                *cell = cell.saturating_add(part.saturating_mul(value));
            }
        }
        cells.into_iter().filter(|cell| cell.1 > I32F32::ZERO).collect()
    };
    new.iter().zip(old).map(mix).collect()
}

/// The entries over a number of their column; as they are where it is zero, or the column is none of the subnet's.
fn columns_divided(matrix: &Matrix, divisors: &[I32F32]) -> Matrix {
    let divided = |&(column, value): &(u16, I32F32)| match divisors.get(usize::from(column)) {
        Some(divisor) if *divisor != I32F32::ZERO => (column, value.safe_div(*divisor)),
        _ => (column, value),
    };
    matrix.iter().map(|row| row.iter().map(divided).collect()).collect()
}

fn columns_normalized(matrix: &Matrix) -> Matrix {
    let mut sums = vec![I32F32::ZERO; matrix.len()];
    for &(column, value) in matrix.iter().flatten() {
        if let Some(sum) = sums.get_mut(usize::from(column)) {
            *sum = sum.wrapping_add(value);
        }
    }
    columns_divided(matrix, &sums)
}

/// §8.A.f: so that each column's largest is exactly 1.
fn columns_upscaled(matrix: &Matrix) -> Matrix {
    let mut largest = vec![I32F32::ZERO; matrix.len()];
    for &(column, value) in matrix.iter().flatten() {
        let largest = &mut largest[usize::from(column)];
        *largest = value.max(*largest);
    }
    columns_divided(matrix, &largest)
}

/// §8.A.e, §8.B.d: for each row the sum of its bonds, each times what the miner earns.
fn row_earnings(bonds: &Matrix, incentive: &[I32F32]) -> Vec<I32F32> {
    let earnings = |row: &Row| {
        row.iter().map(|&(column, bond)| incentive[usize::from(column)].saturating_mul(bond)).sum::<I32F32>()
    };
    bonds.iter().map(earnings).collect()
}

/// §8.4: this epoch's consensus or the previous one's.
fn consensus_for_liquid_alpha(state: &State, consensus: &[I32F32]) -> Vec<I32F32> {
    let previous = match state.hyper.liquid_alpha_consensus_mode {
        ConsensusMode::Current => false,
        ConsensusMode::Previous => true,
        ConsensusMode::Auto => state.hyper.bonds_penalty == u16::MAX,
    };
    if !previous || state.stored_consensus.is_empty() {
        return consensus.to_vec();
    }
    let stored = |uid| state.stored_consensus.get(uid).copied().unwrap_or(0);
    (0..state.n()).map(|uid| I32F32::from_proportion(stored(uid))).collect()
}

/// §8.C: a place in a row that only moves forward, as if uids ascended. In rows where they do not, it misses what lies behind a
/// larger uid.
struct Cursor<'a> {
    rest: &'a [(u16, I32F32)],
}

impl Cursor<'_> {
    /// The value for a uid; asked for in ascending order.
    fn at(&mut self, column: u16) -> I32F32 {
        while let Some((_, rest)) = self.rest.split_first().filter(|(entry, _)| entry.0 < column) {
            self.rest = rest;
        }
        self.rest.first().filter(|entry| entry.0 == column).map_or(I32F32::ZERO, |entry| entry.1)
    }
}

/// §8.C: the rate of every pair.
fn liquid_alphas(
    hyper: &Hyperparameters,
    weights_for_bonds: &Matrix,
    old: &Matrix,
    reference: &[I32F32],
) -> Vec<Vec<I32F32>> {
    let slope = I32F32::from_i16(hyper.alpha_sigmoid_steepness).saturating_div(I32F32::from_i16(-100));
    let (low, high) = (I32F32::from_proportion(hyper.alpha_low), I32F32::from_proportion(hyper.alpha_high));
    let rate = |weight: I32F32, bond: I32F32, reference: I32F32| {
        let difference = if weight >= bond { weight.saturating_sub(reference) } else { bond.saturating_sub(weight) };
        let difference = difference.clamp(I32F32::ZERO, I32F32::ONE);
        let power = slope.saturating_mul(difference.saturating_sub(I32F32::HALF)).exp_safe();
        let sigmoid = I32F32::ONE.safe_div(I32F32::ONE.saturating_add(power));
        low.saturating_add(sigmoid.saturating_mul(high.saturating_sub(low))).max(low).min(high)
    };
    let rates = |(weights, bonds): (&Row, &Row)| {
        let (mut weights, mut bonds) = (Cursor { rest: weights }, Cursor { rest: bonds });
        let pairs = (0_u16..).zip(reference);
        pairs.map(|(column, &reference)| rate(weights.at(column), bonds.at(column), reference)).collect()
    };
    weights_for_bonds.iter().zip(old).map(rates).collect()
}

/// §8.D: at a rate for each pair, and only where this epoch's weights have an entry, in their order.
fn liquid_average(weights_for_bonds: &Matrix, old: &Matrix, rates: &[Vec<I32F32>]) -> Matrix {
    let mix = |((weights, old), rates): ((&Row, &Row), &Vec<I32F32>)| {
        let old = last_wins(old);
        let moved = |&(column, weight): &(u16, I32F32)| {
            let rate = rates[usize::from(column)];
            let decayed = I32F32::ONE.saturating_sub(rate).saturating_mul(value_at(&old, column));
            let bought = rate.saturating_mul(weight).max(I32F32::ZERO);
            let value = decayed.saturating_add(bought).min(I32F32::ONE);
            (value > I32F32::ZERO).then_some((column, value))
        };
        weights.iter().filter_map(moved).collect()
    };
    weights_for_bonds.iter().zip(old).zip(rates).map(mix).collect()
}

fn compressed<T: Copy>(matrix: &Matrix, value: impl Fn(I32F32) -> T) -> Csr<T> {
    let mut rows = Csr::with_capacity(matrix.len(), 0);
    for row in matrix {
        for &(column, bits) in row {
            rows.push(column, value(bits));
        }
        rows.end_row();
    }
    rows
}
