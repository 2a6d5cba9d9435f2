//! What the majority holds, and what is left of each weight under it (YUMA §6 and §7).

use crate::fixed::I32F32;
use crate::matrix::Csr;

/// One validator's say on one miner, in one word: a score of 48 bits above the voter's uid, so that votes order by score.
///
/// No share takes more: a row that has one is divided by its sum, or not at all, and weights are below 2^16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vote(u64);

impl Vote {
    const VOTER_BITS: u32 = 16;

    /// A vote with a score in 0 ..= 65535.
    #[inline]
    pub fn new(score: I32F32, voter: u16) -> Self {
        Self((score.to_bits() as u64) << Self::VOTER_BITS | u64::from(voter))
    }

    #[inline]
    fn score(self) -> I32F32 {
        I32F32::from_bits((self.0 >> Self::VOTER_BITS) as i64)
    }

    /// What stands behind it.
    #[inline]
    pub(super) fn stake(self, stake: &[I32F32]) -> I32F32 {
        stake[usize::from(self.0 as u16)]
    }
}

/// All votes on all miners, one miner's beside each other.
#[derive(Clone, Debug, Default)]
pub struct Votes {
    /// Where each column starts, and one past the last.
    starts: Vec<u32>,
    votes: Vec<Vote>,
    median: Median,
}

/// Stakes as they vote.
struct Electorate {
    stake: Vec<I32F32>,
    total: I32F32,
    /// What has to be exceeded.
    minority: I32F32,
}

impl Electorate {
    fn new(active_stake: &[I32F32], kappa: I32F32) -> Self {
        let mut stake = active_stake.to_vec();
        I32F32::normalize(&mut stake);
        let total: I32F32 = stake.iter().sum();
        Self { stake, total, minority: total.saturating_sub(kappa) }
    }
}

/// Where a miner's consensus can be moved to by one validator who weighs him so or so, all others staying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least that it can be.
    pub low: I32F32,
    /// The most that it can be.
    pub high: I32F32,
}

impl Range {
    /// The consensus where the validator gives this weight: the nearest in range.
    pub fn at(self, weight: I32F32) -> I32F32 {
        weight.min(self.high).max(self.low)
    }
}

impl Votes {
    /// The consensus weight of every column: the stake-weighted median of what validators with active stake give it.
    ///
    /// The largest weight that more than `kappa` of the active stake supports, in 0 ..= 1: with `u = active_stake / SUM active_stake`,
    /// `C_j = min { v : SUM { u_i : w_ij <= v } > SUM u - kappa }`, where a missing weight is 0. Weights lie in 0 ..= 65535.
    pub fn consensus(&mut self, weights: &Csr<I32F32>, active_stake: &[I32F32], kappa: I32F32) -> Vec<I32F32> {
        let Electorate { stake, total, minority } = Electorate::new(active_stake, kappa);
        let voters = self.gather(weights, active_stake);
        let mut consensus = Vec::with_capacity(active_stake.len());
        for bounds in self.starts.windows(2) {
            let column = keep_last_positive(&mut self.votes[bounds[0] as usize..bounds[1] as usize]);
            let supported: I32F32 = column.iter().map(|vote| vote.stake(&stake)).sum();
            let zeros = (column.len() < voters).then(|| total.saturating_sub(supported));
            consensus.push(self.median.weighted(column, &stake, zeros, minority));
        }
        consensus
    }

    /// Where every column's consensus can be moved to by one validator's weights; those it has in `weights` do not count.
    ///
    /// With `A(v) = SUM { u_i : w_ij <= v }` of the others and the validator's own vote u, consensus cannot be above
    /// `min { v : A(v) > minority }`, which the others reach alone, nor below `min { v : A(v) + u > minority }`; in between it is
    /// what the validator says.
    pub fn ranges(
        &mut self,
        weights: &Csr<I32F32>,
        active_stake: &[I32F32],
        kappa: I32F32,
        validator: usize,
    ) -> Vec<Range> {
        let Electorate { stake, total, minority } = Electorate::new(active_stake, kappa);
        let mut others = active_stake.to_vec();
        let counts = std::mem::take(&mut others[validator]) > I32F32::ZERO;
        let own = if counts { stake[validator] } else { I32F32::ZERO };
        let voters = self.gather(weights, &others);
        let mut ranges = Vec::with_capacity(active_stake.len());
        for bounds in self.starts.windows(2) {
            let column = keep_last_positive(&mut self.votes[bounds[0] as usize..bounds[1] as usize]);
            column.sort_unstable();
            let supported: I32F32 = column.iter().map(|vote| vote.stake(&stake)).sum();
            let zeros =
                (column.len() < voters).then(|| (I32F32::ZERO, total.saturating_sub(own).saturating_sub(supported)));
            let mut reached = I32F32::ZERO;
            let (mut low, mut high) = ((counts && own > minority).then_some(I32F32::ZERO), None);
            for (score, stake) in zeros.into_iter().chain(column.iter().map(|vote| (vote.score(), vote.stake(&stake))))
            {
                reached = reached.wrapping_add(stake);
                low = low.or((reached.wrapping_add(own) > minority).then_some(score));
                high = high.or((reached > minority).then_some(score));
            }
            // Where no weight has enough behind it, the largest is consensus.
            let largest = column.last().map_or(I32F32::ZERO, |vote| vote.score());
            let low = low.unwrap_or(largest);
            ranges.push(Range { low, high: if counts { high.unwrap_or(I32F32::MAX) } else { low } });
        }
        ranges
    }

    /// Gathers the votes of those with active stake by column, voters ascending, and returns how many may vote.
    fn gather(&mut self, weights: &Csr<I32F32>, active_stake: &[I32F32]) -> usize {
        let Self { starts, votes, .. } = self;
        let voting = |uid: &usize| active_stake[*uid] > I32F32::ZERO;
        // Counted two places up, so that filling moves each start to where the next column's belongs.
        starts.clear();
        starts.resize(active_stake.len() + 2, 0);
        for uid in (0..active_stake.len()).filter(voting) {
            for &column in weights.row_columns(uid) {
                if let Some(count) = starts.get_mut(usize::from(column) + 2) {
                    *count += 1;
                }
            }
        }
        for place in 1..starts.len() {
            starts[place] += starts[place - 1];
        }
        // What is left from before is overwritten.
        votes.resize(starts.last().map_or(0, |&count| count as usize), Vote::default());
        for uid in (0..active_stake.len()).filter(voting) {
            for (column, score) in weights.row(uid) {
                if usize::from(column) < active_stake.len() {
                    let place = &mut starts[usize::from(column) + 1];
                    votes[*place as usize] = Vote::new(score, uid as u16);
                    *place += 1;
                }
            }
        }
        starts.pop();
        (0..active_stake.len()).filter(voting).count()
    }
}

/// The votes above zero, of a voter's repeated votes the last.
fn keep_last_positive(votes: &mut [Vote]) -> &mut [Vote] {
    let mut kept = 0;
    for place in 0..votes.len() {
        let vote = votes[place];
        let repeated = votes.get(place + 1).is_some_and(|next| next.0 as u16 == vote.0 as u16);
        votes[kept] = vote;
        kept += usize::from(vote.score() > I32F32::ZERO && !repeated);
    }
    &mut votes[..kept]
}

/// Finds weighted medians, one after the other in the same memory.
#[derive(Clone, Debug, Default)]
pub struct Median {
    upper: Vec<Vote>,
}

impl Median {
    /// The smallest score `v` with `SUM { stake : score <= v } > minority`; the largest score where there is none such.
    ///
    /// `votes` are those above zero, `zeros` is the stake of those at zero, if any. Stake equal to the minority does not suffice.
    /// Every round parts the votes that are left at the score of one of them, without branching on how they compare.
    pub fn weighted(
        &mut self,
        mut votes: &mut [Vote],
        stake: &[I32F32],
        zeros: Option<I32F32>,
        minority: I32F32,
    ) -> I32F32 {
        if zeros.is_some_and(|stake| stake > minority) {
            return I32F32::ZERO;
        }
        if self.upper.len() < votes.len() {
            self.upper.resize(votes.len(), Vote::default());
        }
        let mut below = zeros.unwrap_or(I32F32::ZERO);
        for round in 0.. {
            if votes.len() < 2 {
                break;
            }
            let pivot = pivot(votes, round);
            let parts = self.part(votes, stake, pivot);
            let up_to_lower = below.wrapping_add(parts.stake_lower);
            let up_to_pivot = up_to_lower.wrapping_add(parts.stake_equal);
            if parts.lower > 0 && up_to_lower > minority {
                votes = &mut votes[..parts.lower];
            } else if parts.upper == 0 || up_to_pivot > minority {
                return pivot;
            } else {
                below = up_to_pivot;
                votes = &mut votes[..parts.upper];
                votes.copy_from_slice(&self.upper[..parts.upper]);
            }
        }
        votes.first().map_or(I32F32::ZERO, |vote| vote.score())
    }

    /// Moves the votes below the pivot to the front of `votes` and those above it to the front of `self.upper`.
    fn part(&mut self, votes: &mut [Vote], stake: &[I32F32], pivot: I32F32) -> Parts {
        let upper = &mut self.upper[..votes.len()];
        let mut parts = Parts::default();
        for place in 0..votes.len() {
            let vote = votes[place];
            votes[parts.lower] = vote;
            upper[parts.upper] = vote;
            let (score, stake) = (vote.score(), vote.stake(stake));
            parts.lower += usize::from(score < pivot);
            parts.upper += usize::from(score > pivot);
            let counted = |counts: bool| if counts { stake } else { I32F32::ZERO };
            parts.stake_lower = parts.stake_lower.wrapping_add(counted(score < pivot));
            parts.stake_equal = parts.stake_equal.wrapping_add(counted(score == pivot));
        }
        parts
    }
}

/// How many votes lie below and above a pivot, and the stake below and at it.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    lower: usize,
    upper: usize,
    stake_lower: I32F32,
    stake_equal: I32F32,
}

/// A score to part the votes at: the middle one of three. Whoever arranged his votes so that it parts nothing is found out after some
/// rounds, and then it is the middle one of all, so that each round halves what is left.
fn pivot(votes: &mut [Vote], round: u32) -> I32F32 {
    const GUESSES: u32 = 16;
    let (last, middle) = (votes.len() - 1, votes.len() / 2);
    if round >= GUESSES {
        return votes.select_nth_unstable(middle).1.score();
    }
    let (a, b, c) = (votes[0], votes[middle], votes[last]);
    a.max(b).min(a.min(b).max(c)).score()
}

/// What consensus leaves of every validator's weights, and what stake gives every miner through it.
///
/// With clipped weights `c_ij = min(w_ij, C_j)`: validator trust `T_i = SUM_j c_ij` in 0 ..= 1, and rank `r_j = SUM_i s_i c_ij`, each
/// product floored.
pub fn support(weights: &Csr<I32F32>, consensus: &[I32F32], active_stake: &[I32F32]) -> (Vec<I32F32>, Vec<I32F32>) {
    let mut rank = vec![I32F32::ZERO; active_stake.len()];
    let mut trust = Vec::with_capacity(active_stake.len());
    for (row, &stake) in active_stake.iter().enumerate() {
        let mut left = I32F32::ZERO;
        weights.row(row).for_each(|(column, weight)| {
            if let (Some(&limit), Some(rank)) = (consensus.get(usize::from(column)), rank.get_mut(usize::from(column)))
            {
                let clipped = weight.min(limit);
                left = left.wrapping_add(clipped);
                *rank = rank.wrapping_add(stake.saturating_mul(clipped));
            }
        });
        trust.push(left);
    }
    (trust, rank)
}

/// Miner trust as tools still show it, though the chain no longer does: rank over what it would be without clipping, in 0 ..= 1.
pub fn trust(rank: &[I32F32], prerank: &[I32F32]) -> Vec<I32F32> {
    rank.iter().zip(prerank).map(|(rank, &prerank)| rank.safe_div(prerank)).collect()
}
