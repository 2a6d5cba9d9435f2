//! The Null epoch: no consensus. One validator's weights pay the miners, stake pays the validators (YUMA §14).
//!
//! **Unverified**: no chain source was available. What the chain's published tests state is kept and tested here:
//!
//! * validators share `floor(pot / 2)` by stake, whether or not they are active or hold a permit; miners get the rest; both sum
//!   exactly;
//! * miners are paid by the raw weights of one row: that of the permit holder with the largest stake in rao, of equals the lowest
//!   uid;
//! * weights older than a miner's registration do not count; where nothing counts, miners' part is shared equally by **all** uids;
//! * without stake the whole pot is shared equally as miners' part, and validators get nothing;
//! * an amount is its exact share, floored, or one more: largest remainders first;
//! * the next permit is one, of the largest stake; the owner is given none;
//! * bonds stay as they are, and an emission is the sum of its two parts.
//!
//! What they leave open is decided as follows: stake is the floored total in rao, without those below the stake threshold; equal
//! remainders go to lower uids; a permit counts only with stake; the row is masked as under Yuma (own weight dropped except the
//! owner's, commits older than a registration); incentive and dividends are the shares in 65535ths, truncated; consensus and
//! validator trust are 0; without stake there is no next permit.

use std::cmp::Reverse;

use super::epoch::{proportions, standing};
use super::output::Epoch;
use super::stake;
use super::state::State;
use super::weights::{self, Admission};
use crate::fixed::I32F32;
use crate::matrix::Matrix;

/// The Null epoch of a state, whatever its parameters say; it has no intermediate results.
pub fn epoch(state: &State) -> Epoch {
    let validators = state.rao_emission / 2;
    epoch_of_parts(state, state.rao_emission - validators, validators)
}

/// The Null epoch that gives miners and validators these parts, in rao. Where there is no stake, miners get both.
pub(super) fn epoch_of_parts(state: &State, miners: u64, validators: u64) -> Epoch {
    let (n, hyper) = (state.n(), &state.hyper);
    let standing = standing(state);
    let mut total = stake::total(&state.stake, state.tao_stake.as_deref(), hyper.tao_weight);
    stake::filter(&mut total, hyper.stake_threshold, hyper.owner_uid);
    let stakes: Vec<u64> = total.iter().map(|total| total.to_u64()).collect();

    // The elected row, where any of it counts; else everybody alike.
    let only = |uid: Option<usize>| -> Vec<bool> { (0..n).map(|other| uid == Some(other)).collect() };
    let elected = largest(&stakes, |uid| state.validator_permit[uid]);
    let permit = &only(elected);
    let admitted = weights::admitted(&state.weights, Admission { permit, ..standing.admission(state) });
    let mut merits = vec![0_u64; n];
    for (miner, weight) in elected.into_iter().flat_map(|uid| admitted.row(uid)) {
        merits[usize::from(miner)] += u64::from(weight);
    }
    if merits.iter().all(|&merit| merit == 0) {
        merits.fill(1);
    }

    let staked = stakes.iter().any(|&stake| stake > 0);
    let miners = if staked { miners } else { miners.saturating_add(validators) };
    let server_emission = apportion(miners, &merits);
    let validator_emission = apportion(validators, &stakes);
    let mut incentive: Vec<I32F32> = merits.iter().map(|&merit| I32F32::from_bits((merit as i64) << 32)).collect();
    I32F32::normalize(&mut incentive);
    Epoch {
        stake_weight: proportions(&standing.stake_norm),
        consensus: vec![0; n],
        incentive: proportions(&incentive),
        dividends: proportions(&standing.stake_norm),
        validator_trust: vec![0; n],
        new_validator_permit: only(largest(&stakes, |_| true)),
        emission: server_emission.iter().zip(&validator_emission).map(|(s, v)| s.saturating_add(*v)).collect(),
        server_emission,
        validator_emission,
        bonds: state.bonds.clone(),
        active: standing.active.clone(),
        raw: None,
    }
}

/// The uid with the largest stake above zero among those that may stand; of equals the lowest.
fn largest(stakes: &[u64], may_stand: impl Fn(usize) -> bool) -> Option<usize> {
    (0..stakes.len()).filter(|&uid| stakes[uid] > 0 && may_stand(uid)).max_by_key(|&uid| (stakes[uid], Reverse(uid)))
}

/// Shares out an amount in whole units by largest remainders: `floor(amount * share / SUM share)` each, and what is left one by one
/// to the largest remainders, of equals to the lowest place. Sums to `amount` exactly; all zeros where every share is zero.
pub fn apportion(amount: u64, shares: &[u64]) -> Vec<u64> {
    // At most 2^16 shares below 2^64, so that neither sum nor products leave 128 bits.
    let sum: u128 = shares.iter().copied().map(u128::from).sum();
    if sum == 0 {
        return vec![0; shares.len()];
    }
    let exact = |share: u64| u128::from(amount) * u128::from(share);
    let mut parts: Vec<u64> = shares.iter().map(|&share| (exact(share) / sum) as u64).collect();
    let left = amount - parts.iter().sum::<u64>();
    let mut places: Vec<usize> = (0..shares.len()).collect();
    places.sort_by_key(|&place| (Reverse(exact(shares[place]) % sum), place));
    for &place in places.iter().take(left as usize) {
        parts[place] += 1;
    }
    parts
}
