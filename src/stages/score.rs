//! From accuracy and novelty to scores: the floats end here.
//!
//! score = accuracy ^ accuracy_power * min(1, novelty / novelty_saturation) ^ novelty_power * (1 - certainty of a copy), as a u16: 65535
//! is 1.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `[score]` of the criteria.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScoreConfig {
    /// Exponent of accuracy; 0 leaves it out.
    pub accuracy_power: f64,
    /// Exponent of novelty; 0 leaves it out. Copies lose their score all the same.
    pub novelty_power: f64,
    /// Novelty from which on a response counts as fully novel, in (0, 1]. Independent answers to one prompt are alike too: with a common
    /// model of embeddings the median of their largest cosines is 0.90, and 0.98 is exceeded by one in a hundred.
    pub novelty_saturation: f64,
    /// What a prompt counts that a miner did not answer.
    pub unanswered: Unanswered,
}

/// What a prompt counts that a miner did not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unanswered {
    /// A score of zero.
    #[default]
    Zero,
    /// Nothing: the mean is over answered prompts.
    Skip,
}

impl Default for ScoreConfig {
    fn default() -> Self {
        Self { accuracy_power: 1.0, novelty_power: 1.0, novelty_saturation: 0.02, unanswered: Unanswered::Zero }
    }
}

impl ScoreConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the key.
    pub fn check(&self) -> Result<()> {
        let powers = [("score.accuracy_power", self.accuracy_power), ("score.novelty_power", self.novelty_power)];
        for (key, value) in powers {
            if !(0.0..=100.0).contains(&value) {
                return Err(refuse(key, format!("{value} is not between 0 and 100"), "1 is the default"));
            }
        }
        if !(self.novelty_saturation > 0.0 && self.novelty_saturation <= 1.0) {
            let problem = format!("{} is not above 0 and at most 1", self.novelty_saturation);
            return Err(refuse("score.novelty_saturation", problem, "0.02 is the default"));
        }
        Ok(())
    }

    /// The score of one response in 65535ths. `accuracy`, `novelty` (by embeddings) and `certainty` (of being a copy) lie in [0, 1]; a
    /// blank answer scores 0.
    pub fn score(&self, accuracy: f64, novelty: f64, certainty: f64, blank: bool) -> u16 {
        if blank {
            return 0;
        }
        let novelty = (novelty / self.novelty_saturation).min(1.0);
        let score = power(accuracy, self.accuracy_power) * power(novelty, self.novelty_power) * (1.0 - certainty);
        part(score)
    }
}

/// A number in [0, 1] in 65535ths, rounded; what lies beyond is the end that it is beyond.
pub fn part(number: f64) -> u16 {
    (number.clamp(0.0, 1.0) * 65_535.0).round() as u16
}

/// Accuracy in [0, 1] from a loss of which 0 is right and 1 or more is wrong.
pub fn accuracy(loss: f64) -> f64 {
    (1.0 - loss).clamp(0.0, 1.0)
}

/// x^y for x in [0, 1], the same on every machine.
fn power(x: f64, y: f64) -> f64 {
    if y == 1.0 { x } else { libm::pow(x, y) }
}

fn refuse(argument: &str, problem: String, remedy: &str) -> Error {
    Error::Usage { argument: argument.into(), problem, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_product() {
        let config = ScoreConfig { novelty_saturation: 1.0, ..ScoreConfig::default() };
        assert_eq!(config.score(1.0, 1.0, 0.0, false), 65_535, "the best");
        assert_eq!(config.score(0.5, 0.5, 0.0, false), 16_384, "a quarter, rounded");
        assert_eq!(config.score(1.0, 0.0, 0.0, false), 0, "a copy");
        assert_eq!(config.score(1.0, 1.0, 1.0, false), 0, "surely a copy, however little it resembles");
        assert_eq!(config.score(0.5, 1.0, 0.5, false), 16_384, "perhaps a copy");
        assert_eq!(config.score(1.0, 1.0, 0.0, true), 0, "a blank answer");
    }

    #[test]
    fn saturation_and_powers_shape_it() {
        let config = ScoreConfig { novelty_saturation: 0.1, accuracy_power: 2.0, ..ScoreConfig::default() };
        assert_eq!(config.score(0.5, 0.1, 0.0, false), 16_384, "saturated novelty counts in full");
        assert_eq!(config.score(0.5, 0.05, 0.0, false), 8_192, "half of the saturation counts half");
        let config = ScoreConfig { novelty_power: 0.0, ..ScoreConfig::default() };
        assert_eq!(config.score(0.5, 0.0, 0.0, false), 32_768, "power 0 leaves novelty out");
    }

    #[test]
    fn bad_values_are_named() {
        for (config, key) in [
            (ScoreConfig { accuracy_power: f64::NAN, ..ScoreConfig::default() }, "score.accuracy_power"),
            (ScoreConfig { novelty_power: -1.0, ..ScoreConfig::default() }, "score.novelty_power"),
            (ScoreConfig { novelty_saturation: 0.0, ..ScoreConfig::default() }, "score.novelty_saturation"),
        ] {
            let error = config.check().expect_err("out of range");
            assert!(error.to_string().contains(key), "{error} names {key}");
        }
    }
}
