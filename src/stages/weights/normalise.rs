//! Scale.

use serde::{Deserialize, Serialize};

/// Values scaled so that their sum, or the largest, is 1. Values below zero become zero; where nothing is above it, all stay zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Normalise {
    /// What becomes 1.
    pub to: To,
}

/// What becomes 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// The sum.
    #[default]
    Sum,
    /// The largest value.
    Largest,
}

impl Normalise {
    pub(super) fn apply(&self, values: &mut [Option<f64>]) {
        values.iter_mut().flatten().for_each(|value| *value = value.max(0.0));
        let largest = values.iter().flatten().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            return;
        }
        // By the largest first, so that no sum overflows.
        values.iter_mut().flatten().for_each(|value| *value /= largest);
        if self.to == To::Sum {
            let total: f64 = values.iter().flatten().sum();
            values.iter_mut().flatten().for_each(|value| *value /= total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_or_the_largest_is_one() {
        let run = |to, values: &[Option<f64>]| {
            let mut values = values.to_vec();
            Normalise { to }.apply(&mut values);
            values
        };
        let values = [Some(1.0), Some(-4.0), None, Some(3.0)];
        assert_eq!(run(To::Largest, &values), [Some(1.0 / 3.0), Some(0.0), None, Some(1.0)], "the largest");
        let sum: f64 = run(To::Sum, &values).into_iter().flatten().sum();
        assert!((sum - 1.0).abs() < 1e-15, "the sum is {sum}");
        assert_eq!(run(To::Sum, &[Some(0.0), None]), [Some(0.0), None], "nothing stays nothing, never NaN");
        assert_eq!(run(To::Sum, &[Some(f64::MAX), Some(f64::MAX)]), [Some(0.5), Some(0.5)], "no overflow");
    }
}
