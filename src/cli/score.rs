//! `tauscore score`: a round in, a folder of results out.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;

use super::sign::SignArgs;
use super::table::table;
use super::{Console, DeviceArgs, LossArgs, ModelArgs, Outcome, Status, criteria, load_judge, write_json, write_text};
use crate::config::Config;
use crate::data::{Options, Round, Source};
use crate::ledger::{Digest, Head, Ledger, Place, Recording};
use crate::pipeline::{self, EpochResult, Models, Past};
use crate::stages::weights::Memory;
use crate::stages::yuma::State;
use crate::state::{self, Bounds, Record, Store, Turn};
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
    /// What is kept between rounds: a folder, which is made if it is missing. Earlier rounds in it count as answered before, and this round
    /// joins them
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// With how many earlier rounds of the state the responses are compared, at most
    #[arg(long, value_name = "N", requires = "state", default_value_t = Bounds::default().rounds)]
    state_rounds: u64,
    /// Of how many bytes these are, at most, as 512MiB or 8GB
    #[arg(long, value_name = "SIZE", requires = "state", default_value = "256MiB")]
    state_size: ByteSize,
    /// Record the round in this ledger, which is made if it is missing
    #[arg(long, value_name = "LEDGER")]
    ledger: Option<PathBuf>,
    /// The subnet that the record is of, where no state tells
    #[arg(long, value_name = "N", requires = "ledger", default_value_t = 0)]
    netuid: u16,
    #[command(flatten)]
    sign: SignArgs,
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
    /// What the models said before, of this round's parts or of earlier rounds: a file of --save-measured; repeatable
    #[arg(long, value_name = "FILE")]
    measured: Vec<PathBuf>,
    /// Keep what the models said in this file, for --measured
    #[arg(long, value_name = "FILE")]
    save_measured: Option<PathBuf>,
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
    if let Some(path) = &args.save_measured {
        check_place(path)?;
    }
    let options = Options { skip_bad: args.skip_bad };
    let sources = |paths: &[PathBuf]| paths.iter().map(Source::path).collect::<Vec<_>>();
    let bounds = Bounds { rounds: args.state_rounds, bytes: args.state_size.as_u64() };
    let store = args.state.as_deref().map(Store::open).transpose()?.map(|store| store.with_bounds(bounds));
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
    let kept = store.as_ref().map(|store| turn(store, &round, console)).transpose()?;

    let signer = args.sign.signer(console)?;
    let mut ledger = args.ledger.as_deref().map(Ledger::open).transpose()?;
    if signer.is_some() && ledger.is_none() {
        return Err(Error::Usage {
            argument: "--sign".into(),
            problem: "entries of a ledger are signed, and there is none".into(),
            remedy: "name one with --ledger".into(),
        });
    }
    if let Some(repaired) = ledger.as_ref().and_then(Ledger::repaired) {
        console.warn(&format!("ledger: {repaired}"));
    }

    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let device = embedder.device();
    let judge = load_judge(&mut config, device, args.model.offline, console)?;
    let place = place(args, &round, subnet);
    if let Some(ledger) = &ledger {
        ledger.check(place, Digest::of_criteria(&config))?;
    }
    let encoder = format!("{} {} {}", embedder.precision(), embedder.digest(), embedder.max_tokens());
    if let Some((store, (_, turn))) = store.as_ref().zip(kept) {
        history.extend(store.history(turn, &encoder)?);
    }
    let mut models = Models::new(&embedder, judge.as_ref());
    args.measured.iter().try_for_each(|path| models.read(path))?;
    let memory = match store.as_ref().zip(kept) {
        // Averages that were made under criteria before a change begin anew where the change says so.
        Some(_) if ledger.as_ref().is_some_and(Ledger::begins_anew) => Memory::default(),
        Some((store, (_, turn))) => store.memory(turn)?,
        None => Memory::default(),
    };
    let past = Past { rounds: &history, memory: &memory };
    let outcome = pipeline::score_after(past, &mut models, &round, subnet, &config, &mut console.listener())?;
    if let Some(path) = &args.save_measured {
        models.save(path)?;
    }
    let epoch = match (&state, &args.validator) {
        (Some(state), Some(validator)) => Some(pipeline::epoch(device, state, validator, &outcome)?),
        _ => None,
    };
    pipeline::write(&args.out, &round, &outcome, &config, epoch.as_ref())?;
    let epoch_of = state.as_ref().zip(epoch.as_ref());
    let recording = Recording {
        round: &round,
        history: &history,
        memory: &memory,
        outcome: &outcome,
        config: &config,
        embedder: &embedder,
        judge: judge.as_ref(),
        epoch: epoch_of,
    };
    let recorded = ledger.as_mut().map(|ledger| ledger.record(place, &recording, signer.as_ref())).transpose()?;
    // Results first: a round that is recorded has them. Killed between the two, the same command makes them anew from what was known before
    // the round, and records it then; killed later, it makes the same results again, and the round still counts once.
    if let Some((store, (digest, _))) = store.as_ref().zip(kept) {
        let embeddings = (models.embeddings(), outcome.rows.as_slice());
        let forgotten = &memory.forgotten(&outcome.memory);
        let record = Record { round: &round, digest, encoder: &encoder, embeddings, subnet, forgotten };
        store.record(record, &outcome.memory)?;
    }
    console.note(&format!(
        "{} tokens of distinct texts embedded in {:.2} s: {:.0} tokens/s",
        outcome.tokens,
        outcome.seconds,
        outcome.tokens as f64 / outcome.seconds.max(1e-9)
    ));
    let who =
        |uid: u16| state.as_ref().and_then(|state| state.hotkeys.get(usize::from(uid))).cloned().unwrap_or_default();
    let epoch = epoch.as_ref().map(|result| (result, earnings(result, who)));
    report(args, console, out, &round, &outcome, &config, epoch, &skipped, recorded.as_ref())?;
    Ok(Status::Good)
}

/// What an entry of the round is about: the subnet's state tells, else the command line and the answers' blocks.
fn place(args: &ScoreArgs, round: &Round, subnet: Option<&State>) -> Place {
    let latest = round.responses().iter().filter_map(|row| row.block).max();
    let block = latest.max(subnet.map(|subnet| subnet.block)).unwrap_or_default();
    match subnet {
        Some(subnet) => Place { netuid: subnet.netuid, mechanism: subnet.mechid, block },
        None => Place { netuid: args.netuid, mechanism: 0, block },
    }
}

/// Checks that a file can be made at `path`.
fn check_place(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if folder.is_dir() && !path.is_dir() {
        return Ok(());
    }
    let problem =
        if path.is_dir() { "it is a folder".into() } else { format!("there is no folder {}", folder.display()) };
    Err(Error::File {
        file: path.display().to_string(),
        field: "--save-measured".into(),
        problem,
        remedy: "name a file in a folder that is there".into(),
    })
}

/// The round's digest, and where it stands in the state.
fn turn(store: &Store, round: &Round, console: &Console) -> Result<([u8; 32], Turn)> {
    let digest = state::digest(round);
    let turn = store.turn(&digest)?;
    let again = if turn.again { ", scored again: it counts once" } else { "" };
    console.note(&format!("state: round {}{again}", turn.number));
    Ok((digest, turn))
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
    recorded: Option<&Head>,
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
                "ledger": recorded.map(|head| serde_json::json!({"entry": head.number, "digest": head.digest()})),
            }),
        );
    }
    write_text(out, &ranking(outcome))?;
    if let Some((_, table)) = &epoch {
        write_text(out, &format!("\n{table}"))?;
    }
    write_text(out, &format!("\ncriteria {}\n{}\n", config.digest(), files(&args.out, epoch.is_some())))?;
    if let Some((path, head)) = args.ledger.as_ref().zip(recorded) {
        write_text(out, &format!("{}: entry {}, {}\n", path.display(), head.number, head.digest()))?;
    }
    Ok(())
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
    format!(
        "{}: scores.jsonl, miners.json, copies.json, weights.json, similarity.json, criteria.toml{epoch}",
        folder.display()
    )
}
