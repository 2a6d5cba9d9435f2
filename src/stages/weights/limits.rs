//! A least and a most value.

use serde::{Deserialize, Serialize};

use super::{Flaw, flaw};

/// Values within bounds. It changes no scale: cap shares after [`Normalise`](super::Normalise), and scale them again after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The least value; none if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The most; none if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// What becomes of values below the least.
    pub below: Below,
}

/// What becomes of values below the least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Below {
    /// They become zero.
    #[default]
    Zero,
    /// They become the least value.
    Minimum,
}

impl Limits {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        for (field, bound) in [("minimum", self.minimum), ("maximum", self.maximum)] {
            if bound.is_some_and(|bound| !bound.is_finite()) {
                return flaw(field, "it is not a finite number", "leave it out for none");
            }
        }
        match (self.minimum, self.maximum) {
            (None, None) => flaw("minimum", "there is neither a minimum nor a maximum", "give one of the two"),
            (Some(minimum), Some(maximum)) if minimum > maximum => {
                flaw("minimum", format!("{minimum} is above the maximum, {maximum}"), "exchange the two")
            }
            _ => Ok(()),
        }
    }

    pub(super) fn apply(&self, values: &mut [Option<f64>]) {
        for value in values.iter_mut().flatten() {
            if let Some(minimum) = self.minimum.filter(|minimum| *value < *minimum) {
                *value = if self.below == Below::Zero { 0.0 } else { minimum };
            }
            if let Some(maximum) = self.maximum.filter(|maximum| *value > *maximum) {
                *value = maximum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_drop_raise_and_cap() {
        let run = |minimum, maximum, below| {
            let mut values = vec![Some(-1.0), Some(0.009), Some(0.01), Some(0.9), None];
            Limits { minimum, maximum, below }.apply(&mut values);
            values
        };
        let zero = run(Some(0.01), Some(0.5), Below::Zero);
        assert_eq!(zero, [Some(0.0), Some(0.0), Some(0.01), Some(0.5), None], "below the least one nothing");
        let raised = run(Some(0.01), None, Below::Minimum);
        assert_eq!(raised, [Some(0.01), Some(0.01), Some(0.01), Some(0.9), None], "raised");
        let limits = |minimum, maximum| Limits { minimum, maximum, below: Below::Zero };
        for bad in [limits(None, None), limits(Some(2.0), Some(1.0)), limits(Some(f64::NAN), None)] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
