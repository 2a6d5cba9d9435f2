//! `tauscore state`: a subnet's state from what tools write, and what is kept between rounds.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::Result;
use crate::stages::yuma::{Epoch, State};
use crate::state::Store;

/// Options of `tauscore state`.
#[derive(Debug, clap::Args)]
pub(super) struct StateArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read a metagraph and write it as a subnet's state, which --metagraph, --epoch and `epoch` take
    ///
    /// Recognised by their shapes are btcli 11's JSON (`btcli --json subnets metagraph N`), what datasets/scripts/dump_metagraph_11.py and
    /// dump_metagraph_9_10.py write, reference vectors (their first epoch), and states. All other commands read them as they are, too.
    Import {
        /// The file, plain or gzip; `-` for standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the state goes, packed where the name ends in .gz [default: standard output]
        #[arg(short, long, value_name = "STATE.json")]
        out: Option<PathBuf>,
        /// What the next epoch distributes, in rao of alpha [default: what the metagraph's neurons earned last, together]
        #[arg(long, value_name = "RAO")]
        rao_emission: Option<u64>,
    },
    /// Show a subnet's state, or what a folder keeps between rounds
    Show {
        /// A state or anything that `state import` reads; or the folder that `score --state` names
        #[arg(value_name = "STATE|DIR")]
        path: PathBuf,
    },
    /// Let a hotkey go on as another in what is kept, as after a hotkey swap on the chain
    ///
    /// What was gathered under the new name since is given up. A swap is never guessed: that two hotkeys have one coldkey does not make them
    /// one miner.
    Swap {
        /// The folder that `score --state` names
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        /// The hotkey before
        #[arg(long, value_name = "HOTKEY")]
        from: String,
        /// The hotkey since
        #[arg(long, value_name = "HOTKEY")]
        to: String,
    },
}

pub(super) fn run(args: &StateArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    match &args.command {
        Command::Import { file, out: to, rao_emission } => {
            import(file, to.as_deref(), *rao_emission, console, out)?;
        }
        Command::Show { path } if path.is_dir() => show_kept(&Store::open_existing(path)?, console, out)?,
        Command::Show { path } => show_subnet(&State::read(path)?, console, out)?,
        Command::Swap { folder, from, to } => {
            Store::open_existing(folder)?.swap(from, to)?;
            if console.json {
                write_json(out, &json!({"from": from, "to": to}))?;
            } else {
                write_text(out, &table(["from", "to"], &[[from.clone(), to.clone()]]))?;
            }
        }
    }
    Ok(Status::Good)
}

fn import(
    file: &Path,
    to: Option<&Path>,
    rao_emission: Option<u64>,
    console: &Console,
    out: &mut dyn Write,
) -> Result<()> {
    let mut state = State::read(file)?;
    if let Some(rao_emission) = rao_emission {
        let mut fields = state.into_fields();
        fields.rao_emission = rao_emission;
        state = State::new(fields)?;
    }
    if state.weights.is_empty() {
        console.warn(
            "it holds no weights: an epoch of it pays nobody. Dump the matrices too (sync(lite=False) with bittensor 9 and 10)",
        );
    }
    if state.rao_emission == 0 {
        console.warn("nothing is known of what the epoch distributes: say it with --rao-emission");
    }
    let Some(to) = to else { return write_json(out, &state) };
    state.write(to)?;
    let (n, block, rows) = (state.n(), state.block, weighing(&state));
    if console.json {
        return write_json(out, &json!({"out": to.display().to_string(), "n": n, "block": block, "rows": rows}));
    }
    write_text(out, &format!("{}: {n} neurons at block {block}, {rows} rows of weights\n", to.display()))
}

/// How many neurons have a row of weights.
fn weighing(state: &State) -> usize {
    (0..state.n()).filter(|uid| state.weights.row(*uid).len() > 0).count()
}

fn show_subnet(state: &State, console: &Console, out: &mut dyn Write) -> Result<()> {
    let epoch = Epoch::new(state);
    let name = |names: &[String], uid: usize| names.get(uid).cloned().unwrap_or_default();
    let block = |blocks: &[u64], uid: usize| blocks.get(uid).copied().unwrap_or(0);
    if console.json {
        let neurons: Vec<Value> = (0..state.n())
            .map(|uid| {
                json!({
                    "uid": uid,
                    "hotkey": state.hotkeys.get(uid),
                    "coldkey": state.coldkeys.get(uid),
                    "rao_stake": state.stake[uid].to_string(),
                    "validator_permit": state.validator_permit[uid],
                    "last_update": block(&state.last_update, uid),
                    "block_at_registration": block(&state.block_at_registration, uid),
                    "weights": state.weights.row(uid).len(),
                    "incentive": epoch.incentive[uid],
                    "dividends": epoch.dividends[uid],
                    "rao_emission": epoch.emission[uid].to_string(),
                })
            })
            .collect();
        return write_json(
            out,
            &json!({
                "netuid": state.netuid,
                "mechid": state.mechid,
                "block": state.block,
                "n": state.n(),
                "rows": weighing(state),
                "rao_emission": state.rao_emission.to_string(),
                "hyper": state.hyper,
                "neurons": neurons,
            }),
        );
    }
    let share = |value: u16| if value == 0 { "-".to_owned() } else { format!("{:.2} %", f64::from(value) / 655.35) };
    let rows: Vec<[String; 9]> = (0..state.n())
        .map(|uid| {
            [
                uid.to_string(),
                name(&state.hotkeys, uid),
                name(&state.coldkeys, uid),
                format!("{:.4}", state.stake[uid] as f64 / 1e9),
                if state.validator_permit[uid] { "yes" } else { "-" }.to_owned(),
                block(&state.last_update, uid).to_string(),
                state.weights.row(uid).len().to_string(),
                share(epoch.incentive[uid]),
                share(epoch.dividends[uid]),
            ]
        })
        .collect();
    let head = ["uid ", "hotkey", "coldkey", "stake ", "permit", "last update ", "weighs ", "incentive ", "dividends "];
    let (netuid, mechid, n) = (state.netuid, state.mechid, state.n());
    let pot = state.rao_emission as f64 / 1e9;
    write_text(
        out,
        &format!(
            "subnet {netuid}, mechanism {mechid}, block {}: {n} neurons, tempo {}, {pot:.4} alpha an epoch\n\
             incentive and dividends: what the epoch makes of this state\n\n{}",
            state.block,
            state.hyper.tempo,
            table(head, &rows)
        ),
    )
}

fn show_kept(store: &Store, console: &Console, out: &mut dyn Write) -> Result<()> {
    let size = store.size()?;
    let kinds: Map<String, Value> = store.memory(store.next()?)?;
    // By hotkey: the coldkey, and what is known of each kind.
    let mut miners: BTreeMap<String, (Option<String>, Map<String, Value>)> =
        store.coldkeys()?.into_iter().map(|(hotkey, coldkey)| (hotkey, (Some(coldkey), Map::new()))).collect();
    for (kind, of_kind) in kinds {
        for (hotkey, known) in of_kind.as_object().into_iter().flatten() {
            miners.entry(hotkey.clone()).or_default().1.insert(kind.clone(), known.clone());
        }
    }
    if console.json {
        let miners: Vec<Value> = miners
            .iter()
            .map(|(hotkey, (coldkey, known))| json!({"hotkey": hotkey, "coldkey": coldkey, "known": known}))
            .collect();
        return write_json(out, &json!({"size": size, "miners": miners}));
    }
    let rows: Vec<[String; 3]> = miners
        .into_iter()
        .map(|(hotkey, (coldkey, known))| {
            let known: Vec<String> = known.iter().map(|(kind, value)| format!("{kind} {value}")).collect();
            [hotkey, coldkey.unwrap_or_default(), known.join(", ")]
        })
        .collect();
    write_text(
        out,
        &format!(
            "{} rounds recorded; the bank holds {} of them, {} responses, {}\n\n{}",
            size.recorded,
            size.rounds,
            size.responses,
            bytesize::ByteSize(size.bytes),
            table(["hotkey", "coldkey", "known"], &rows)
        ),
    )
}
