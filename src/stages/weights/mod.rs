//! From scores to a weight row.
//!
//! Without declared stages it is exact ([`row`]): mean scores, max-upscaled. With `[weights] stages` in the criteria a list of stages is
//! applied in order to plain data ([`apply`]), and what comes out is brought to u16 ([`quantise`]). Between the u16 of the scores and those of
//! the weights this is the one place with floats: f64 with IEEE's + - x / and square root, exp and pow of the crate `libm`, no fused
//! multiply-add, and sums in the order of the hotkeys, so that every machine gets the same bits.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

mod burn;
mod ema;
mod limits;
mod mean;
mod memory;
mod normalise;
mod pareto;
mod power;
mod rank_decay;
mod rating;
mod softmax;
mod table;
mod tally;
mod top_k;
mod win_rate;

pub use burn::Burn;
pub use ema::{Ema, Start, Unqueried};
pub use limits::{Below, Limits};
pub use mean::Mean;
pub use memory::{Memory, Rating};
pub use normalise::{Normalise, To};
pub use pareto::{Environments, Pareto};
pub use power::Power;
pub use rank_decay::{Of, RankDecay};
pub use rating::RatingStage;
pub use softmax::Softmax;
pub use table::{Answer, Column, Copying, Entrant, Table};
pub use tally::{Tally, row};
pub use top_k::{Split, Tier, TopK};
pub use win_rate::{Clones, Over, WinRate};

/// `[weights]` of the criteria.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeightsConfig {
    /// The stages, in order; none means the mean scores as they are.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "stages")]
    pub stages: Vec<Stage>,
}

/// Reads the stages one by one, so that an error names the one that it is about.
fn stages<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Stage>, D::Error> {
    let tables = Vec::<toml::Table>::deserialize(deserializer)?;
    let read = |(at, table): (usize, toml::Table)| {
        let kind = table.get("kind").map_or_else(String::new, |kind| format!(" (stage {kind})"));
        let named =
            |error: toml::de::Error| D::Error::custom(format!("weights.stages[{at}]: {}{kind}", error.message()));
        Stage::deserialize(table).map_err(named)
    };
    tables.into_iter().enumerate().map(read).collect()
}

/// One step from scores to weights: `[[weights.stages]]` with `kind` and the stage's own fields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Stage {
    /// The mean of a column.
    Mean(Mean),
    /// How often a miner beats the others.
    WinRate(WinRate),
    /// Pareto dominance over environments.
    Pareto(Pareto),
    /// Ratings over rounds.
    Rating(RatingStage),
    /// Moving averages over rounds.
    Ema(Ema),
    /// Softmax with a temperature.
    Softmax(Softmax),
    /// Powers.
    Power(Power),
    /// Less for every rank.
    RankDecay(RankDecay),
    /// Shares of the best.
    TopK(TopK),
    /// A least and a most value.
    Limits(Limits),
    /// Scale.
    Normalise(Normalise),
    /// The subnet owner's share.
    Burn(Burn),
}

/// What a stage that reads the round makes of the values that came before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// They are gone.
    #[default]
    Replace,
    /// They are multiplied with the new ones.
    Multiply,
}

impl Combine {
    fn apply(self, values: &mut [Option<f64>], new: Vec<Option<f64>>) {
        for (value, new) in values.iter_mut().zip(new) {
            *value = match self {
                Self::Replace => new,
                Self::Multiply => value.and_then(|value| Some(value * new?)),
            };
        }
    }
}

/// What is wrong with a stage: which of its fields, why, and what to do.
#[derive(Debug)]
struct Flaw {
    field: &'static str,
    problem: String,
    remedy: &'static str,
}

fn flaw<T>(field: &'static str, problem: impl Into<String>, remedy: &'static str) -> Result<T, Flaw> {
    Err(Flaw { field, problem: problem.into(), remedy })
}

/// Checks that a field is a number in a range, ends included.
fn between(field: &'static str, value: f64, least: f64, most: f64) -> Result<(), Flaw> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    flaw(field, format!("{value} is not between {least} and {most}"), "give a number in that range")
}

/// What became of a round's scores. One entry for each of [`Table::entrants`].
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// The weights, finite and not below zero.
    pub weights: Vec<f64>,
    /// What each stage gave; `None` for who takes no part.
    pub steps: Vec<Step>,
    /// What to hand to the next round.
    pub memory: Memory,
}

/// What a stage gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The stage's kind.
    pub kind: &'static str,
    /// The values, by entrant.
    pub values: Vec<Option<f64>>,
}

impl Stage {
    /// The name that criteria have for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mean(_) => "mean",
            Self::WinRate(_) => "win_rate",
            Self::Pareto(_) => "pareto",
            Self::Rating(_) => "rating",
            Self::Ema(_) => "ema",
            Self::Softmax(_) => "softmax",
            Self::Power(_) => "power",
            Self::RankDecay(_) => "rank_decay",
            Self::TopK(_) => "top_k",
            Self::Limits(_) => "limits",
            Self::Normalise(_) => "normalise",
            Self::Burn(_) => "burn",
        }
    }

    /// Whether it keeps something from round to round.
    pub fn remembers(&self) -> bool {
        matches!(self, Self::Ema(_) | Self::Rating(_))
    }

    fn check(&self) -> Result<(), Flaw> {
        match self {
            Self::Mean(stage) => stage.check(),
            Self::WinRate(stage) => stage.check(),
            Self::Pareto(stage) => stage.check(),
            Self::Rating(stage) => stage.check(),
            Self::Ema(stage) => stage.check(),
            Self::Softmax(stage) => stage.check(),
            Self::Power(stage) => stage.check(),
            Self::RankDecay(stage) => stage.check(),
            Self::TopK(stage) => stage.check(),
            Self::Limits(stage) => stage.check(),
            Self::Normalise(_) => Ok(()),
            Self::Burn(stage) => stage.check(),
        }
    }

    fn apply(&self, table: &Table, values: &mut [Option<f64>], memory: &mut Memory) -> Result<(), Flaw> {
        match self {
            Self::Mean(stage) => stage.apply(table, values),
            Self::WinRate(stage) => stage.apply(table, values),
            Self::Pareto(stage) => return stage.apply(table, values),
            Self::Rating(stage) => stage.apply(table, values, memory),
            Self::Ema(stage) => stage.apply(table, values, memory),
            Self::Softmax(stage) => stage.apply(values),
            Self::Power(stage) => stage.apply(values),
            Self::RankDecay(stage) => stage.apply(table, values),
            Self::TopK(stage) => stage.apply(table, values),
            Self::Limits(stage) => stage.apply(values),
            Self::Normalise(stage) => stage.apply(values),
            Self::Burn(stage) => return stage.apply(table, values),
        }
        Ok(())
    }

    /// The error of a flaw in it, as the `at`-th of a list.
    fn refuse(&self, at: usize, Flaw { field, problem, remedy }: Flaw) -> Error {
        Error::Usage {
            argument: format!("weights.stages[{at}].{field}"),
            problem: format!("{problem} (stage {:?})", self.kind()),
            remedy: remedy.into(),
        }
    }
}

impl WeightsConfig {
    /// Whether it is as if there were no section.
    pub fn is_default(&self) -> bool {
        self.stages.is_empty()
    }

    /// The uids that get a share by name, where the subnet's state says that `owner_uid` is its owner's.
    pub fn burns_to(&self, owner_uid: Option<u16>) -> Option<u16> {
        self.stages.iter().find_map(|stage| if let Stage::Burn(burn) = stage { burn.target(owner_uid) } else { None })
    }

    /// Checks that the owner's share, where there is one, can be given: `owner_uid` is what the subnet's state says, `coldkey` tells that of
    /// a uid (`None` where nobody has it, `Some(None)` where it is not known).
    ///
    /// # Errors
    /// [`Error::Usage`] naming stage and field.
    pub fn check_owner<'a>(
        &self,
        owner_uid: Option<u16>,
        coldkey: impl Fn(u16) -> Option<Option<&'a str>>,
    ) -> Result<()> {
        for (at, stage) in self.stages.iter().enumerate() {
            if let Stage::Burn(burn) = stage {
                burn.owner(owner_uid, &coldkey).map_err(|flaw| stage.refuse(at, flaw))?;
            }
        }
        Ok(())
    }

    /// Checks the ranges of all stages, and that they go together.
    ///
    /// # Errors
    /// [`Error::Usage`] naming stage and field.
    pub fn check(&self) -> Result<()> {
        for (at, stage) in self.stages.iter().enumerate() {
            stage.check().map_err(|flaw| stage.refuse(at, flaw))?;
            let earlier = self.stages[..at].iter().position(|earlier| earlier.kind() == stage.kind());
            if let Some(earlier) = earlier.filter(|_| stage.remembers()) {
                let problem =
                    format!("weights.stages[{earlier}] is one already, and there is one number a miner to keep");
                let flaw = Flaw { field: "kind", problem, remedy: "keep one of the two" };
                return Err(stage.refuse(at, flaw));
            }
            if matches!(stage, Stage::Burn(_)) && at + 1 < self.stages.len() {
                let problem = "it is not the last stage, and what follows would change the owner's share".into();
                return Err(stage.refuse(at, Flaw { field: "kind", problem, remedy: "move it to the end" }));
            }
        }
        Ok(())
    }
}

/// Applies the stages in order, beginning with the mean scores. What is below zero at the end gets nothing.
///
/// # Errors
/// As [`WeightsConfig::check`], [`Table::check`] and [`Memory::check`]; [`Error::Usage`] naming stage and field where the owner's share
/// cannot be given, where there are too many environments, or where a value is no finite number.
pub fn apply(config: &WeightsConfig, table: &Table, memory: &Memory) -> Result<Weighed> {
    config.check()?;
    table.check()?;
    memory.check()?;
    let mut memory = memory.clone();
    let mut values = table.column(Column::Score);
    let mut steps = Vec::with_capacity(config.stages.len());
    for (at, stage) in config.stages.iter().enumerate() {
        stage.apply(table, &mut values, &mut memory).map_err(|flaw| stage.refuse(at, flaw))?;
        if let Some(index) = values.iter().position(|value| value.is_some_and(|value| !value.is_finite())) {
            let hotkey = &table.entrants[index].hotkey;
            let problem =
                format!("it leaves the range of numbers for {hotkey}: {:?}", values[index].unwrap_or(f64::NAN));
            let remedy = "scale the values first (kind = \"normalise\"), or soften the stage";
            return Err(stage.refuse(at, Flaw { field: "kind", problem, remedy }));
        }
        steps.push(Step { kind: stage.kind(), values: values.clone() });
    }
    memory.check()?;
    let weights = values.into_iter().map(|value| value.unwrap_or(0.0).max(0.0)).collect();
    Ok(Weighed { weights, steps, memory })
}

/// A weight row, and how it came about. One entry for each of [`Table::entrants`].
#[derive(Clone, Debug, PartialEq)]
pub struct Weighing {
    /// The weights as the chain takes them.
    pub row: Vec<u16>,
    /// What each declared stage gave.
    pub steps: Vec<Step>,
    /// What to hand to the next round.
    pub memory: Memory,
}

/// The weight row that criteria make of a round: by their stages ([`apply`], [`quantise`]) or, where they declare none, by mean scores alone
/// ([`row`]). Whoever has table and memory gets the same bits.
///
/// # Errors
/// As [`apply`].
pub fn weigh(config: &WeightsConfig, table: &Table, memory: &Memory) -> Result<Weighing> {
    if config.stages.is_empty() {
        table.check()?;
        return Ok(Weighing { row: row(&table.tallies()), steps: Vec::new(), memory: memory.clone() });
    }
    let Weighed { weights, steps, memory } = apply(config, table, memory)?;
    Ok(Weighing { row: quantise(&weights), steps, memory })
}

/// Weights as the chain takes them: the largest is 65535, rounded half to even after a division and a product, as the SDK's own `normalize`.
/// From here on everything is exact. Weights are finite and not below zero.
pub fn quantise(weights: &[f64]) -> Vec<u16> {
    let largest = weights.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return vec![0; weights.len()];
    }
    weights.iter().map(|weight| (weight / largest * 65_535.0).round_ties_even() as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::table::tests::{one_prompt, table};
    use super::*;

    fn parse(text: &str) -> Result<WeightsConfig, toml::de::Error> {
        toml::from_str(text)
    }

    fn config(text: &str) -> WeightsConfig {
        parse(text).expect(text)
    }

    #[test]
    fn no_stages_leave_the_mean_scores() {
        let table = table(&[&[Some(65_535), Some(0)], &[Some(65_535), Some(65_535)], &[None, None]]);
        let weighed = apply(&WeightsConfig::default(), &table, &Memory::default()).expect("legal");
        assert_eq!(weighed.weights, [0.5, 1.0, 0.0], "means; nothing for who was not there");
        assert!(weighed.steps.is_empty() && weighed.memory.is_empty(), "and nothing else");
    }

    #[test]
    fn stages_run_in_order_and_tell_what_each_gave() {
        let config = config("stages = [{ kind = \"power\", exponent = 2 }, { kind = \"normalise\" }]");
        let table = one_prompt(&[(65_535, None), (0, None)]);
        let weighed = apply(&config, &table, &Memory::default()).expect("legal");
        let kinds: Vec<_> = weighed.steps.iter().map(|step| (step.kind, step.values.clone())).collect();
        assert_eq!(kinds, [("power", vec![Some(1.0), Some(0.0)]), ("normalise", vec![Some(1.0), Some(0.0)])], "each");
    }

    #[test]
    fn the_largest_weight_is_65535_and_halves_go_to_even() {
        assert_eq!(quantise(&[0.5, 1.0, 0.0]), [32_768, 65_535, 0], "32767.5 goes to the even 32768");
        assert_eq!(quantise(&[1.0, 32_766.5 / 65_535.0]), [65_535, 32_766], "and 32766.5 to 32766");
        assert_eq!(quantise(&[0.0, 0.0]), [0, 0], "nothing");
        assert_eq!(quantise(&[f64::MIN_POSITIVE, 1e308]), [0, 65_535], "far apart");
        assert_eq!(quantise(&[]), Vec::<u16>::new(), "nobody");
    }

    #[test]
    fn mistakes_are_named_by_stage_and_field() {
        for (text, place) in [
            (
                "[[stages]]\nkind = \"ema\"\nalpha = 0.1\n[[stages]]\nkind = \"power\"\nexponent = 0",
                "weights.stages[1].exponent",
            ),
            ("[[stages]]\nkind = \"ema\"", "weights.stages[0].alpha"),
            ("[[stages]]\nkind = \"softmax\"\ntemperature = nan", "weights.stages[0].temperature"),
            (
                "[[stages]]\nkind = \"ema\"\nalpha = 0.1\n[[stages]]\nkind = \"ema\"\nalpha = 0.2",
                "weights.stages[1].kind",
            ),
            (
                "[[stages]]\nkind = \"burn\"\nshare = 0.5\ncoldkey = \"5O\"\n[[stages]]\nkind = \"normalise\"",
                "weights.stages[0].kind",
            ),
        ] {
            let error = config(text).check().expect_err(text).to_string();
            assert!(error.contains(place), "{error} names {place}");
        }
        for (text, name) in [
            ("[[stages]]\nkind = \"softmx\"\ntemperature = 1", "weights.stages[0]: unknown variant `softmx`"),
            (
                "[[stages]]\nkind = \"normalise\"\n[[stages]]\nkind = \"softmax\"\nheat = 1",
                "weights.stages[1]: unknown field `heat`, expected `temperature` (stage \"softmax\")",
            ),
            ("[[stages]]\nkind = \"normalise\"\nsum = 1", "unknown field `sum`"),
            ("[[stages]]\nkind = \"softmax\"", "missing field `temperature`"),
            ("[[stages]]\ntemperature = 1.0", "missing field `kind`"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(name), "{error} names {name}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_an_error_and_nan_never_enters() {
        let table = one_prompt(&[(65_535, None), (1, None)]);
        let stages = config("stages = [{ kind = \"rating\", combine = \"multiply\" }]");
        let mut memory = Memory::default();
        memory.ratings.insert("m0000".into(), Rating { mu: 1e300, sigma: 1.0 });
        let error = apply(&stages, &table, &memory).expect_err("an infinite strength").to_string();
        assert!(error.contains("weights.stages[0].kind") && error.contains("m0000"), "{error}");
        memory.ratings.insert("m0000".into(), Rating { mu: f64::NAN, sigma: 1.0 });
        assert!(apply(&stages, &table, &memory).expect_err("NaN").to_string().contains("ratings"), "named");
        let mut memory = Memory::default();
        memory.averages.insert("m0000".into(), f64::NAN);
        let stages = config("stages = [{ kind = \"ema\", alpha = 0.5 }]");
        assert!(apply(&stages, &table, &memory).expect_err("NaN").to_string().contains("averages"), "named");
    }

    #[test]
    fn kinds_have_the_names_that_criteria_have() {
        let all = "stages = [{ kind = \"mean\" }, { kind = \"win_rate\" }, { kind = \"pareto\" }, { kind = \"rating\" }, \
                   { kind = \"ema\", alpha = 0.5 }, { kind = \"softmax\", temperature = 1.0 }, { kind = \"power\", exponent = 2 }, \
                   { kind = \"rank_decay\", decay = 0.5 }, { kind = \"top_k\", tiers = [{ count = 1, share = 1.0 }] }, \
                   { kind = \"limits\", minimum = 0.1 }, { kind = \"normalise\" }, \
                   { kind = \"burn\", share = 0.5, coldkey = \"5O\" }]";
        let config = config(all);
        config.check().expect("legal");
        for stage in &config.stages {
            assert!(all.contains(&format!("kind = \"{}\"", stage.kind())), "{}", stage.kind());
        }
        let written = toml::to_string(&config).expect("TOML");
        assert_eq!(parse(&written).expect("it reads what it writes"), config, "{written}");
    }
}
