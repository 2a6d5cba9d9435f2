//! SDKs 9 and 10: `process_weights`, which community validators call, and the conversion to u16 inside `set_weights`.
//!
//! After `bittensor/utils/weight_utils.py` of 9.12.2 and 10.5.0, which are the same code.

use super::numpy::{self, Real, quantile, sorted, sum};
use super::{SdkError, Sent, Subnet, python, quantise};

/// Weights as `process_weights` returns them: shares of the row.
#[derive(Clone, Debug, PartialEq)]
pub enum Floats {
    /// The weights were taken as they are.
    F32(Vec<f32>),
    /// They were replaced or padded.
    F64(Vec<f64>),
}

impl Floats {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(weights) => weights.len(),
            Self::F64(weights) => weights.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same numbers in f64, as `tolist` gives them.
    pub fn to_f64(&self) -> Vec<f64> {
        match self {
            Self::F32(weights) => weights.iter().copied().map(f64::from).collect(),
            Self::F64(weights) => weights.clone(),
        }
    }
}

/// What `process_weights` returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Processed {
    /// Whom the row weighs.
    pub uids: Vec<i64>,
    /// The weight of each.
    pub weights: Floats,
}

/// Which way weights go through `process_weights`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Path {
    /// All uids alike: nothing weighs more than 0, or the subnet is smaller than its minimum.
    Uniform,
    /// All uids a little, and these places what they have beside: too few of them.
    Padded(Vec<usize>),
    /// These places, as they are.
    Kept(Vec<usize>),
}

/// Which way these weights go.
///
/// # Errors
/// [`SdkError::Index`] for a weight without a uid.
pub(super) fn path(uids: &[i64], weights: &[f32], subnet: &Subnet, version: numpy::Version) -> Result<Path, SdkError> {
    // Neither NaN nor what is negative is above 0: they are gone without a word.
    let mut kept: Vec<usize> = (0..weights.len()).filter(|&place| weights[place] > 0.0).collect();
    within(&kept, uids.len())?;
    let (count, minimum) = (kept.len(), subnet.min_allowed_weights);
    if count == 0 || subnet.n < minimum {
        return Ok(Path::Uniform);
    }
    if count < minimum {
        return Ok(Path::Padded(kept));
    }
    let most = (count - minimum) as f64 / count as f64;
    let lowest = f64::from(subnet.exclude_quantile) / 65_535.0;
    let lowest = if most < lowest { most } else { lowest };
    let least = quantile(&at(weights, &kept), lowest, version);
    kept.retain(|&place| least <= weights[place]);
    Ok(Path::Kept(kept))
}

/// `process_weights`: the weights above 0 as shares of the row, none above the limit; all uids alike where there are none, and all uids
/// a little where there are too few.
///
/// `uids` and `weights` are the two arrays, of any length. Weights are rounded to f32 first.
///
/// # Errors
/// [`SdkError::Index`] for a weight without a uid, or where padding finds no place for it.
pub fn process(uids: &[i64], weights: &[f64], subnet: &Subnet, version: numpy::Version) -> Result<Processed, SdkError> {
    let weights: Vec<f32> = weights.iter().copied().map(f32::narrow).collect();
    let n = subnet.n;
    let (uids, weights) = match path(uids, &weights, subnet, version)? {
        Path::Uniform => ((0..n as i64).collect(), Floats::F64(vec![1.0 / n as f64; n])),
        Path::Padded(kept) => {
            within(&kept, n)?;
            let mut padded = vec![1e-5; n];
            for place in kept {
                // By place, whatever uid stands there.
                padded[place] += f64::from(weights[place]);
            }
            ((0..n as i64).collect(), Floats::F64(normalize_max_weight(&padded, subnet.max_weight_limit)))
        }
        Path::Kept(kept) => {
            let weights = normalize_max_weight(&at(&weights, &kept), subnet.max_weight_limit);
            (at(uids, &kept), Floats::F32(weights))
        }
    };
    Ok(Processed { uids, weights })
}

/// `normalize_max_weight`: shares of the row, none above `limit`; all alike where `length * limit <= 1`.
fn normalize_max_weight<R: Real>(weights: &[R], limit: f64) -> Vec<R> {
    let (length, epsilon, cap) = (weights.len(), R::narrow(1e-7), R::narrow(limit));
    let shares = |weights: &[R], total: R| weights.iter().map(|&weight| weight / total).collect::<Vec<R>>();
    let total = sum(weights);
    if total.widen() == 0.0 || length as f64 * limit <= 1.0 {
        return vec![R::narrow(1.0) / R::narrow(length as f64); length];
    }
    let values = sorted(weights);
    let sorted_total = sum(&values);
    let estimation = shares(&values, sorted_total);
    // NaN is not within the limit.
    if estimation.iter().all(|&share| share <= cap) {
        return shares(weights, total);
    }
    let cumulative = running_sum(&estimation);
    let below = |place: usize| {
        let (share, above) = (estimation[place], R::narrow((length - place - 1) as f64));
        share / (above * share + cumulative[place] + epsilon) < cap
    };
    let count = (0..length).filter(|&place| below(place)).count();
    // Index -1 is the last.
    let reached = cumulative[count.checked_sub(1).unwrap_or(length - 1)];
    let scale = (cap * reached - epsilon).widen() / (1.0 - limit * (length - count) as f64);
    let cutoff = scale * sorted_total.widen();
    let clipped: Vec<R> =
        weights.iter().map(|&weight| if weight.widen() > cutoff { R::narrow(cutoff) } else { weight }).collect();
    let clipped_total = sum(&clipped);
    shares(&clipped, clipped_total)
}

/// What `set_weights` makes of uids and weights: u16 in submission order, without zeros. A row that sums to 0 becomes an empty one.
///
/// # Errors
/// [`SdkError::Empty`], [`SdkError::NegativeWeight`], [`SdkError::NegativeUid`] and [`SdkError::EmitLength`], in this order;
/// [`SdkError::NanToInt`] and [`SdkError::ZeroDivision`] where NaN stands behind the first place.
pub fn emit(uids: &[i64], weights: &[f64], version: python::Version) -> Result<Sent, SdkError> {
    let empty = SdkError::Empty(version);
    if python::min(weights).ok_or_else(|| empty.clone())? < 0.0 {
        return Err(SdkError::NegativeWeight(weights.to_vec()));
    }
    if python::min(uids).ok_or_else(|| empty.clone())? < 0 {
        return Err(SdkError::NegativeUid(uids.to_vec()));
    }
    if uids.len() != weights.len() {
        return Err(SdkError::EmitLength { uids: uids.len(), weights: weights.len() });
    }
    if python::sum(weights, version) == 0.0 {
        return Ok(Sent::default());
    }
    quantise(uids, weights, python::max(weights).ok_or(empty)?)
}

/// Weights as an f32 array, or a list, hands them on.
pub fn through_f32(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|&weight| f32::narrow(weight).widen()).collect()
}

fn running_sum<R: Real>(values: &[R]) -> Vec<R> {
    let mut sum: Option<R> = None;
    values.iter().map(|&value| *sum.insert(sum.map_or(value, |sum| sum + value))).collect()
}

/// The values at `places`, all of which must exist.
fn at<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| values[place]).collect()
}

/// Whether all places exist.
fn within(places: &[usize], size: usize) -> Result<(), SdkError> {
    match places.iter().find(|&&place| place >= size) {
        Some(&index) => Err(SdkError::Index { index, size }),
        None => Ok(()),
    }
}
