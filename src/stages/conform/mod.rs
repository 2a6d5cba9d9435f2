//! A weight row as the SDKs in the field would send it: float weights in, the chain's u16 pairs out, to the bit.
//!
//! [`legacy`] is SDK 9 and 10 (f32 with islands of f64), [`current`] is SDK 11 (f64). [`numpy`] and [`python`] are what these take from
//! their surroundings, some of which changed between versions ([`Environment`]). [`traps`] names what goes wrong without an error.
//! What comes out hangs on IEEE `+ - * /` in a fixed order and on nothing else, so it is the same on every machine.

pub mod cases;
pub mod current;
mod error;
pub mod legacy;
pub mod metagraph;
pub mod minimum;
pub mod numpy;
pub mod python;
pub mod traps;

pub use error::SdkError;

/// Which SDK sends the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// 9.x, as of 9.12.2. The same algorithm as [`Self::Ten`].
    Nine,
    /// 10.x, as of 10.5.0.
    Ten,
    /// 11.x, as of 11.3.0.
    Eleven,
}

impl Sdk {
    /// All of them, by their major versions.
    pub const ALL: [(&'static str, Self); 3] = [("9", Self::Nine), ("10", Self::Ten), ("11", Self::Eleven)];

    /// The major version.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nine => "9",
            Self::Ten => "10",
            Self::Eleven => "11",
        }
    }
}

/// What runs the SDK, as far as it changes results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// SDK 11 sums with it.
    pub python: python::Version,
    /// SDKs 9 and 10 compute with it.
    pub numpy: numpy::Version,
}

/// A subnet, as far as its rows of weights depend on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Subnet {
    /// The subnet, for messages.
    pub netuid: u16,
    /// The number of uids.
    pub n: usize,
    /// The fewest weights of a row.
    pub min_allowed_weights: usize,
    /// The largest share of a row that one miner may have: the chain's u16 / 65535. From 1 on it limits nothing.
    pub max_weight_limit: f64,
    /// SDKs 9 and 10: the part of the weights that is left out from below, in 65535ths. 0 in every call that names none.
    pub exclude_quantile: u32,
    /// SDK 11: the validator's own uid, whose lone weight on itself is exempt from limit and minimum.
    pub own_uid: Option<i64>,
}

/// What an SDK sends: weights in submission order, without zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Whom the row weighs. SDKs 9 and 10 pass on uids that no subnet has.
    pub uids: Vec<i64>,
    /// The weight of each, the largest 65535 (but for [`current::raw_u16`]).
    pub values: Vec<u16>,
}

/// What an SDK sends of a validator's weights. SDKs 9 and 10 are given arrays, SDK 11 two lists.
///
/// # Errors
/// What the SDK would raise.
pub fn send(
    sdk: Sdk,
    uids: &[i64],
    weights: &[f64],
    subnet: &Subnet,
    environment: Environment,
) -> Result<Sent, SdkError> {
    match sdk {
        Sdk::Nine | Sdk::Ten => {
            let processed = legacy::process(uids, weights, subnet, environment.numpy)?;
            legacy::emit(&processed.uids, &processed.weights.to_f64(), environment.python)
        }
        Sdk::Eleven => current::conform(uids, weights, subnet, environment.python),
    }
}

/// Weights over the largest in 65535ths, halves to even, without zeros: divided first, so rounded twice.
///
/// # Errors
/// [`SdkError::ZeroDivision`] if the largest is 0, [`SdkError::NanToInt`] where no number comes out.
fn quantise(uids: &[i64], weights: &[f64], largest: f64) -> Result<Sent, SdkError> {
    let mut sent = Sent::default();
    for (&uid, &weight) in uids.iter().zip(weights) {
        let value = (python::divide(weight, largest)? * 65_535.0).round_ties_even();
        if value.is_nan() {
            return Err(SdkError::NanToInt);
        }
        if value != 0.0 {
            sent.uids.push(uid);
            // At most 1 before the scale, and not negative: both SDKs have looked.
            sent.values.push(value as u16);
        }
    }
    Ok(sent)
}
