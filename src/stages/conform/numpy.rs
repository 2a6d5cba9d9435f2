//! What SDKs 9 and 10 take from NumPy, operation by operation: sums in pairs and the linear quantile.

use std::cmp::Ordering;
use std::ops::{Add, Div, Mul, Sub};

/// NumPy, as far as results depend on it. The SDKs need at least 2.0.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// 2.0 to 2.3: the quantile of an f32 array rounds q to f32 first.
    V2_0,
    /// From 2.4 on: q stays f64.
    #[default]
    V2_4,
}

impl Version {
    /// Those that make a difference, by the first that has it.
    pub const ALL: [(&'static str, Self); 2] = [("2.0", Self::V2_0), ("2.4", Self::V2_4)];
}

/// A float type that arrays are of. Python floats are weak (NEP 50): they take an array's type.
pub trait Real:
    Copy + PartialOrd + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The nearest of this type.
    fn narrow(value: f64) -> Self;
    /// The same number.
    fn widen(self) -> f64;
}

impl Real for f32 {
    fn narrow(value: f64) -> Self {
        value as Self
    }

    fn widen(self) -> f64 {
        self.into()
    }
}

impl Real for f64 {
    fn narrow(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }
}

/// The longest run that is summed by eight accumulators; longer ones are halved (`PW_BLOCKSIZE`).
const RUN: usize = 128;

/// The sum of a contiguous array, in the order of `pairwise_sum`.
pub fn sum<R: Real>(values: &[R]) -> R {
    let in_order = |start: R, values: &[R]| values.iter().fold(start, |sum, &value| sum + value);
    if values.len() > RUN {
        let half = values.len() / 2;
        let (left, right) = values.split_at(half - half % 8);
        return sum(left) + sum(right);
    }
    let (blocks, rest) = values.as_chunks::<8>();
    let Some((first, blocks)) = blocks.split_first() else {
        return in_order(R::narrow(0.0), rest);
    };
    let mut lanes = *first;
    for block in blocks {
        for (lane, &value) in lanes.iter_mut().zip(block) {
            *lane = *lane + value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    in_order(((a + b) + (c + d)) + ((e + f) + (g + h)), rest)
}

/// `sort`, of values without NaN.
pub fn sorted<R: Real>(values: &[R]) -> Vec<R> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    sorted
}

/// `quantile` (linear) of at least one f32, none of them NaN, at q in [0, 1].
pub fn quantile(values: &[f32], q: f64, version: Version) -> f32 {
    match version {
        Version::V2_0 => quantile_in::<f32>(values, q),
        Version::V2_4 => quantile_in::<f64>(values, q),
    }
}

/// The same, with places and weights between them in R.
fn quantile_in<R: Real>(values: &[f32], q: f64) -> f32 {
    let (sorted, last) = (sorted(values), values.len().saturating_sub(1));
    let place = R::narrow(last as f64) * R::narrow(q);
    let (lower, upper, weight) = if place >= R::narrow(last as f64) {
        // Both indexes become -1, which is the last, and the weight is the distance to it.
        (last, last, place + R::narrow(1.0))
    } else {
        let floor = place.widen().floor();
        (floor as usize, floor as usize + 1, place - R::narrow(floor))
    };
    let [lower, upper] = [lower, upper].map(|at| sorted.get(at).copied().unwrap_or(f32::NAN));
    let difference = upper - lower;
    if weight.widen() >= 0.5 {
        upper - difference * f32::narrow((R::narrow(1.0) - weight).widen())
    } else {
        lower + difference * f32::narrow(weight.widen())
    }
}
