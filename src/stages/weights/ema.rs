//! Moving averages over rounds.

use serde::{Deserialize, Serialize};

use super::memory::Memory;
use super::table::Table;
use super::{Flaw, between, flaw};

/// An exponential moving average by hotkey: `average = alpha * value + (1 - alpha) * average`.
///
/// The average is of the values as they come in and is never rescaled here (a rescaled one would drift with who else was in the round);
/// scaling is a stage of its own, after it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ema {
    /// How much the new value counts, above 0, at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// In its place: how much a value counts that is above the average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha_up: Option<f64>,
    /// In its place: how much a value counts that is below the average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha_down: Option<f64>,
    /// What the first average is.
    pub start: Start,
    /// What becomes of the average of a miner who took no part in the round.
    pub unqueried: Unqueried,
}

/// What a miner's first average is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// An average of zero before it: newcomers work their way up.
    #[default]
    Zero,
    /// The first value itself.
    First,
}

/// What becomes of the average of a miner who took no part in a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unqueried {
    /// It stays, and so does his weight.
    #[default]
    Keep,
    /// It moves as if he had earned nothing.
    Decay,
    /// It is forgotten.
    Zero,
}

impl Ema {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        match (self.alpha, self.alpha_up, self.alpha_down) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => {
                return flaw(
                    "alpha",
                    "there is no one rate, or more than one",
                    "give alpha, or alpha_up and alpha_down",
                );
            }
        }
        let rates = [("alpha", self.alpha), ("alpha_up", self.alpha_up), ("alpha_down", self.alpha_down)];
        for (field, rate) in rates {
            if let Some(rate) = rate {
                between(field, rate, 0.0, 1.0)?;
                if rate == 0.0 {
                    return flaw(field, "0 would never learn anything", "give a rate above 0 and at most 1");
                }
            }
        }
        Ok(())
    }

    /// The average after `value`.
    fn step(&self, average: f64, value: f64) -> f64 {
        let rate = if value > average { self.alpha_up } else { self.alpha_down };
        let alpha = self.alpha.or(rate).unwrap_or(1.0);
        alpha * value + (1.0 - alpha) * average
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>], memory: &mut Memory) {
        let mut averages = std::mem::take(&mut memory.averages);
        for (entrant, value) in table.entrants.iter().zip(values) {
            let before = averages.remove(&entrant.hotkey);
            *value = match (*value, before) {
                (Some(value), None) if self.start == Start::First => Some(value),
                (Some(value), before) => Some(self.step(before.unwrap_or(0.0), value)),
                (None, Some(average)) => self.without(average),
                (None, None) => None,
            };
            if let Some(average) = *value {
                memory.averages.insert(entrant.hotkey.clone(), average);
            }
        }
        let absent = averages.into_iter().filter_map(|(hotkey, average)| Some((hotkey, self.without(average)?)));
        memory.averages.extend(absent);
    }

    /// The average of a miner who took no part.
    fn without(&self, average: f64) -> Option<f64> {
        match self.unqueried {
            Unqueried::Keep => Some(average),
            Unqueried::Decay => Some(self.step(average, 0.0)),
            Unqueried::Zero => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::table;

    fn run(ema: &Ema, values: &[Option<f64>], memory: &mut Memory) -> Vec<Option<f64>> {
        let rows = vec![[Some(1)]; values.len()];
        let table = table(&rows.iter().map(|row| row.as_slice()).collect::<Vec<_>>());
        let mut values = values.to_vec();
        ema.apply(&table, &mut values, memory);
        values
    }

    #[test]
    fn it_moves_by_its_rate_up_and_down() {
        let ema = Ema { alpha: Some(0.25), ..Ema::default() };
        let mut memory = Memory::default();
        assert_eq!(run(&ema, &[Some(1.0)], &mut memory), [Some(0.25)], "from zero");
        assert_eq!(run(&ema, &[Some(1.0)], &mut memory), [Some(0.4375)], "0.25 + 0.75 * 0.25");
        let ema = Ema { alpha_up: Some(0.5), alpha_down: Some(0.125), ..Ema::default() };
        let mut memory = Memory::default();
        assert_eq!(run(&ema, &[Some(1.0)], &mut memory), [Some(0.5)], "up by half");
        assert_eq!(run(&ema, &[Some(0.0)], &mut memory), [Some(0.4375)], "down by an eighth");
        let ema = Ema { alpha: Some(0.25), start: Start::First, ..Ema::default() };
        assert_eq!(run(&ema, &[Some(1.0)], &mut Memory::default()), [Some(1.0)], "from the first value");
    }

    #[test]
    fn who_took_no_part_keeps_loses_some_or_loses_all() {
        for (unqueried, here, elsewhere) in [
            (Unqueried::Keep, Some(0.5), Some(0.5)),
            (Unqueried::Decay, Some(0.375), Some(0.375)),
            (Unqueried::Zero, None, None),
        ] {
            let mut memory = Memory::default();
            memory.averages.extend([("m0001".to_owned(), 0.5), ("elsewhere".to_owned(), 0.5)]);
            let ema = Ema { alpha: Some(0.25), unqueried, ..Ema::default() };
            assert_eq!(run(&ema, &[Some(1.0), None, None], &mut memory), [Some(0.25), here, None], "{unqueried:?}");
            assert_eq!(memory.averages.get("m0001").copied(), here, "{unqueried:?}: remembered");
            assert_eq!(memory.averages.get("elsewhere").copied(), elsewhere, "{unqueried:?}: not in the table");
            assert!(!memory.averages.contains_key("m0002"), "nothing is made up");
        }
    }

    #[test]
    fn the_average_of_one_does_not_depend_on_the_others() {
        let ema = Ema { alpha: Some(0.3), ..Ema::default() };
        let (mut alone, mut crowd) = (Memory::default(), Memory::default());
        for round in 0..5 {
            let value = f64::from(round) * 0.17;
            run(&ema, &[Some(value)], &mut alone);
            run(&ema, &[Some(value), Some(1.0), Some(0.9)], &mut crowd);
        }
        assert_eq!(alone.averages["m0000"].to_bits(), crowd.averages["m0000"].to_bits(), "never rescaled");
    }

    #[test]
    fn rates_are_one_or_two_and_in_range() {
        let good = [(Some(1.0), None, None), (None, Some(0.5), Some(1e-3))];
        let bad = [
            (None, None, None),
            (Some(0.5), Some(0.5), None),
            (None, Some(0.5), None),
            (Some(0.0), None, None),
            (Some(1.5), None, None),
            (Some(f64::NAN), None, None),
        ];
        let ema = |(alpha, alpha_up, alpha_down)| Ema { alpha, alpha_up, alpha_down, ..Ema::default() };
        assert!(good.into_iter().all(|rates| ema(rates).check().is_ok()), "legal");
        assert!(bad.into_iter().all(|rates| ema(rates).check().is_err()), "not legal");
    }
}
