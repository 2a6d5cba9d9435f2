//! SDK 11: `_conform`, which `SetWeights` calls.
//!
//! After `bittensor/intents/weights.py` of 11.3.0.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

use super::python::{Version, divide, max, sum};
use super::{SdkError, Sent, Subnet, quantise};

/// The largest u16.
const U16_MAX: f64 = 65_535.0;

/// What `SetWeights` makes of two lists: none above the limit, u16 in the lists' order, without zeros.
///
/// # Errors
/// What the SDK raises; nothing looks at weights that `length * limit <= 1` makes all alike.
pub fn conform(uids: &[i64], weights: &[f64], subnet: &Subnet, version: Version) -> Result<Sent, SdkError> {
    each_once(uids)?;
    let lone_self = subnet.own_uid.is_some_and(|own| *uids == [own]);
    let clipped = if !lone_self && subnet.max_weight_limit < 1.0 {
        clip_to_max_weight(weights, subnet.max_weight_limit, version)?
    } else {
        weights.to_vec()
    };
    let sent = normalize(uids, &clipped)?;
    enough(sent, lone_self, subnet)
}

/// The same with `raw_u16`, which a subnet of Null consensus takes: integers stay as they are, without zeros.
///
/// # Errors
/// As the SDK: for weights that are no u16, for none, for one above the limit, for too few.
pub fn raw_u16(uids: &[i64], weights: &[f64], subnet: &Subnet) -> Result<Sent, SdkError> {
    each_once(uids)?;
    if uids.len() != weights.len() || !all_u16(uids) {
        return Err(SdkError::RawPairs);
    }
    if weights.iter().any(|weight| !(0.0..=U16_MAX).contains(weight) || weight.trunc() != *weight) {
        return Err(SdkError::RawNotInteger);
    }
    let mut sent = Sent::default();
    for (&uid, &weight) in uids.iter().zip(weights).filter(|(_, weight)| **weight > 0.0) {
        sent.uids.push(uid);
        sent.values.push(weight as u16);
    }
    if sent.uids.is_empty() {
        return Err(SdkError::AllZero);
    }
    let lone_self = subnet.own_uid.is_some_and(|own| *uids == [own]);
    if !lone_self && !sent.is_within(subnet.max_weight_limit) {
        return Err(SdkError::RawExceedsLimit);
    }
    enough(sent, lone_self, subnet)
}

/// A mapping's uids and weights: the last weight of each uid, by ascending uid.
pub fn from_mapping(uids: &[i64], weights: &[f64]) -> (Vec<i64>, Vec<f64>) {
    let mapping: BTreeMap<i64, f64> = uids.iter().copied().zip(weights.iter().copied()).collect();
    mapping.into_iter().unzip()
}

impl Sent {
    /// Whether the largest is within `limit`, a share in 65535ths of the sum: in integers, as the chain counts.
    pub fn is_within(&self, limit: f64) -> bool {
        // A limit is a u16 / 65535, which this gives back.
        let limit = (limit * U16_MAX).round() as u64;
        let largest = self.values.iter().copied().max().unwrap_or(0);
        u64::from(largest) * 65_535 <= limit * self.values.iter().copied().map(u64::from).sum::<u64>()
    }
}

/// `clip_to_max_weight`: shares of the row, none above `limit`.
fn clip_to_max_weight(weights: &[f64], limit: f64, version: Version) -> Result<Vec<f64>, SdkError> {
    const EPSILON: f64 = 1e-7;
    let (length, total) = (weights.len(), sum(weights, version));
    if length == 0 || total <= 0.0 {
        return Err(SdkError::AllZero);
    }
    if length as f64 * limit <= 1.0 {
        return Ok(vec![1.0 / length as f64; length]);
    }
    let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    let mut estimation = shares.clone();
    // Beside NaN there are only zeros, so nothing is below anything, and the order stays: as in Python.
    estimation.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    if estimation.last().is_some_and(|largest| *largest <= limit) {
        return Ok(shares);
    }
    let mut reached = 0.0;
    let cumulative: Vec<f64> = estimation
        .iter()
        .map(|share| {
            reached += share;
            reached
        })
        .collect();
    let mut count = 0;
    for (place, &share) in estimation.iter().enumerate() {
        let above = (length - place - 1) as f64;
        count += usize::from(divide(share, above * share + cumulative[place] + EPSILON)? < limit);
    }
    // Index -1 is the last.
    let reached = cumulative[count.checked_sub(1).unwrap_or(length - 1)];
    let scale = divide(limit * reached - EPSILON, 1.0 - limit * (length - count) as f64)?;
    let cutoff = scale * total;
    let clipped: Vec<f64> = weights.iter().map(|&weight| if cutoff < weight { cutoff } else { weight }).collect();
    let clipped_total = sum(&clipped, version);
    clipped.into_iter().map(|weight| divide(weight, clipped_total)).collect()
}

/// `normalize`: u16 with the largest 65535, without zeros.
fn normalize(uids: &[i64], weights: &[f64]) -> Result<Sent, SdkError> {
    if uids.len() != weights.len() {
        return Err(SdkError::Length { uids: uids.len(), weights: weights.len() });
    }
    if weights.iter().any(|weight| !weight.is_finite() || *weight < 0.0) {
        return Err(SdkError::NotFiniteOrNegative);
    }
    if !all_u16(uids) {
        return Err(SdkError::UidOutOfU16);
    }
    match max(weights) {
        Some(largest) if largest != 0.0 => quantise(uids, weights, largest),
        _ => Ok(Sent::default()),
    }
}

/// The row, where it is not empty and holds enough weights.
fn enough(sent: Sent, lone_self: bool, subnet: &Subnet) -> Result<Sent, SdkError> {
    let (count, minimum) = (sent.uids.len(), subnet.min_allowed_weights);
    if count == 0 {
        return Err(SdkError::AllZero);
    }
    if !lone_self && count < minimum {
        return Err(SdkError::BelowMinimum { netuid: subnet.netuid, minimum, count });
    }
    Ok(sent)
}

fn each_once(uids: &[i64]) -> Result<(), SdkError> {
    let mut seen = HashSet::with_capacity(uids.len());
    if uids.iter().all(|uid| seen.insert(uid)) { Ok(()) } else { Err(SdkError::DuplicateUids) }
}

fn all_u16(uids: &[i64]) -> bool {
    uids.iter().all(|&uid| u16::try_from(uid).is_ok())
}
