//! `tauscore demo`: real responses, three validators who each saw other prompts, one epoch.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::score::{earnings, ranking};
use super::{Console, DeviceArgs, LossArgs, ModelArgs, Outcome, Status, criteria, load_judge, write_json, write_text};
use crate::data::{Options, ReferenceRow, Round, Row, Source};
use crate::matrix::Csr;
use crate::pipeline::{self, Models};
use crate::report::Report;
use crate::stages::emission::{OWNER_CUT, Split};
use crate::stages::yuma::{Epoch, Fields, Hyperparameters, State};
use crate::{Error, Result, fixed::U96F32, whole};

/// Real answers to grade-school mathematics questions, and copies of them (datasets/README.md).
const ROUND: &str = include_str!("../../datasets/gsm8k/round.jsonl");
const REFERENCES: &str = include_str!("../../datasets/gsm8k/references.jsonl");

/// Validators' names and stakes in alpha. Their uids come first, the miners' follow.
const VALIDATORS: [(&str, u64); 3] =
    [("validator_large", 50_000), ("validator_middle", 30_000), ("validator_small", 20_000)];

/// Options of `tauscore demo`.
#[derive(Debug, clap::Args)]
pub(super) struct DemoArgs {
    /// Where the results go
    #[arg(long, value_name = "DIR", default_value = "tauscore-demo")]
    out: PathBuf,
    /// The criteria (TOML); the defaults if left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many of the 240 questions are asked [default: all, or 24 where a language model judges]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=240))]
    questions: Option<u16>,
    #[command(flatten)]
    loss: LossArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: &DemoArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let began = Instant::now();
    let mut config = criteria(args.config.as_deref())?;
    args.model.apply(&mut config);
    args.loss.apply(&mut config);
    for (name, _) in VALIDATORS {
        pipeline::check_folder(&args.out.join(name))?;
    }
    // A language model takes minutes for what is there: a dozen questions for each validator show how it works.
    let few = if config.loss.reading().is_some() { 24 } else { usize::MAX };
    let questions = args.questions.map_or(few, usize::from);
    let round = part(&round()?, |prompt| prompt < questions)?;
    pipeline::check_references(&round, &config.loss)?;
    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let device = embedder.device();
    let judge = load_judge(&mut config, device, args.model.offline, console)?;

    let text = !console.json;
    if text {
        write_text(
            out,
            &format!(
                "{} real answers by {} miners to {} questions; three validators each see half of the questions.\n\
                 Three of the miners are copycats: they hand in, later, what another one answered.\n",
                round.responses().len(),
                round.miners().len(),
                round.prompts().len()
            ),
        )?;
    }
    // The validators are of one machine here: what one's models read, they need not read for another.
    let mut models = Models::new(&embedder, judge.as_ref());
    let mut outcomes = Vec::new();
    for (validator, (name, _)) in VALIDATORS.iter().enumerate() {
        let seen = sample(&round, validator)?;
        let outcome = pipeline::score(&mut models, &seen, &[], None, &config, &mut console.listener())?;
        pipeline::write(&args.out.join(name), &seen, &outcome, &config, None::<&()>)?;
        if text {
            write_text(out, &format!("\n{name} ({} questions)\n{}", seen.prompts().len(), ranking(&outcome)))?;
        }
        outcomes.push(outcome);
    }

    let state = subnet(&round, &outcomes)?;
    let result = pipeline::EpochResult::new(device, 0, &state)?;
    write_subnet(&args.out, &state, &result.chain)?;
    let report = args.out.join("report.html");
    whole::write(&report, Report::from_folder(&args.out)?.to_html().as_bytes())?;
    if console.json {
        let folder = args.out.display().to_string();
        let value = serde_json::json!({"out": folder, "hotkeys": state.hotkeys, "chain": result.chain,
            "seconds": began.elapsed().as_secs_f64()});
        write_json(out, &value)?;
        return Ok(Status::Good);
    }
    let name = |uid: u16| state.hotkeys.get(usize::from(uid)).cloned().unwrap_or_default();
    write_text(out, &format!("\nThe epoch: Yuma Consensus over the three rows\n{}", earnings(&result, name)))?;
    write_text(out, &format!("\n{}", verdict(&state, &result.chain)))?;
    let names = VALIDATORS.map(|(name, _)| name).join(", ");
    write_text(
        out,
        &format!(
            "{0}: subnet.json (the state), epoch.json, and of each validator ({names})\n  scores.jsonl, miners.json, copies.json, weights.json, \
             similarity.json, criteria.toml\nTry: tauscore epoch {0}/subnet.json\nLook at: {3}\n{1:.1} s on {2}\n",
            args.out.display(),
            began.elapsed().as_secs_f64(),
            device.name(),
            report.display()
        ),
    )?;
    Ok(Status::Good)
}

/// The round that ships with the code.
pub(super) fn round() -> Result<Round> {
    let sources = |name: &str, text: &'static str| [Source::reader(name, text.as_bytes())];
    Ok(Round::read(sources("round", ROUND), sources("references", REFERENCES), Options::default())?.0)
}

/// The half of the prompts that a validator sees: which ones is spread evenly and differs between validators.
fn sample(round: &Round, validator: usize) -> Result<Round> {
    part(round, |prompt| (prompt.wrapping_mul(0x9e37_79b1).wrapping_add(validator * 0x5555_5555) >> 16) & 1 == 1)
}

/// The responses to some of the prompts.
fn part(round: &Round, asked: impl Fn(usize) -> bool) -> Result<Round> {
    let rows = round.responses().iter().filter(|row| asked(row.prompt as usize)).filter_map(|row| {
        let miner = round.miner_of(row)?;
        Some(Row {
            prompt_id: round.prompt_of(row)?.id.clone(),
            miner: miner.hotkey.as_str().to_owned(),
            response: row.text.clone(),
            uid: miner.uid.map(|uid| uid.0),
            block: row.block,
            ..Row::default()
        })
    });
    let references = round.prompts().iter().filter_map(|prompt| {
        Some(ReferenceRow {
            prompt_id: prompt.id.clone(),
            prompt: prompt.text.clone(),
            reference: prompt.reference.clone()?,
            tokens: prompt.tokens.clone(),
            rule: prompt.rule.clone(),
        })
    });
    Ok(Round::from_rows(rows, references, Options::default())?.0)
}

/// The subnet as it is when the validators have set their weights: a fresh one, one tempo's alpha to share.
fn subnet(round: &Round, outcomes: &[pipeline::Outcome]) -> Result<State> {
    const RAO: u64 = 1_000_000_000;
    let miners = outcomes.first().map_or(&[][..], |outcome| &outcome.miners);
    let uids = miners.iter().filter_map(|miner| miner.uid).map(|uid| usize::from(uid.0) + 1);
    let n = uids.max().unwrap_or(0).max(VALIDATORS.len());
    let mut hotkeys: Vec<String> = (0..n).map(|uid| format!("unused_{uid}")).collect();
    for (hotkey, (name, _)) in hotkeys.iter_mut().zip(VALIDATORS) {
        *hotkey = name.to_owned();
    }
    for miner in miners {
        if let Some(uid) = miner.uid {
            hotkeys[usize::from(uid.0)].clone_from(&miner.miner);
        }
    }
    let block = round.responses().iter().filter_map(|row| row.block).max().unwrap_or(0) + 1;
    let hyper = Hyperparameters::default();
    let mut weights = Csr::empty(n);
    for (validator, outcome) in outcomes.iter().enumerate() {
        weights.set_row(validator, &outcome.chain_row());
    }
    let is_validator = |uid: usize| uid < VALIDATORS.len();
    State::new(Fields {
        netuid: 1,
        coldkeys: hotkeys.iter().map(|hotkey| format!("coldkey_of_{hotkey}")).collect(),
        hotkeys,
        block,
        last_mechanism_step_block: block - u64::from(hyper.tempo),
        rao_emission: u64::from(hyper.tempo) * Split::new(RAO, OWNER_CUT, U96F32::ZERO).pot(),
        stake: (0..n).map(|uid| VALIDATORS.get(uid).map_or(0, |(_, alpha)| alpha * RAO)).collect(),
        validator_permit: (0..n).map(is_validator).collect(),
        last_update: (0..n).map(|uid| if is_validator(uid) { block } else { 0 }).collect(),
        block_at_registration: vec![0; n],
        weights,
        bonds: Csr::empty(n),
        hyper,
        ..Fields::default()
    })
}

/// Writes the state and its epoch, each under another name first.
fn write_subnet(folder: &Path, state: &State, epoch: &Epoch) -> Result<()> {
    let settle = |name: &str, write: &dyn Fn(&Path) -> Result<()>| {
        let (new, path) = (folder.join(format!(".{name}.new")), folder.join(name));
        write(&new)?;
        std::fs::rename(&new, &path).map_err(|error| Error::io(&path, error))
    };
    settle("subnet.json", &|path| state.write(path))?;
    settle("epoch.json", &|path| {
        let text = serde_json::json!({ "chain": epoch }).to_string() + "\n";
        std::fs::write(path, text).map_err(|error| Error::io(path, error))
    })
}

/// What the copycats got, in one sentence.
fn verdict(state: &State, epoch: &Epoch) -> String {
    let miners = || state.hotkeys.iter().zip(&epoch.server_emission).skip(VALIDATORS.len());
    let of = |copies: bool| miners().filter(move |(hotkey, _)| hotkey.starts_with("copycat_") == copies);
    let total: u64 = miners().map(|(_, rao)| rao).sum();
    let copied: u64 = of(true).map(|(_, rao)| rao).sum();
    let share = 100.0 * copied as f64 / total.max(1) as f64;
    let (copies, originals) = (of(true).count(), of(false).count());
    format!(
        "The {copies} copycats together earned {share:.2} % of what the miners got, the {originals} originals the rest.\n"
    )
}
