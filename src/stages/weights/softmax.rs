//! Softmax with a temperature.

use serde::{Deserialize, Serialize};

use super::{Flaw, flaw};

/// `exp(value / temperature)`, scaled so that the sum is 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// The smaller, the more the best one gets; above 0.
    pub temperature: f64,
}

impl Softmax {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.temperature >= 1e-6 && self.temperature <= 1e6 {
            return Ok(());
        }
        flaw("temperature", format!("{} is not between 0.000001 and 1000000", self.temperature), "0.01 is SN9's")
    }

    pub(super) fn apply(&self, values: &mut [Option<f64>]) {
        // The largest is taken off, so that nothing overflows.
        let largest = values.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for value in values.iter_mut().flatten() {
            *value = libm::exp((*value - largest) / self.temperature);
            total += *value;
        }
        values.iter_mut().flatten().for_each(|value| *value /= total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_by_temperature() {
        // Differences of ln 2 and ln 4 in units of the temperature: shares of 4/7, 2/7 and 1/7.
        let step = 0.01 * core::f64::consts::LN_2;
        let mut values = vec![Some(2.0 * step), None, Some(step), Some(0.0)];
        Softmax { temperature: 0.01 }.apply(&mut values);
        for (value, share) in [(values[0], 4.0 / 7.0), (values[2], 2.0 / 7.0), (values[3], 1.0 / 7.0)] {
            assert!((value.expect("there") - share).abs() < 1e-15, "{value:?} is {share}");
        }
        assert_eq!(values[1], None, "who takes no part gets nothing");
    }

    #[test]
    fn nothing_overflows_and_nobody_is_fine() {
        let mut values = vec![Some(1e9), Some(-1e9)];
        Softmax { temperature: 1e-6 }.apply(&mut values);
        assert_eq!(values, [Some(1.0), Some(0.0)], "all to one");
        let mut nobody = vec![None];
        Softmax { temperature: 1.0 }.apply(&mut nobody);
        assert_eq!(nobody, [None], "nobody");
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Softmax { temperature }.check().is_err(), "{temperature}");
        }
    }
}
