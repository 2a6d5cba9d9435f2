//! `tauscore forecast`: what a row of weights would bring its validator, before it is submitted.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::table::table;
use super::{Console, DeviceArgs, Outcome, Status, write_json, write_text};
use crate::device::Device;
use crate::pipeline;
use crate::pipeline::forecast::{Answer, Forecast, Question, answers, forecast};
use crate::stages::yuma::row::{self, Row};
use crate::stages::yuma::submission::{Refusal, Rules, Submission, Via, check};
use crate::stages::yuma::{Hyperparameters, State};
use crate::{Error, Result};

/// The most questions that one sweep may ask.
const MOST_QUESTIONS: usize = 1_000_000;

/// Rows of a table for people; `--json` has all.
const SHOWN: usize = 10;

/// Options of `tauscore forecast`.
#[derive(Debug, clap::Args)]
pub(super) struct ForecastArgs {
    /// The subnet's state
    #[arg(value_name = "STATE")]
    state: PathBuf,
    /// The validator: uid or hotkey
    #[arg(long, value_name = "UID|HOTKEY")]
    validator: String,
    /// Its row: {"uids", "weights"}, {uid or hotkey: weight}, [[uid, weight], ...] or a weights.json of `score`
    #[arg(long, value_name = "FILE", required_unless_present = "sweep")]
    weights: Option<PathBuf>,
    /// Ask many questions in one batch: a file of candidate rows (JSON Lines, each as in --weights), or values of a hyperparameter,
    /// as in kappa=0,32767,65535 or bonds_penalty=0..65535:4096. Repeatable: all combinations
    #[arg(long, value_name = "FILE|KEY=VALUES")]
    sweep: Vec<String>,
    #[command(flatten)]
    rules: RulesArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What the subnet demands of a row; the defaults are those of a new subnet.
#[derive(Debug, clap::Args)]
struct RulesArgs {
    /// The version of your scoring code
    #[arg(long, value_name = "KEY", default_value_t = 0)]
    version_key: u64,
    /// The lowest version that the subnet takes
    #[arg(long, value_name = "KEY", default_value_t = Rules::default().weights_version_key)]
    weights_version_key: u64,
    /// The fewest weights that the subnet takes
    #[arg(long, value_name = "N", default_value_t = Rules::default().min_allowed_weights)]
    min_allowed_weights: u16,
    /// The fewest blocks between two rows of a validator
    #[arg(long, value_name = "BLOCKS", default_value_t = Rules::default().weights_set_rate_limit)]
    weights_rate_limit: u64,
}

pub(super) fn run(args: &ForecastArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let state = State::read(&args.state)?;
    let validator = pipeline::validator(&state, &args.validator)? as u16;
    let row = args.weights.as_deref().map(|path| row::read(path, &state)).transpose()?;
    if args.sweep.is_empty() {
        let device = args.device.open(console)?;
        return one(args, &state, validator, &row.unwrap_or_default(), &device, console, out);
    }
    let sweep = Sweep::read(&args.sweep, &state, row)?;
    let device = args.device.open(console)?;
    sweep.run(&state, validator, &device, console, out)
}

/// One row: what the chain says to it, what it brings, and what costs it trust.
fn one(
    args: &ForecastArgs,
    state: &State,
    validator: u16,
    row: &Row,
    device: &Device,
    console: &Console,
    out: &mut dyn Write,
) -> Outcome {
    let verdict = check(state, &args.rules.submission(state, validator, row), &args.rules.rules(state));
    // No epoch takes a row on nobody, or twice on one.
    let forecast = match &verdict {
        Err(Refusal::UidVecContainInvalidOne { .. } | Refusal::DuplicateUids { .. }) => None,
        _ => Some(forecast(device, state, validator, verdict.as_ref().unwrap_or(row))?),
    };
    if console.json {
        write_json(out, &as_json(state, validator, &verdict, forecast.as_ref()))?;
    } else {
        write_text(out, &as_text(state, validator, &verdict, forecast.as_ref()))?;
    }
    Ok(if verdict.is_ok() { Status::Good } else { Status::Finding })
}

impl RulesArgs {
    fn rules(&self, state: &State) -> Rules {
        Rules {
            min_allowed_weights: self.min_allowed_weights,
            weights_version_key: self.weights_version_key,
            weights_set_rate_limit: self.weights_rate_limit,
            commit_reveal: state.commit_block.is_some(),
            mechanism_count: state.mechid.saturating_add(1),
            ..Rules::default()
        }
    }

    fn submission(&self, state: &State, validator: u16, row: &Row) -> Submission {
        Submission {
            netuid: state.netuid,
            mechid: state.mechid,
            validator,
            uids: row.iter().map(|entry| entry.0).collect(),
            values: row.iter().map(|entry| entry.1).collect(),
            version_key: self.version_key,
            block: state.block,
            via: if state.commit_block.is_some() { Via::Commit } else { Via::SetWeights },
        }
    }
}

fn as_json(state: &State, validator: u16, verdict: &Result<Row, Refusal>, forecast: Option<&Forecast>) -> Value {
    let admission = match verdict {
        Ok(stored) => json!({"taken": true, "stored": stored}),
        Err(refusal) => json!({"taken": false, "refusal": refusal.name(), "reason": refusal.to_string()}),
    };
    json!({
        "netuid": state.netuid,
        "block": state.block,
        "validator": validator,
        "admission": admission,
        "today": forecast.map(|forecast| forecast.today),
        "forecast": forecast.map(|forecast| forecast.forecast),
        "consensus": forecast.map(|forecast| &forecast.consensus),
        "costs": forecast.map(|forecast| &forecast.costs),
    })
}

fn as_text(state: &State, validator: u16, verdict: &Result<Row, Refusal>, forecast: Option<&Forecast>) -> String {
    let mut text = format!("uid {validator}{} in the epoch of block {}\n\n", called(state, validator), state.block);
    let said = match verdict {
        Ok(stored) => format!("The chain would take the row: {} weights.\n", stored.len()),
        Err(refusal) => format!("The chain would refuse the row: {}: {refusal}\n", refusal.name()),
    };
    let Some(forecast) = forecast else { return text + &said };
    let (today, then) = (&forecast.today, &forecast.forecast);
    let line = |name: &str, write: &dyn Fn(&Answer) -> f64, unit: &str, digits: usize| {
        let [before, after] = [today, then].map(write);
        let shown = |value: f64| format!("{value:.digits$}{unit}");
        // Without the sign of what rounds to nothing.
        let unit = 10_f64.powi(digits as i32);
        let change = ((after - before) * unit).round() / unit + 0.0;
        [name.to_owned(), shown(before), shown(after), format!("{change:+.digits$}")]
    };
    let rows = [
        line("validator trust", &|answer| percent(answer.validator_trust), " %", 2),
        line("dividends", &|answer| percent(answer.dividends), " %", 2),
        line("as a validator", &|answer| alpha(answer.validator_emission), " alpha", 6),
        line("in all", &|answer| alpha(answer.emission), " alpha", 6),
    ];
    text += &table(["", "today ", "with this row ", "change "], &rows);
    text += &format!("\n{said}");
    let costs: Vec<[String; 5]> = forecast
        .costs
        .iter()
        .filter(|cost| cost.lost > 0)
        .map(|cost| {
            let share = |value| format!("{:.2} %", percent(value));
            [cost.uid.to_string(), who(state, cost.uid), share(cost.weight), share(cost.consensus), share(cost.lost)]
        })
        .collect();
    if costs.is_empty() {
        return text + "\nNo weight lies above consensus: nothing costs trust.\n";
    }
    text += &format!("\nWhat costs trust, {} of {}\n", costs.len().min(SHOWN), costs.len());
    text + &table(["uid ", "who", "weight ", "consensus ", "lost "], &costs[..costs.len().min(SHOWN)])
}

fn percent(value: u16) -> f64 {
    f64::from(value) / 655.35
}

fn alpha(rao: u64) -> f64 {
    rao as f64 / 1e9
}

fn who(state: &State, uid: u16) -> String {
    state.hotkeys.get(usize::from(uid)).cloned().unwrap_or_default()
}

fn called(state: &State, uid: u16) -> String {
    state.hotkeys.get(usize::from(uid)).map_or_else(String::new, |hotkey| format!(" ({hotkey})"))
}

/// Questions, and what tells them apart.
struct Sweep {
    /// The parameters swept.
    keys: Vec<String>,
    labels: Vec<Label>,
    questions: Vec<Question>,
}

/// The values of the parameters, and the row's name.
#[derive(Clone, Default)]
struct Label {
    values: Map<String, Value>,
    row: Option<String>,
}

impl Sweep {
    /// All combinations of the parameters' values and the rows.
    fn read(specs: &[String], state: &State, weights: Option<Row>) -> Result<Self> {
        let (parameters, files): (Vec<&String>, Vec<&String>) = specs.iter().partition(|spec| spec.contains('='));
        let mut rows: Vec<(Option<String>, Option<Row>)> = Vec::new();
        for file in &files {
            let read = row::read_lines(file.as_ref(), state)?;
            rows.extend(read.into_iter().map(|(name, row)| (Some(name), Some(row))));
        }
        if files.is_empty() {
            rows.push((None, weights));
        } else if let Some(row) = weights {
            rows.insert(0, (Some("--weights".into()), Some(row)));
        }
        let mut settings: Vec<(Map<String, Value>, Option<Hyperparameters>)> = vec![(Map::new(), None)];
        let mut keys = Vec::new();
        for spec in parameters {
            let (key, values) = values(spec)?;
            refuse_too_many(settings.len().saturating_mul(values.len()).saturating_mul(rows.len()))?;
            let mut wider = Vec::with_capacity(settings.len() * values.len());
            for (labels, hyper) in &settings {
                for value in &values {
                    let mut labels = labels.clone();
                    labels.insert(key.clone(), value.clone());
                    let hyper = set(state, hyper.unwrap_or(state.hyper), &key, value, spec)?;
                    wider.push((labels, Some(hyper)));
                }
            }
            settings = wider;
            keys.push(key);
        }
        refuse_too_many(settings.len().saturating_mul(rows.len()))?;
        let mut sweep = Self { keys, labels: Vec::new(), questions: Vec::new() };
        for (values, hyper) in settings {
            for (name, row) in &rows {
                sweep.labels.push(Label { values: values.clone(), row: name.clone() });
                sweep.questions.push(Question { hyper, row: row.clone() });
            }
        }
        Ok(sweep)
    }

    fn run(&self, state: &State, validator: u16, device: &Device, console: &Console, out: &mut dyn Write) -> Outcome {
        let began = Instant::now();
        let answers = answers(device, state, validator, &self.questions)?;
        let seconds = began.elapsed().as_secs_f64();
        let rate = answers.len() as f64 / seconds.max(1e-9);
        console.note(&format!("{} what-ifs in {seconds:.3} s: {rate:.0} a second", answers.len()));
        if console.json {
            for (label, answer) in self.labels.iter().zip(&answers) {
                let mut line = Map::new();
                line.extend(label.row.clone().map(|name| ("row".to_owned(), Value::String(name))));
                if !label.values.is_empty() {
                    line.insert("hyper".into(), Value::Object(label.values.clone()));
                }
                if let Value::Object(answer) = json!(answer) {
                    line.extend(answer);
                }
                write_json(out, &line)?;
            }
            return Ok(Status::Good);
        }
        write_text(out, &self.as_text(state, validator, &answers))?;
        Ok(Status::Good)
    }

    /// The best of them.
    fn as_text(&self, state: &State, validator: u16, answers: &[Answer]) -> String {
        let mut order: Vec<usize> = (0..answers.len()).collect();
        order.sort_by_key(|&place| {
            let answer = &answers[place];
            (std::cmp::Reverse((answer.validator_emission, answer.validator_trust)), place)
        });
        let rows: Vec<[String; 4]> = order
            .iter()
            .take(SHOWN)
            .map(|&place| {
                let (label, answer) = (&self.labels[place], &answers[place]);
                let row = label.row.iter().map(|name| format!("row {name}"));
                let values = self.keys.iter().map(|key| format!("{key}={}", label.values[key]));
                [
                    row.chain(values).collect::<Vec<_>>().join(" "),
                    format!("{:.2} %", percent(answer.validator_trust)),
                    format!("{:.2} %", percent(answer.dividends)),
                    format!("{:.6}", alpha(answer.validator_emission)),
                ]
            })
            .collect();
        let shown = rows.len();
        format!(
            "uid {validator}{} in the epoch of block {}: the {shown} of {} that pay best; --json gives all\n\n{}",
            called(state, validator),
            state.block,
            answers.len(),
            table(["what if", "validator trust ", "dividends ", "alpha as a validator "], &rows)
        )
    }
}

fn refuse_too_many(questions: usize) -> Result<()> {
    if questions <= MOST_QUESTIONS {
        return Ok(());
    }
    Err(Error::Usage {
        argument: "--sweep".into(),
        problem: format!("{questions} what-ifs, where {MOST_QUESTIONS} are the most"),
        remedy: "take fewer values, or wider steps".into(),
    })
}

fn bad_sweep(spec: &str, problem: impl Into<String>) -> Error {
    Error::Usage {
        argument: format!("--sweep {spec}"),
        problem: problem.into(),
        remedy: "write KEY=VALUE,VALUE,... or KEY=FROM..TO or KEY=FROM..TO:STEP with a key of `hyper`, or name a file of rows".into(),
    }
}

/// The key and values of `KEY=A,B,C` or `KEY=FROM..TO:STEP`, both ends included.
fn values(spec: &str) -> Result<(String, Vec<Value>)> {
    let (key, list) = spec.split_once('=').unwrap_or((spec, ""));
    let mut values = Vec::new();
    for part in list.split(',') {
        let Some((from, rest)) = part.split_once("..") else {
            // A word is a mode's name.
            values.push(serde_json::from_str(part).unwrap_or_else(|_| Value::String(part.to_owned())));
            continue;
        };
        let (to, step) = rest.split_once(':').unwrap_or((rest, "1"));
        let number = |text: &str| text.parse::<i64>().map_err(|_| bad_sweep(spec, format!("{text:?} is no integer")));
        let (from, to, step) = (number(from)?, number(to)?, number(step)?);
        if step < 1 || to < from {
            return Err(bad_sweep(spec, format!("{part} goes nowhere")));
        }
        let count = (to.abs_diff(from) / step.unsigned_abs()).saturating_add(1);
        refuse_too_many(usize::try_from(count).unwrap_or(usize::MAX))?;
        values.extend((0..count as i64).map(|index| Value::from(from + index * step)));
    }
    Ok((key.to_owned(), values))
}

/// The parameters with another value of one.
fn set(state: &State, hyper: Hyperparameters, key: &str, value: &Value, spec: &str) -> Result<Hyperparameters> {
    let hyper = hyper.with(key, value).map_err(|error| match error {
        Error::File { field, problem, .. } => bad_sweep(spec, format!("{field}: {problem}")),
        other => other,
    })?;
    match hyper.owner_uid.filter(|&owner| usize::from(owner) >= state.n()) {
        Some(owner) => Err(bad_sweep(spec, format!("uid {owner} is not below n = {}", state.n()))),
        None => Ok(hyper),
    }
}
