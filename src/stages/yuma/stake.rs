//! Who has how much say: stake, permits and activity (YUMA §3 and §4).

use crate::fixed::{I32F32, I64F64, U96F32};

/// What each uid holds in all: `alpha + tao * tao_weight / (2^64 - 1)`, in rao.
pub fn total(stake: &[u64], tao_stake: Option<&[u64]>, tao_weight: u64) -> Vec<I64F64> {
    let weight = I64F64::from(U96F32::from_u64(tao_weight).safe_div(U96F32::from_u64(u64::MAX)));
    let mut total: Vec<I64F64> = stake.iter().copied().map(I64F64::from_u64).collect();
    for (total, &tao) in total.iter_mut().zip(tao_stake.unwrap_or_default()) {
        *total = total.saturating_add(I64F64::from_u64(tao).saturating_mul(weight));
    }
    total
}

/// Sets to zero what lies below the threshold (rao), except for the subnet's owner.
pub fn filter(total: &mut [I64F64], threshold: u64, owner: Option<u16>) {
    for (uid, stake) in total.iter_mut().enumerate() {
        if stake.to_u64() < threshold && owner.map(usize::from) != Some(uid) {
            *stake = I64F64::ZERO;
        }
    }
}

/// Shares of the whole: `S_i / SUM S`, each floored to 32 fraction bits. All zeros where there is no stake.
pub fn normalized(total: &[I64F64]) -> Vec<I32F32> {
    let sum: I64F64 = total.iter().copied().sum();
    let share = |stake: &I64F64| if sum == I64F64::ZERO { *stake } else { stake.safe_div(sum) };
    total.iter().map(|stake| share(stake).to_i32f32()).collect()
}

/// Marks the `k` largest stakes that are not zero; of equals at the boundary the higher uids.
pub fn top_k(stake: &[I32F32], k: usize) -> Vec<bool> {
    let mut marked: Vec<bool> = stake.iter().map(|&stake| stake != I32F32::ZERO).collect();
    let surplus = stake.len().saturating_sub(k);
    if surplus > 0 {
        // The surplus comes first, by stake and then by uid. Zeros are part of it, and above shares that overflowed below zero.
        let mut order: Vec<(I32F32, usize)> = stake.iter().copied().zip(0..).collect();
        order.select_nth_unstable(surplus - 1);
        for &(_, uid) in &order[..surplus] {
            marked[uid] = false;
        }
    }
    marked
}

/// Who has set weights recently: `last_update + cutoff >= block`. Values in blocks.
pub fn active(last_update: &[u64], cutoff: u64, block: u64) -> Vec<bool> {
    last_update.iter().map(|update| update.saturating_add(cutoff) >= block).collect()
}

/// Shares among those who are active and hold a permit: zero for the others, then `S_i / SUM S`.
pub fn active_stake(stake: &[I32F32], active: &[bool], permit: &[bool]) -> Vec<I32F32> {
    let counts = active.iter().zip(permit).map(|(active, permit)| *active && *permit);
    let mut shares: Vec<I32F32> =
        stake.iter().zip(counts).map(|(&stake, counts)| if counts { stake } else { I32F32::ZERO }).collect();
    I32F32::normalize(&mut shares);
    shares
}
