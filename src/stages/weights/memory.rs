//! What stages keep from one round to the next: plain data by hotkey, never by uid.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A miner's skill as a normal distribution (OpenSkill).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(deny_unknown_fields)]
pub struct Rating {
    /// Its mean.
    pub mu: f64,
    /// Its standard deviation, above 0.
    pub sigma: f64,
}

/// What stages keep, by hotkey: handed in before a round, handed back after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    /// Moving averages of the stage `ema`.
    pub averages: BTreeMap<String, f64>,
    /// Ratings of the stage `rating`.
    pub ratings: BTreeMap<String, Rating>,
}

impl Memory {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.averages.is_empty() && self.ratings.is_empty()
    }

    /// The hotkeys of which anything is kept, ascending, some twice.
    pub fn hotkeys(&self) -> impl Iterator<Item = &str> {
        self.averages.keys().chain(self.ratings.keys()).map(String::as_str)
    }

    /// What is kept here and no longer `later`: kind and hotkey, as the fields are called.
    pub fn forgotten(&self, later: &Self) -> Vec<(&'static str, &str)> {
        let averages = self.averages.keys().filter(|hotkey| !later.averages.contains_key(*hotkey));
        let ratings = self.ratings.keys().filter(|hotkey| !later.ratings.contains_key(*hotkey));
        let averages = averages.map(|hotkey| ("averages", hotkey.as_str()));
        averages.chain(ratings.map(|hotkey| ("ratings", hotkey.as_str()))).collect()
    }

    /// Checks that every number is one.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the hotkey.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, hotkey: &String, problem: String| Error::Usage {
            argument: format!("{field}[{hotkey:?}]"),
            problem,
            remedy: "remove the entry: the miner then begins anew".into(),
        };
        for (hotkey, average) in &self.averages {
            if !average.is_finite() {
                return Err(refuse("averages", hotkey, format!("{average} is not a finite number")));
            }
        }
        for (hotkey, Rating { mu, sigma }) in &self.ratings {
            if !(mu.is_finite() && sigma.is_finite() && *sigma > 0.0) {
                let problem =
                    format!("mu {mu} and sigma {sigma} are no rating: both must be finite, and sigma above 0");
                return Err(refuse("ratings", hotkey, problem));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_json_and_refuses_what_is_no_number() {
        let mut memory = Memory::default();
        assert!(memory.is_empty(), "nothing yet");
        memory.averages.insert("a".into(), 0.1 + 0.2);
        memory.ratings.insert("b".into(), Rating { mu: 25.0, sigma: 25.0 / 3.0 });
        let text = serde_json::to_string(&memory).expect("JSON");
        assert_eq!(serde_json::from_str::<Memory>(&text).expect("JSON"), memory, "to the bit");
        assert_eq!(memory.hotkeys().collect::<Vec<_>>(), ["a", "b"], "both");
        memory.check().expect("legal");
        for (mu, sigma) in [(f64::NAN, 1.0), (1.0, 0.0), (1.0, f64::INFINITY)] {
            memory.ratings.insert("b".into(), Rating { mu, sigma });
            let error = memory.check().expect_err("no rating").to_string();
            assert!(error.contains("ratings[\"b\"]"), "{error}");
        }
        memory.averages.insert("a".into(), f64::NAN);
        assert!(memory.check().expect_err("NaN").to_string().contains("averages[\"a\"]"), "named");
    }
}
