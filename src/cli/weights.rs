//! `tauscore weights`: what an SDK would send of a round's weights, with every trap named, in the forms that tools accept.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::data::{Source, read_scores, read_text};
use crate::stages::conform::cases::Case;
use crate::stages::conform::metagraph::Metagraph;
use crate::stages::conform::minimum::{BelowMinimum, burn, pad};
use crate::stages::conform::traps::{Trap, traps};
use crate::stages::conform::{Environment, Sdk, SdkError, Sent, Subnet, current, numpy, python, send};
use crate::stages::score::Unanswered;
use crate::stages::weights::{self, Tally};
use crate::{Error, Result, whole};

/// Rows of a table, and names in a message, for people; `--json` and the file have all.
const SHOWN: usize = 10;

/// Options of `tauscore weights`.
#[derive(Debug, clap::Args)]
pub(super) struct WeightsArgs {
    /// Who weighs what: miners.json or scores.jsonl of `score`, or {hotkey or uid: weight}; `-` for standard input
    #[arg(value_name = "MINERS|SCORES", required_unless_present = "cases")]
    miners: Option<PathBuf>,
    /// The SDK that will send the row
    #[arg(long, value_name = "VERSION", value_parser = named(&Sdk::ALL), required_unless_present = "cases")]
    sdk: Option<Sdk>,
    /// The subnet: its STATE, or what `btcli --json subnets metagraph` prints
    #[arg(long, value_name = "FILE", required_unless_present = "cases")]
    metagraph: Option<PathBuf>,
    /// The fewest weights that the subnet takes [default: the metagraph's]
    #[arg(long, value_name = "N")]
    min_allowed_weights: Option<u16>,
    /// The largest share of a row that one miner may have, in 65535ths [default: the metagraph's]
    #[arg(long, value_name = "LIMIT")]
    max_weight_limit: Option<u16>,
    /// The part of the weights that SDKs 9 and 10 leave out from below, in 65535ths
    #[arg(long, value_name = "Q", default_value_t = 0)]
    exclude_quantile: u16,
    /// The validator that sends it, by uid or hotkey: the chain and SDK 11 exempt its lone weight on itself from limit and minimum
    #[arg(long, value_name = "UID|HOTKEY")]
    validator: Option<String>,
    /// What becomes of a row with too few weights: error (nothing is written), pad (every uid gets 1e-5, as SDKs 9 and 10 do unasked), or
    /// burn (what nobody earned goes to the subnet's owner)
    #[arg(long, value_name = "POLICY", value_parser = named(&BelowMinimum::ALL), default_value = "error")]
    below_minimum: BelowMinimum,
    /// With burn: whose uid it goes to [default: the metagraph's owner]
    #[arg(long, value_name = "UID")]
    burn_uid: Option<u16>,
    /// Write the row although it is in this trap; repeatable
    #[arg(long, value_name = "TRAP", value_parser = PossibleValuesParser::new(Trap::NAMES))]
    allow: Vec<String>,
    /// Where the row goes
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// As uid {uid: u16}, hotkey {hotkey: u16}, u16 {uids, values}, or given {uid: share}, which the SDK turns into the row
    #[arg(long, value_name = "FORM", value_parser = named(&Form::ALL), default_value = "uid")]
    format: Form,
    /// The Python that SDK 11 runs in: 3.11 for all up to it, 3.12 for all from there
    #[arg(long, value_name = "VERSION", value_parser = named(&python::Version::ALL), default_value = "3.11")]
    python: python::Version,
    /// The NumPy that SDKs 9 and 10 run with: 2.0 for 2.0 to 2.3, 2.4 for all from there
    #[arg(long, value_name = "VERSION", value_parser = named(&numpy::Version::ALL), default_value = "2.4")]
    numpy: numpy::Version,
    /// Run recorded calls of the SDKs instead, one JSON line each; compared where the file says what came out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["miners", "sdk", "metagraph", "out"])]
    cases: Option<PathBuf>,
}

/// How a row is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Uid,
    Hotkey,
    U16,
    Given,
}

impl Form {
    const ALL: [(&'static str, Self); 4] =
        [("uid", Self::Uid), ("hotkey", Self::Hotkey), ("u16", Self::U16), ("given", Self::Given)];
}

/// Values by their names, for help and completion.
fn named<T: Copy + Send + Sync + 'static>(all: &'static [(&'static str, T)]) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|(name, _)| *name)).try_map(move |name| {
        let known = all.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| *value).ok_or("no such value")
    })
}

pub(super) fn run(args: &WeightsArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let environment = Environment { python: args.python, numpy: args.numpy };
    match (&args.cases, &args.miners, args.sdk, &args.metagraph) {
        (Some(file), ..) => cases(file, environment, console, out),
        (None, Some(miners), Some(sdk), Some(metagraph)) => {
            let metagraph = Metagraph::parse(&read_text(metagraph)?, &metagraph.display().to_string())?;
            let row = Row::new(args, sdk, &read_miners(miners)?, metagraph, environment, console)?;
            row.report(args, console, out)
        }
        // The parser asks for all three.
        _ => Err(usage("--cases", "there is nothing to do", "name MINERS, --sdk and --metagraph, or --cases")),
    }
}

/// Runs recorded calls.
fn cases(file: &Path, environment: Environment, console: &Console, out: &mut dyn Write) -> Outcome {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Line<'a> {
        Sent { id: &'a str, uids: &'a [i64], values: &'a [u16] },
        Error { id: &'a str, error: &'a str },
    }
    let (mut compared, mut differing) = (0_usize, 0_usize);
    for case in Case::parse(&read_text(file)?, &file.display().to_string())? {
        let (id, outcome) = (case.id.as_str(), case.run(environment));
        let line = match &outcome {
            Ok(Sent { uids, values }) => Line::Sent { id, uids, values },
            Err(error) => Line::Error { id, error: error.name() },
        };
        write_json(out, &line)?;
        let Some(agrees) = case.agrees(&outcome, environment) else { continue };
        compared += 1;
        if !agrees {
            differing += 1;
            let came = outcome.err().map_or_else(String::new, |error| format!(": {}: {error}", error.exception()));
            console.warn(&format!("case {id} differs from what the file says came out{came}"));
        }
    }
    if compared > 0 {
        console.note(&format!("cases {compared}, differing {differing}"));
        console.json_event(&json!({"cases": compared, "differing": differing}));
    }
    Ok(if differing > 0 { Status::Finding } else { Status::Good })
}

/// A row of weights on its way to the chain.
struct Row {
    sdk: Sdk,
    metagraph: Metagraph,
    subnet: Subnet,
    environment: Environment,
    /// Shares by uid, as the SDK is given them.
    given: Vec<f64>,
    sent: Result<Sent, SdkError>,
    traps: Vec<Trap>,
}

impl Row {
    /// Resolves hotkeys to uids, does what is asked about too few weights, and sends.
    fn new(
        args: &WeightsArgs,
        sdk: Sdk,
        miners: &[(String, f64)],
        metagraph: Metagraph,
        environment: Environment,
        console: &Console,
    ) -> Result<Self> {
        let n = metagraph.hotkeys.len();
        let or_default = |option: Option<u16>, known: Option<u16>, key: &str, default: u16| {
            option.or(known).unwrap_or_else(|| {
                let option = key.replace('_', "-");
                console.warn(&format!(
                    "the metagraph does not say {key}, which is taken to be {default}: --{option} says it"
                ));
                default
            })
        };
        let minimum =
            or_default(args.min_allowed_weights, metagraph.min_allowed_weights, "min_allowed_weights", 1).into();
        let limit = or_default(args.max_weight_limit, metagraph.max_weight_limit, "max_weight_limit", u16::MAX);
        let own_uid = args.validator.as_deref().map(|name| {
            let uid = resolve(&metagraph, name);
            uid.map(|uid| uid as i64).ok_or_else(|| {
                let problem = format!("{name:?} is neither a hotkey nor a uid of the subnet's {n} neurons");
                usage("--validator", problem, "name the validator that sends the row by its uid or hotkey")
            })
        });
        let subnet = Subnet {
            netuid: metagraph.netuid,
            n,
            min_allowed_weights: minimum,
            max_weight_limit: f64::from(limit) / 65_535.0,
            exclude_quantile: args.exclude_quantile.into(),
            own_uid: own_uid.transpose()?,
        };
        let mut given = shares(miners, &metagraph, console)?;
        let lone_self = own_uid_is_alone(&given, subnet.own_uid);
        match args.below_minimum {
            BelowMinimum::Burn if !lone_self => {
                burn_missing(&mut given, args.burn_uid, &metagraph, minimum, console)?;
            }
            // SDKs 9 and 10 do it themselves.
            BelowMinimum::Pad if !lone_self && sdk == Sdk::Eleven => {
                if given.iter().filter(|weight| **weight > 0.0).count() < minimum {
                    console.note(&format!("too few weights: every one of the {n} uids gets 1e-5 on top"));
                    pad(&mut given);
                }
            }
            BelowMinimum::Error | BelowMinimum::Pad | BelowMinimum::Burn => {}
        }
        let (uids, weights) = as_given(sdk, &given);
        let sent = send(sdk, &uids, &weights, &subnet, environment);
        let traps = traps(sdk, &uids, &weights, &subnet, environment, &sent);
        Ok(Self { sdk, metagraph, subnet, environment, given, sent, traps })
    }

    /// Says what would be sent and which traps it is in, and writes it unless one of them forbids that.
    fn report(&self, args: &WeightsArgs, console: &Console, out: &mut dyn Write) -> Outcome {
        let allowed = |trap: &Trap| {
            !trap.forbids()
                || args.allow.iter().any(|name| name == trap.name())
                || (matches!(trap, Trap::Padded { .. }) && args.below_minimum == BelowMinimum::Pad)
        };
        for trap in &self.traps {
            console.warn(&format!("{}: {trap}", trap.name()));
        }
        self.warn_of_clipping_again(args, console);
        let forbidden: Vec<&Trap> = self.traps.iter().filter(|trap| !allowed(trap)).collect();
        let written = args.out.as_deref().filter(|_| forbidden.is_empty() && self.sent.is_ok());
        if let (Some(path), Ok(sent)) = (written, &self.sent) {
            self.write(path, args.format, sent)?;
        }
        if console.json {
            write_json(out, &self.as_json(&allowed, written))?;
        } else if let Ok(sent) = &self.sent {
            write_text(out, &self.as_text(sent))?;
        }
        let refusal = match (&self.sent, &*forbidden) {
            (Err(error), _) => usage(
                &format!("SDK {}", self.sdk.name()),
                format!("sends nothing: {}: {error}", error.exception()),
                remedy(error),
            ),
            (Ok(_), []) => return Ok(Status::Good),
            (Ok(_), forbidden) => {
                let names: Vec<&str> = forbidden.iter().map(|trap| trap.name()).collect();
                let options = names.iter().map(|name| match *name {
                    "padded" => "--below-minimum pad".to_owned(),
                    name => format!("--allow {name}"),
                });
                let options = options.collect::<Vec<_>>().join(" ");
                let remedy = format!("mend what the warnings say, or have it written as it is with {options}");
                usage("the row", format!("must not be sent as it is: {}", names.join(", ")), &remedy)
            }
        };
        console.error(&refusal);
        Ok(Status::Finding)
    }

    /// SDK 11 clips whatever it is given, and rounding may have lifted the largest above the limit.
    fn warn_of_clipping_again(&self, args: &WeightsArgs, console: &Console) {
        let Ok(sent) = &self.sent else { return };
        if self.sdk != Sdk::Eleven || args.format == Form::Given {
            return;
        }
        let weights: Vec<f64> = sent.values.iter().copied().map(f64::from).collect();
        let again = current::conform(&sent.uids, &weights, &self.subnet, self.environment.python);
        if again.as_ref() != Ok(sent) {
            console.warn("given this row, SDK 11 clips it again and sends another: give it what --format given writes");
        }
    }

    /// Writes the row, whole or not at all.
    fn write(&self, path: &Path, form: Form, sent: &Sent) -> Result<()> {
        let pairs = || sent.uids.iter().copied().zip(sent.values.iter().copied());
        let text = match form {
            Form::Uid => serde_json::to_string(&pairs().collect::<BTreeMap<_, _>>()),
            Form::Hotkey => {
                let named = pairs().map(|(uid, value)| (self.hotkey(uid as usize), value));
                serde_json::to_string(&named.collect::<BTreeMap<_, _>>())
            }
            Form::U16 => serde_json::to_string(&json!({"uids": sent.uids, "values": sent.values})),
            Form::Given => {
                let (uids, shares) = as_given(Sdk::Eleven, &self.given);
                serde_json::to_string(&uids.into_iter().zip(shares).collect::<BTreeMap<_, _>>())
            }
        };
        let text = text.map_err(|error| Error::io(path, error.into()))?;
        whole::write(path, format!("{text}\n").as_bytes())
    }

    fn hotkey(&self, uid: usize) -> &str {
        self.metagraph.hotkeys.get(uid).map_or("", String::as_str)
    }

    fn as_json(&self, allowed: &dyn Fn(&Trap) -> bool, written: Option<&Path>) -> Value {
        let traps: Vec<Value> = self
            .traps
            .iter()
            .map(|trap| json!({"name": trap.name(), "message": trap.to_string(), "allowed": allowed(trap)}))
            .collect();
        let error = self.sent.as_ref().err();
        let sent = self.sent.as_ref().ok();
        let (uids, weights) = as_given(Sdk::Eleven, &self.given);
        json!({
            "sdk": self.sdk.name(),
            "netuid": self.subnet.netuid,
            "n": self.subnet.n,
            "min_allowed_weights": self.subnet.min_allowed_weights,
            "max_weight_limit": self.subnet.max_weight_limit,
            "given": {"uids": uids, "weights": weights},
            "uids": sent.map(|sent| &sent.uids),
            "values": sent.map(|sent| &sent.values),
            "hotkeys": sent.map(|sent| sent.uids.iter().map(|uid| self.hotkey(*uid as usize)).collect::<Vec<_>>()),
            "error": error.map(|error| json!({"name": error.name(), "exception": error.exception(), "message": error.to_string()})),
            "traps": traps,
            "written": written.map(|path| path.display().to_string()),
        })
    }

    /// The largest weights.
    fn as_text(&self, sent: &Sent) -> String {
        let total: u64 = sent.values.iter().copied().map(u64::from).sum();
        let percent = |share: f64| format!("{:.2} %", share * 100.0);
        let mut pairs: Vec<(usize, u16)> =
            sent.uids.iter().zip(&sent.values).map(|(uid, value)| (*uid as usize, *value)).collect();
        pairs.sort_by_key(|&(uid, value)| (std::cmp::Reverse(value), uid));
        let rows: Vec<[String; 5]> = pairs
            .iter()
            .take(SHOWN)
            .map(|&(uid, value)| {
                [
                    uid.to_string(),
                    self.hotkey(uid).to_owned(),
                    percent(self.given.get(uid).copied().unwrap_or(0.0)),
                    value.to_string(),
                    percent(f64::from(value) / total.max(1) as f64),
                ]
            })
            .collect();
        let shown = if pairs.len() > SHOWN { format!(", the largest {SHOWN}") } else { String::new() };
        format!(
            "SDK {} would send {} of {} uids{shown}\n\n{}",
            self.sdk.name(),
            pairs.len(),
            self.subnet.n,
            table(["uid ", "hotkey", "given ", "sent ", "share "], &rows)
        )
    }
}

/// What the SDK is given: 9 and 10 the arrays of all uids, as validators keep them; 11 only who weighs something, since it counts zeros
/// where a limit leaves no room.
fn as_given(sdk: Sdk, shares: &[f64]) -> (Vec<i64>, Vec<f64>) {
    let all = (0..).zip(shares.iter().copied());
    if sdk == Sdk::Eleven { all.filter(|(_, share)| *share != 0.0).unzip() } else { all.unzip() }
}

fn own_uid_is_alone(shares: &[f64], own_uid: Option<i64>) -> bool {
    own_uid.is_some_and(|own| as_given(Sdk::Eleven, shares).0 == [own])
}

/// The uid that a name stands for: a hotkey's, or a uid.
fn resolve(metagraph: &Metagraph, name: &str) -> Option<usize> {
    let by_hotkey = metagraph.hotkeys.iter().position(|hotkey| hotkey == name);
    by_hotkey.or_else(|| name.parse().ok().filter(|uid| *uid < metagraph.hotkeys.len()))
}

/// Shares of the row by uid, which sum to 1 unless nobody weighs anything. Whoever is not in the metagraph gets nothing.
fn shares(miners: &[(String, f64)], metagraph: &Metagraph, console: &Console) -> Result<Vec<f64>> {
    let mut shares = vec![0.0; metagraph.hotkeys.len()];
    let mut by = BTreeMap::new();
    let uids: BTreeMap<&str, usize> =
        metagraph.hotkeys.iter().zip(0..).map(|(hotkey, uid)| (hotkey.as_str(), uid)).collect();
    let (mut gone, mut lost) = (Vec::new(), 0.0);
    for (name, weight) in miners {
        let Some(uid) = uids.get(name.as_str()).copied().or_else(|| resolve(metagraph, name)) else {
            gone.push(name.as_str());
            lost += weight;
            continue;
        };
        if let Some(earlier) = by.insert(uid, name) {
            let problem = format!("{earlier:?} and {name:?} are both uid {uid}");
            return Err(usage("MINERS", problem, "give each miner one weight"));
        }
        shares[uid] = *weight;
    }
    let total: f64 = shares.iter().sum();
    if !gone.is_empty() {
        let share = lost / (lost + total).max(f64::MIN_POSITIVE) * 100.0;
        let who = if gone.len() == 1 {
            "1 miner is not in the metagraph and gets".into()
        } else {
            format!("{} miners are not in the metagraph and get", gone.len())
        };
        let more = if gone.len() > SHOWN { ", ..." } else { "" };
        let names = gone[..gone.len().min(SHOWN)].join(", ");
        console.warn(&format!("{who} nothing, {share:.2} % of the row: {names}{more}"));
    }
    if total > 0.0 {
        shares.iter_mut().for_each(|share| *share /= total);
    }
    Ok(shares)
}

/// Gives the owner what nobody earned, and says so.
fn burn_missing(
    given: &mut [f64],
    uid: Option<u16>,
    metagraph: &Metagraph,
    minimum: usize,
    console: &Console,
) -> Result<()> {
    let Some(owner) = uid.or(metagraph.owner_uid) else {
        return Err(usage(
            "--below-minimum burn",
            "the metagraph does not say who owns the subnet",
            "name the owner's uid by --burn-uid",
        ));
    };
    let owner = usize::from(owner);
    let hotkey = metagraph.hotkeys.get(owner).ok_or_else(|| {
        let problem = format!("uid {owner} is not below n = {}", metagraph.hotkeys.len());
        usage("--burn-uid", problem, "name the uid of the subnet's owner")
    })?;
    if let (Some(coldkey), Some(right)) = (metagraph.coldkeys.get(owner), &metagraph.owner_coldkey)
        && coldkey != right
    {
        let problem = format!(
            "uid {owner} belongs to coldkey {coldkey}, and the subnet to {right}: it would be paid, not burned"
        );
        return Err(usage("--burn-uid", problem, "name a uid of the subnet's owner"));
    }
    if let Some(burned) = burn(given, owner, minimum) {
        let share = burned.missing as f64 / burned.minimum as f64 * 100.0;
        console.warn(&format!(
            "{} of {} weights were earned by nobody: {share:.2} % of the row goes to uid {owner} ({hotkey})",
            burned.missing, burned.minimum
        ));
        if !burned.fillers.is_empty() {
            let uids: Vec<String> = burned.fillers.iter().map(usize::to_string).collect();
            let message = "to make up the minimum, the least weight there is goes to uids";
            console.warn(&format!("{message} {}", uids.join(", ")));
        }
    }
    Ok(())
}

/// Names and weights, from any of the files that have them.
fn read_miners(path: &Path) -> Result<Vec<(String, f64)>> {
    let (text, file) = (read_text(path)?, path.display().to_string());
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let is_score = |value: &Value| value.get("prompt_id").is_some() || value.get("task_id").is_some();
    if serde_json::from_str(first).is_ok_and(|value: Value| is_score(&value)) {
        return from_scores(text, file);
    }
    let refuse = |field: String, problem: String| Error::File {
        file: file.clone(),
        field,
        problem,
        remedy: "give miners.json or scores.jsonl of `score`, or an object {hotkey: weight}".to_owned(),
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| refuse("(file)".into(), error.to_string()))?;
    let weight = |field: &str, value: Option<&Value>| {
        let weight = value.and_then(Value::as_f64).filter(|weight| *weight >= 0.0);
        weight.ok_or_else(|| refuse(field.to_owned(), "is no weight, a number from 0 up".into()))
    };
    let object = |object: &Map<String, Value>| {
        object.iter().map(|(name, value)| Ok((name.clone(), weight(name, Some(value))?))).collect()
    };
    match &value {
        Value::Array(rows) => rows
            .iter()
            .enumerate()
            .map(|(place, row)| {
                let miner = row.get("miner").and_then(Value::as_str);
                let miner = miner.ok_or_else(|| refuse(format!("[{place}].miner"), "is missing".into()))?;
                Ok((miner.to_owned(), weight(&format!("[{place}].weight_u16"), row.get("weight_u16"))?))
            })
            .collect(),
        Value::Object(row) => object(row.get("by_hotkey").and_then(Value::as_object).unwrap_or(row)),
        _ => Err(refuse("(file)".into(), "holds no weights".into())),
    }
}

/// The row that `score` makes of its scores, where a prompt that a miner did not answer counts as in criteria that do not say.
fn from_scores(text: String, file: String) -> Result<Vec<(String, f64)>> {
    let scores = read_scores(Source::reader(file, Cursor::new(text)))?;
    let mut tallies = vec![Tally::default(); scores.miners.len()];
    for row in &scores.rows {
        let tally = &mut tallies[row.miner as usize];
        // The file has 65535ths as floats.
        tally.sum += (row.score * 65_535.0).round() as u64;
        tally.prompts += 1;
    }
    if Unanswered::default() == Unanswered::Zero {
        tallies.iter_mut().for_each(|tally| tally.prompts = scores.prompts.len() as u64);
    }
    Ok(scores.miners.into_iter().zip(weights::row(&tallies).into_iter().map(f64::from)).collect())
}

fn usage(argument: &str, problem: impl Into<String>, remedy: &str) -> Error {
    Error::Usage { argument: argument.to_owned(), problem: problem.into(), remedy: remedy.to_owned() }
}

/// What to do about an error of the SDK, where the row comes from a round.
fn remedy(error: &SdkError) -> &'static str {
    match error {
        SdkError::BelowMinimum { .. } => "weigh more miners, or choose --below-minimum pad or burn",
        SdkError::AllZero => "find out why nobody earned anything, or choose --below-minimum burn",
        _ => "bring the weights to numbers from 0 up, of about one magnitude",
    }
}
