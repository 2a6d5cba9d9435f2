//! Less for every rank.

use serde::{Deserialize, Serialize};

use super::table::Table;
use super::{Flaw, flaw};

/// `value * decay ^ (rank - 1)`, or `decay ^ (rank - 1)` alone. Who has no value above zero has no rank and gets nothing. Of equal values the
/// earlier submission comes first, then the smaller hotkey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankDecay {
    /// What a rank keeps of the one before it; above 0, at most 1.
    pub decay: f64,
    /// What it is a part of.
    #[serde(default)]
    pub of: Of,
}

/// What a rank's part is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The value.
    #[default]
    Value,
    /// One: only the rank counts.
    One,
}

impl RankDecay {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.decay > 0.0 && self.decay <= 1.0 {
            return Ok(());
        }
        flaw("decay", format!("{} is not above 0 and at most 1", self.decay), "0.5 halves with every rank")
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) {
        let ranking = table.ranking(values);
        values.iter_mut().flatten().for_each(|value| *value = 0.0);
        let mut part = 1.0;
        for (index, value) in ranking {
            values[index] = Some(if self.of == Of::Value { value * part } else { part });
            part *= self.decay;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::one_prompt;

    #[test]
    fn each_rank_keeps_its_part() {
        let table = one_prompt(&[(1, None), (1, Some(3)), (1, Some(2)), (1, None), (1, None)]);
        let before = vec![Some(0.25), Some(0.5), Some(0.5), Some(0.0), None];
        let mut values = before.clone();
        RankDecay { decay: 0.5, of: Of::Value }.apply(&table, &mut values);
        assert_eq!(values, [Some(0.0625), Some(0.25), Some(0.5), Some(0.0), None], "of equal ones the earlier first");
        let mut values = before;
        RankDecay { decay: 0.25, of: Of::One }.apply(&table, &mut values);
        assert_eq!(values, [Some(0.0625), Some(0.25), Some(1.0), Some(0.0), None], "no rank without a value");
        for decay in [0.0, 1.1, f64::NAN] {
            assert!(RankDecay { decay, of: Of::One }.check().is_err(), "{decay}");
        }
    }
}
