//! Powers.

use serde::{Deserialize, Serialize};

use super::{Flaw, flaw};

/// `value ^ exponent`; values below zero count as zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Above 0: above 1 it favours the best, below 1 it evens out.
    pub exponent: f64,
}

impl Power {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.exponent > 0.0 && self.exponent <= 1000.0 {
            return Ok(());
        }
        flaw("exponent", format!("{} is not above 0 and at most 1000", self.exponent), "1 changes nothing")
    }

    pub(super) fn apply(&self, values: &mut [Option<f64>]) {
        values.iter_mut().flatten().for_each(|value| *value = libm::pow(value.max(0.0), self.exponent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_what_is_above_zero() {
        let mut values = vec![Some(0.5), Some(0.0), Some(-2.0), None];
        Power { exponent: 3.0 }.apply(&mut values);
        assert_eq!(values, [Some(0.125), Some(0.0), Some(0.0), None], "cubes; nothing below zero");
        for exponent in [0.0, -1.0, f64::NAN, 1001.0] {
            assert!(Power { exponent }.check().is_err(), "{exponent}");
        }
    }
}
