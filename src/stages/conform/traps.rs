//! What goes wrong with a row of weights without any error: named before it is sent.

use std::collections::HashSet;

use super::legacy::{self, Path, through_f32};
use super::{Environment, Sdk, SdkError, Sent, Subnet};

/// Something that a validator did not mean, with numbers. Display says what happens and what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Trap {
    /// No distribution can keep to the limit, so all are weighed alike.
    #[error(
        "{length} weights with a limit of {limit:.4} leave room for one row only: all {length} get the same, whatever they earned{}; {}",
        if *.zeros > 0 { format!(", {} that earned nothing included", .zeros) } else { String::new() },
        if *.limit > 0.0 { format!("weigh more than {:.0} miners", (1.0 / .limit).floor()) } else { "the limit leaves nothing to anybody".into() }
    )]
    Uniform {
        /// How many share the row.
        length: usize,
        /// How many of them weighed nothing.
        zeros: usize,
        /// The largest share that one may have.
        limit: f64,
    },
    /// SDKs 9 and 10 add to a row that is too short.
    #[error(
        "{kept} weights where the subnet wants {minimum}: every one of the {n} uids gets 1e-5 on top, paid or not; weigh more miners, or say what is to become of it"
    )]
    Padded {
        /// How many weigh something.
        kept: usize,
        /// The fewest weights.
        minimum: usize,
        /// How many get something.
        n: usize,
    },
    /// Nobody weighs anything.
    #[error("nobody weighs anything: SDKs 9 and 10 then weigh all {n} uids alike, SDK 11 sends nothing; find out why")]
    AllZero {
        /// How many uids there are.
        n: usize,
    },
    /// Weights vanish.
    #[error(
        "{count} weights are NaN or negative (the first is that of uid {uid}) and vanish without an error; find out why"
    )]
    Dropped {
        /// How many.
        count: usize,
        /// The uid of the first.
        uid: i64,
    },
    /// No error says what is wrong with the weights, as nothing looks at them.
    #[error(
        "{count} weights are no numbers from 0 up (the first is that of uid {uid}) and nothing looks at them, since all are weighed alike; find out why"
    )]
    Swallowed {
        /// How many.
        count: usize,
        /// The uid of the first.
        uid: i64,
    },
    /// The subnet has fewer uids than a row needs weights.
    #[error(
        "the subnet has {n} uids and wants {minimum} weights: SDKs 9 and 10 then weigh all uids alike, SDK 11 sends nothing; weigh nobody until there are more"
    )]
    MinimumAboveN {
        /// The fewest weights.
        minimum: usize,
        /// How many uids there are.
        n: usize,
    },
    /// The chain refuses the row.
    #[error("uid {uid} comes more than once, for which the chain refuses the row; give it one weight")]
    Duplicate {
        /// The first uid that comes again.
        uid: i64,
    },
    /// The chain refuses the row.
    #[error(
        "{count} weights are left once they are rounded to u16, where the chain wants {minimum}: it refuses the row; weigh more miners, or the least of them more"
    )]
    BelowMinimum {
        /// How many are sent.
        count: usize,
        /// The fewest that the chain takes of a subnet of this size.
        minimum: usize,
    },
    /// Uids without weights are passed over.
    #[error("{uids} uids with {weights} weights: the rest count for nothing; give one weight for each uid")]
    LengthMismatch {
        /// How many uids there are.
        uids: usize,
        /// How many weights there are.
        weights: usize,
    },
    /// Padding pays somebody else.
    #[error(
        "the row is padded by place: the weight of uid {uid} goes to uid {place}; give the weights of all uids from 0 on, in order"
    )]
    ByPlace {
        /// Who was weighed.
        uid: i64,
        /// Where the weight stands, which is who gets it.
        place: usize,
    },
    /// The chain refuses the row.
    #[error("uid {uid} is not below n = {n}, for which the chain refuses the row; leave it out")]
    BeyondMetagraph {
        /// Who is nobody.
        uid: i64,
        /// How many uids there are.
        n: usize,
    },
    /// Rounding lifts somebody above the limit.
    #[error(
        "uid {uid} has {share:.6} of the row once it is rounded to u16, above the limit of {limit:.6}; a chain that enforced it would refuse the row"
    )]
    OverLimit {
        /// Who has most.
        uid: i64,
        /// Its share of what is sent.
        share: f64,
        /// The largest share that one may have.
        limit: f64,
    },
    /// The row is gone.
    #[error("the weights overflow f32, and an empty row is sent without an error; bring them to a sum of 1")]
    Overflow,
}

impl Trap {
    /// Their names, for those who want to be caught.
    pub const NAMES: [&'static str; 13] = [
        "uniform",
        "padded",
        "all_zero",
        "dropped",
        "swallowed",
        "minimum_above_n",
        "duplicate",
        "below_minimum",
        "length_mismatch",
        "by_place",
        "beyond_metagraph",
        "over_limit",
        "overflow",
    ];

    /// The trap's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uniform { .. } => "uniform",
            Self::Padded { .. } => "padded",
            Self::AllZero { .. } => "all_zero",
            Self::Dropped { .. } => "dropped",
            Self::Swallowed { .. } => "swallowed",
            Self::MinimumAboveN { .. } => "minimum_above_n",
            Self::Duplicate { .. } => "duplicate",
            Self::BelowMinimum { .. } => "below_minimum",
            Self::LengthMismatch { .. } => "length_mismatch",
            Self::ByPlace { .. } => "by_place",
            Self::BeyondMetagraph { .. } => "beyond_metagraph",
            Self::OverLimit { .. } => "over_limit",
            Self::Overflow => "overflow",
        }
    }

    /// Whether the row must not be sent: it pays others than it says, or the chain refuses it. The chain enforces no limit today.
    pub fn forbids(&self) -> bool {
        !matches!(self, Self::OverLimit { .. })
    }
}

/// Every trap that a row of weights is in, `sent` being what [`send`](super::send) made of it. An error of the SDK is none.
pub fn traps(
    sdk: Sdk,
    uids: &[i64],
    weights: &[f64],
    subnet: &Subnet,
    environment: Environment,
    sent: &Result<Sent, SdkError>,
) -> Vec<Trap> {
    let mut found = Vec::new();
    if weights.iter().all(|weight| weight.is_nan() || *weight <= 0.0) {
        found.push(Trap::AllZero { n: subnet.n });
    }
    if subnet.n < subnet.min_allowed_weights {
        found.push(Trap::MinimumAboveN { minimum: subnet.min_allowed_weights, n: subnet.n });
    }
    let Ok(sent) = sent else { return found };
    match sdk {
        Sdk::Nine | Sdk::Ten => legacy_traps(uids, weights, subnet, environment, sent, &mut found),
        Sdk::Eleven => current_traps(uids, weights, subnet, &mut found),
    }
    sent_traps(sent, subnet, &mut found);
    found
}

/// How many of the weights are amiss, and the first one's uid.
fn amiss(uids: &[i64], weights: &[f64], is: impl Fn(f64) -> bool) -> Option<(usize, i64)> {
    let mut found = uids.iter().zip(weights).filter(|(_, weight)| is(**weight)).map(|(uid, _)| *uid);
    let uid = found.next()?;
    Some((1 + found.count(), uid))
}

/// Whether weights differ, so that all alike is not what they say.
fn differ(weights: &[f64]) -> bool {
    weights.windows(2).any(|pair| pair[0] != pair[1])
}

fn legacy_traps(
    uids: &[i64],
    weights: &[f64],
    subnet: &Subnet,
    environment: Environment,
    sent: &Sent,
    found: &mut Vec<Trap>,
) {
    if uids.len() != weights.len() {
        found.push(Trap::LengthMismatch { uids: uids.len(), weights: weights.len() });
    }
    if let Some((count, uid)) = amiss(uids, weights, |weight| weight.is_nan() || weight < 0.0) {
        found.push(Trap::Dropped { count, uid });
    }
    let rounded: Vec<f32> = through_f32(weights).into_iter().map(|weight| weight as f32).collect();
    let limit = subnet.max_weight_limit;
    let collapses = |length: usize| length as f64 * limit <= 1.0;
    // What the row went through already.
    let collapsed = match legacy::path(uids, &rounded, subnet, environment.numpy) {
        Err(_) | Ok(Path::Uniform) => false,
        Ok(Path::Padded(kept)) => {
            let (n, minimum) = (subnet.n, subnet.min_allowed_weights);
            found.push(Trap::Padded { kept: kept.len(), minimum, n });
            if let Some(&place) = kept.iter().find(|&&place| uids[place] != place as i64) {
                found.push(Trap::ByPlace { uid: uids[place], place });
            }
            if collapses(n) {
                found.push(Trap::Uniform { length: n, zeros: n - kept.len(), limit });
            }
            collapses(n)
        }
        Ok(Path::Kept(kept)) => {
            let kept: Vec<f64> = kept.into_iter().map(|place| weights[place]).collect();
            if collapses(kept.len()) && differ(&kept) {
                found.push(Trap::Uniform { length: kept.len(), zeros: 0, limit });
            }
            collapses(kept.len())
        }
    };
    if let Some((count, uid)) = amiss(uids, weights, |weight| (weight as f32) == f32::INFINITY).filter(|_| collapsed) {
        found.push(Trap::Swallowed { count, uid });
    }
    if sent.uids.is_empty() {
        found.push(Trap::Overflow);
    }
}

fn current_traps(uids: &[i64], weights: &[f64], subnet: &Subnet, found: &mut Vec<Trap>) {
    let (length, limit) = (weights.len(), subnet.max_weight_limit);
    let lone_self = subnet.own_uid.is_some_and(|own| *uids == [own]);
    if lone_self || limit >= 1.0 || length as f64 * limit > 1.0 {
        return;
    }
    if differ(weights) {
        let zeros = weights.iter().filter(|weight| **weight == 0.0).count();
        found.push(Trap::Uniform { length, zeros, limit });
    }
    if let Some((count, uid)) = amiss(uids, weights, |weight| !weight.is_finite() || weight < 0.0) {
        found.push(Trap::Swallowed { count, uid });
    }
}

/// What the chain would say to a row, as far as the row itself goes.
fn sent_traps(sent: &Sent, subnet: &Subnet, found: &mut Vec<Trap>) {
    let (count, n, limit) = (sent.uids.len(), subnet.n, subnet.max_weight_limit);
    let mut seen = HashSet::with_capacity(count);
    if let Some(&uid) = sent.uids.iter().find(|&uid| !seen.insert(uid)) {
        found.push(Trap::Duplicate { uid });
    }
    let inside = |uid: i64| usize::try_from(uid).is_ok_and(|uid| uid < n);
    if let Some(&uid) = sent.uids.iter().find(|&&uid| !inside(uid)) {
        found.push(Trap::BeyondMetagraph { uid, n });
    }
    let lone_self = subnet.own_uid.is_some_and(|own| sent.uids == [own]);
    let minimum = subnet.min_allowed_weights.min(n);
    if !lone_self && count < minimum {
        found.push(Trap::BelowMinimum { count, minimum });
    }
    let largest = sent.uids.iter().zip(&sent.values).max_by_key(|(_, value)| **value);
    if let Some((&uid, &value)) = largest.filter(|_| !lone_self && limit < 1.0 && !sent.is_within(limit)) {
        let sum: u64 = sent.values.iter().copied().map(u64::from).sum();
        found.push(Trap::OverLimit { uid, share: f64::from(value) / sum as f64, limit });
    }
}
