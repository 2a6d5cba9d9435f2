//! `tauscore score`: a round in, a folder of results out.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::table::table;
use super::{Console, DeviceArgs, LossArgs, ModelArgs, Outcome, Status, criteria, load_judge, write_json, write_text};
use crate::config::Config;
use crate::data::{Options, Round, Source};
use crate::pipeline::{self, EpochResult};
use crate::stages::yuma::State;
use crate::{Error, Result};

/// Options of `tauscore score`.
#[derive(Debug, clap::Args)]
pub(super) struct ScoreArgs {
    /// The round: JSON Lines of {"prompt_id", "prompt", "miner", "response"}, plain or gzip; `-` for standard input
    #[arg(required = true, value_name = "ROUND")]
    rounds: Vec<PathBuf>,
    /// References: JSON Lines of {"prompt_id", "reference"}
    #[arg(long, value_name = "FILE")]
    references: Vec<PathBuf>,
    /// An earlier round, whose responses count as answered before; repeatable, the oldest first
    #[arg(long, value_name = "FILE")]
    history: Vec<PathBuf>,
    /// The criteria (TOML); the defaults if left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    loss: LossArgs,
    /// The subnet's state, to give hotkeys their uids
    #[arg(long, value_name = "STATE")]
    metagraph: Option<PathBuf>,
    /// The subnet's state: run its epoch with this row in a validator's place
    #[arg(long, value_name = "STATE", requires = "validator")]
    epoch: Option<PathBuf>,
    /// The validator whose row this is: uid or hotkey
    #[arg(long, value_name = "UID|HOTKEY", requires = "epoch")]
    validator: Option<String>,
    /// Leave bad rows out and list them instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    /// Where the results go: a new folder, or one that an earlier run wrote
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: &ScoreArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut config = criteria(args.config.as_deref())?;
    args.model.apply(&mut config);
    args.loss.apply(&mut config);
    // Whatever can be refused is refused before a model is fetched and hours are spent.
    pipeline::check_folder(&args.out)?;
    let options = Options { skip_bad: args.skip_bad };
    let sources = |paths: &[PathBuf]| paths.iter().map(Source::path).collect::<Vec<_>>();
    let (round, mut skipped) = Round::read(sources(&args.rounds), sources(&args.references), options)?;
    let mut history = Vec::new();
    for path in &args.history {
        let (earlier, bad) = Round::read([Source::path(path)], [], options)?;
        history.push(earlier);
        skipped.extend(bad);
    }
    console.left_out(&skipped, "rows");
    if round.unused_references() > 0 {
        console.note(&format!("{} references are to prompts that nobody answered", round.unused_references()));
    }
    let state = args.epoch.as_deref().map(State::read).transpose()?;
    let metagraph = args.metagraph.as_deref().map(State::read).transpose()?;
    if let (Some(path), Some(state)) = (&args.metagraph, &metagraph)
        && state.hotkeys.is_empty()
    {
        return Err(Error::File {
            file: path.display().to_string(),
            field: "hotkeys".into(),
            problem: "there are none to find uids by".into(),
            remedy: "give the state its `hotkeys`, or leave out --metagraph to take the rows' uids".into(),
        });
    }
    let subnet = metagraph.as_ref().or(state.as_ref()).filter(|state| !state.hotkeys.is_empty());
    if let (Some(state), Some(validator)) = (&state, &args.validator) {
        pipeline::validator(state, validator)?;
    }
    pipeline::check_references(&round, &config.loss)?;
    pipeline::check_owner(&config, subnet)?;

    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let device = embedder.device();
    let judge = load_judge(&mut config, device, args.model.offline, console)?;
    let outcome =
        pipeline::score(&embedder, judge.as_ref(), &round, &history, subnet, &config, &mut console.listener())?;
    let epoch = match (&state, &args.validator) {
        (Some(state), Some(validator)) => Some(pipeline::epoch(device, state, validator, &outcome)?),
        _ => None,
    };
    pipeline::write(&args.out, &round, &outcome, &config, epoch.as_ref())?;
    console.note(&format!(
        "{} tokens of distinct texts embedded in {:.2} s: {:.0} tokens/s",
        outcome.tokens,
        outcome.seconds,
        outcome.tokens as f64 / outcome.seconds.max(1e-9)
    ));
    let who =
        |uid: u16| state.as_ref().and_then(|state| state.hotkeys.get(usize::from(uid))).cloned().unwrap_or_default();
    let epoch = epoch.as_ref().map(|result| (result, earnings(result, who)));
    report(args, console, out, &round, &outcome, &config, epoch, &skipped)?;
    Ok(Status::Good)
}

#[expect(clippy::too_many_arguments, reason = "it joins everything that the command has found")]
fn report(
    args: &ScoreArgs,
    console: &Console,
    out: &mut dyn Write,
    round: &Round,
    outcome: &pipeline::Outcome,
    config: &Config,
    epoch: Option<(&EpochResult, String)>,
    skipped: &[Error],
) -> Result<()> {
    if console.json {
        return write_json(
            out,
            &serde_json::json!({
                "out": args.out.display().to_string(),
                "criteria": config.digest(),
                "responses": round.responses().len(),
                "prompts": round.prompts().len(),
                "miners": round.miners().len(),
                "copies": outcome.miners.iter().map(|miner| miner.copies).sum::<usize>(),
                "skipped": skipped.len(),
                "tokens": outcome.tokens,
                "embedding_seconds": outcome.seconds,
                "epoch": epoch.map(|(result, _)| result),
            }),
        );
    }
    write_text(out, &ranking(outcome))?;
    if let Some((_, table)) = &epoch {
        write_text(out, &format!("\n{table}"))?;
    }
    write_text(out, &format!("\ncriteria {}\n{}\n", config.digest(), files(&args.out, epoch.is_some())))
}

/// The miners, the best first.
pub(super) fn ranking(outcome: &pipeline::Outcome) -> String {
    let rows: Vec<[String; 8]> = outcome
        .ranking()
        .into_iter()
        .map(|miner| {
            [
                miner.miner.clone(),
                miner.uid.map_or("-".to_owned(), |uid| uid.to_string()),
                miner.prompts.to_string(),
                miner.copies.to_string(),
                format!("{:.4}", miner.accuracy),
                format!("{:.4}", miner.novelty),
                format!("{:.4}", miner.score()),
                format!("{:.2} %", outcome.share(miner) * 100.0),
            ]
        })
        .collect();
    table(["miner", "uid ", "prompts ", "copies ", "accuracy ", "novelty ", "score ", "weight "], &rows)
}

/// What the epoch pays, by uid: those who earn or validate.
pub(super) fn earnings(result: &EpochResult, who: impl Fn(u16) -> String) -> String {
    let chain = &result.chain;
    let share = |value: u16| format!("{:.2} %", f64::from(value) / 655.35);
    let rows: Vec<[String; 7]> = (0..chain.emission.len())
        .filter(|uid| chain.emission[*uid] > 0 || chain.new_validator_permit[*uid] || chain.incentive[*uid] > 0)
        .map(|uid| {
            [
                uid.to_string(),
                who(uid as u16),
                share(chain.consensus[uid]),
                share(chain.validator_trust[uid]),
                share(chain.incentive[uid]),
                share(chain.dividends[uid]),
                format!("{:.4}", chain.emission[uid] as f64 / 1e9),
            ]
        })
        .collect();
    table(["uid ", "who", "consensus ", "validator trust ", "incentive ", "dividends ", "alpha "], &rows)
}

/// Which files were written.
fn files(folder: &Path, epoch: bool) -> String {
    let epoch = if epoch { ", epoch.json" } else { "" };
    format!("{}: scores.jsonl, miners.json, copies.json, weights.json, criteria.toml{epoch}", folder.display())
}
