//! What the majority holds, and what is left of each weight under it (YUMA §6 and §7).

use crate::fixed::I32F32;
use crate::matrix::Csr;

/// One validator's say on one miner.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vote {
    score: I32F32,
    stake: I32F32,
    voter: u16,
}

impl Vote {
    /// A vote where nobody votes twice.
    pub(super) fn new(score: I32F32, stake: I32F32) -> Self {
        Self { score, stake, voter: 0 }
    }

    /// What stands behind it.
    pub(super) fn stake(&self) -> I32F32 {
        self.stake
    }
}

/// The consensus weight of every column: the stake-weighted median of what validators with active stake give it.
///
/// The largest weight that more than `kappa` of the active stake supports, in 0 ..= 1: with `u = active_stake / SUM active_stake`,
/// `C_j = min { v : SUM { u_i : w_ij <= v } > SUM u - kappa }`, where a missing weight is 0.
pub fn consensus(weights: &Csr<I32F32>, active_stake: &[I32F32], kappa: I32F32) -> Vec<I32F32> {
    let mut stake = active_stake.to_vec();
    I32F32::normalize(&mut stake);
    let total: I32F32 = stake.iter().sum();
    let minority = total.saturating_sub(kappa);
    let voters = active_stake.iter().filter(|&&stake| stake > I32F32::ZERO).count();
    let (starts, mut votes) = votes_by_column(weights, active_stake, &stake);

    let mut consensus = Vec::with_capacity(active_stake.len());
    for bounds in starts.windows(2) {
        let column = &mut votes[bounds[0] as usize..bounds[1] as usize];
        let positive = keep_last_positive(column);
        let column = &mut column[..positive];
        let supported: I32F32 = column.iter().map(|vote| vote.stake).sum();
        let zeros = (positive < voters).then(|| total.saturating_sub(supported));
        consensus.push(weighted_median(column, zeros, minority));
    }
    consensus
}

/// Gathers the votes of those with active stake by column, voters ascending: where each column starts, and the votes.
fn votes_by_column(weights: &Csr<I32F32>, active_stake: &[I32F32], stake: &[I32F32]) -> (Vec<u32>, Vec<Vote>) {
    let voting = |uid: &usize| active_stake[*uid] > I32F32::ZERO;
    // Counted two places up, so that filling moves each start to where the next column's belongs.
    let mut starts = vec![0_u32; active_stake.len() + 2];
    for uid in (0..active_stake.len()).filter(voting) {
        for (column, _) in weights.row(uid) {
            if let Some(count) = starts.get_mut(usize::from(column) + 2) {
                *count += 1;
            }
        }
    }
    for place in 1..starts.len() {
        starts[place] += starts[place - 1];
    }
    let mut votes = vec![Vote::default(); starts.last().map_or(0, |&count| count as usize)];
    for uid in (0..active_stake.len()).filter(voting) {
        for (column, score) in weights.row(uid) {
            if usize::from(column) < active_stake.len() {
                let place = &mut starts[usize::from(column) + 1];
                votes[*place as usize] = Vote { score, stake: stake[uid], voter: uid as u16 };
                *place += 1;
            }
        }
    }
    starts.pop();
    (starts, votes)
}

/// Moves to the front the votes above zero, of a voter's repeated votes the last, and returns how many they are.
fn keep_last_positive(votes: &mut [Vote]) -> usize {
    let mut kept = 0;
    for place in 0..votes.len() {
        let vote = votes[place];
        let repeated = votes.get(place + 1).is_some_and(|next| next.voter == vote.voter);
        if vote.score > I32F32::ZERO && !repeated {
            votes[kept] = vote;
            kept += 1;
        }
    }
    kept
}

/// The smallest score `v` with `SUM { stake : score <= v } > minority`; the largest score where there is none such.
///
/// `votes` are those above zero, `zeros` is the stake of those at zero, if any. Stake equal to the minority does not suffice. Works
/// by halving: each round looks at half of the votes that are left.
pub fn weighted_median(mut votes: &mut [Vote], zeros: Option<I32F32>, minority: I32F32) -> I32F32 {
    if zeros.is_some_and(|stake| stake > minority) {
        return I32F32::ZERO;
    }
    let mut below = zeros.unwrap_or(I32F32::ZERO);
    while votes.len() > 1 {
        let middle = (votes.len() - 1) / 2;
        votes.select_nth_unstable_by_key(middle, |vote| vote.score);
        let (lower, upper) = votes.split_at_mut(middle + 1);
        let reached = below.wrapping_add(lower.iter().map(|vote| vote.stake).sum());
        if reached > minority {
            votes = lower;
        } else {
            below = reached;
            votes = upper;
        }
    }
    votes.first().map_or(I32F32::ZERO, |vote| vote.score)
}

/// Cuts every weight to its column's consensus: `min(w_ij, C_j)`. What would be cut to zero is dropped; a zero that was given stays.
pub fn clip(weights: &Csr<I32F32>, consensus: &[I32F32]) -> Csr<I32F32> {
    let mut clipped = Csr::with_capacity(weights.rows(), weights.len());
    for row in 0..weights.rows() {
        for (column, weight) in weights.row(row) {
            let Some(&limit) = consensus.get(usize::from(column)) else { continue };
            if weight <= limit {
                clipped.push(column, weight);
            } else if limit > I32F32::ZERO {
                clipped.push(column, limit);
            }
        }
        clipped.end_row();
    }
    clipped
}

/// The sum of every row; of clipped weights it is validator trust, `T_i = SUM_j c_ij`, in 0 ..= 1.
pub fn row_sums(matrix: &Csr<I32F32>) -> Vec<I32F32> {
    (0..matrix.rows()).map(|row| matrix.row_values(row).iter().sum()).collect()
}

/// What stake gives every column: `r_j = SUM_i s_i w_ij`, each product floored. Of clipped weights it is rank.
pub fn rank(weights: &Csr<I32F32>, active_stake: &[I32F32]) -> Vec<I32F32> {
    let mut rank = vec![I32F32::ZERO; active_stake.len()];
    for (row, &stake) in active_stake.iter().enumerate() {
        if stake != I32F32::ZERO {
            for (column, weight) in weights.row(row) {
                if let Some(sum) = rank.get_mut(usize::from(column)) {
                    *sum = sum.wrapping_add(stake.saturating_mul(weight));
                }
            }
        }
    }
    rank
}

/// Miner trust as tools still show it, though the chain no longer does: rank over what it would be without clipping, in 0 ..= 1.
pub fn trust(rank: &[I32F32], prerank: &[I32F32]) -> Vec<I32F32> {
    rank.iter().zip(prerank).map(|(rank, &prerank)| rank.safe_div(prerank)).collect()
}
