//! `tauscore criteria`: what changes, by which digests, and who agrees.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::sign::SignArgs;
use super::table::{harmless, table};
use super::{Console, Outcome, Status, write_json, write_text};
use crate::config::Config;
use crate::ledger::{
    Approval, Body, CriteriaChanged, Digest, Head, Ledger, Place, Proposal, Tally, Vote, for_proposal, read_approvals,
    recount, tally, voters,
};
use crate::stages::yuma::State;
use crate::{Error, Result};

/// Options of `tauscore criteria`.
#[derive(Debug, clap::Args)]
pub(super) struct CriteriaArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Compare two criteria files key by key, as they are in effect; exit 1 if they differ
    Diff {
        /// The one file
        #[arg(value_name = "A")]
        old: PathBuf,
        /// The other
        #[arg(value_name = "B")]
        new: PathBuf,
    },
    /// Print the digest that criteria are told by, as `tauscore config` does
    Digest {
        /// A criteria file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Sign that a validator agrees to other criteria: one JSON line, to be gathered in a file
    Approve(ApproveArgs),
    /// Count the stake behind other criteria; exit 1 if it is not enough
    Tally(TallyArgs),
    /// Put other criteria into force in a ledger, by an entry of their own
    Adopt(AdoptArgs),
}

/// Options of `tauscore criteria adopt`.
#[derive(Debug, clap::Args)]
struct AdoptArgs {
    /// The ledger
    #[arg(value_name = "LEDGER")]
    ledger: PathBuf,
    /// The new criteria, as `score` is to be given them
    #[arg(value_name = "FILE")]
    criteria: PathBuf,
    /// Whether averages and ratings made under the old ones go on (keep) or begin anew (reset)
    #[arg(long, value_name = "WHAT")]
    averages: Averages,
    /// What `criteria approve` printed for the subnet's validators; without it the change is the ledger's owner's alone
    #[arg(long, value_name = "APPROVALS.jsonl", requires = "metagraph")]
    approvals: Option<PathBuf>,
    /// The subnet's state, which says who may vote with how much stake, and kappa
    #[arg(long, value_name = "STATE", requires = "approvals")]
    metagraph: Option<PathBuf>,
    /// The block of the change [default: that of the last entry]
    #[arg(long, value_name = "BLOCK")]
    block: Option<u64>,
    #[command(flatten)]
    sign: SignArgs,
}

/// What becomes of averages and ratings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Averages {
    Keep,
    Reset,
}

/// Which change of criteria.
#[derive(Debug, clap::Args)]
struct ChangeArgs {
    /// The criteria in force: a file or a digest; left out where there are none yet
    #[arg(long, value_name = "FILE|DIGEST")]
    from: Option<String>,
    /// The criteria that are to be: a file
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Options of `tauscore criteria approve`.
#[derive(Debug, clap::Args)]
struct ApproveArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// The subnet
    #[arg(long, value_name = "N")]
    netuid: u16,
    /// The mechanism within the subnet
    #[arg(long, value_name = "M", default_value_t = 0)]
    mechanism: u8,
    #[command(flatten)]
    sign: SignArgs,
}

/// Options of `tauscore criteria tally`.
#[derive(Debug, clap::Args)]
struct TallyArgs {
    /// What `criteria approve` printed for the validators, in one file; `-` for standard input
    #[arg(value_name = "APPROVALS.jsonl")]
    approvals: PathBuf,
    #[command(flatten)]
    change: ChangeArgs,
    /// The subnet's state, which says who may vote with how much stake, and kappa
    #[arg(long, value_name = "STATE")]
    metagraph: PathBuf,
}

pub(super) fn run(args: &CriteriaArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    match &args.command {
        Command::Diff { old, new } => diff(old, new, console, out),
        Command::Digest { file } => {
            let digest = Config::read(file)?.digest();
            if console.json {
                write_json(out, &json!({"digest": digest}))?;
            } else {
                write_text(out, &format!("{digest}\n"))?;
            }
            Ok(Status::Good)
        }
        Command::Approve(args) => approve(args, console, out),
        Command::Tally(args) => count(args, console, out),
        Command::Adopt(args) => adopt(args, console, out),
    }
}

fn diff(old: &Path, new: &Path, console: &Console, out: &mut dyn Write) -> Outcome {
    let (old, new) = (Config::read(old)?, Config::read(new)?);
    let differences = old.differences(&new);
    if console.json {
        let (from, to) = (old.digest(), new.digest());
        write_json(out, &json!({"from": from, "to": to, "differences": differences}))?;
    } else {
        for difference in &differences {
            write_text(out, &format!("{}\n", harmless(&difference.to_string())))?;
        }
    }
    Ok(if differences.is_empty() { Status::Good } else { Status::Finding })
}

impl ChangeArgs {
    /// The digests of the criteria in force and of those that are to be.
    fn digests(&self) -> Result<(Digest, Digest)> {
        let of = |path: &Path| Config::read(path).map(|criteria| Digest::of_criteria(&criteria));
        let from = match &self.from {
            None => Digest::default(),
            Some(from) => from.parse().or_else(|_| of(Path::new(from)))?,
        };
        let to = of(&self.to)?;
        if from == to {
            return Err(Error::Usage {
                argument: "--to".into(),
                problem: format!("these are the criteria in force, {from}"),
                remedy: "name criteria in which something differs: `tauscore criteria diff` tells what".into(),
            });
        }
        Ok((from, to))
    }
}

fn approve(args: &ApproveArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let (from, to) = args.change.digests()?;
    let signer = args.sign.signer(console)?.ok_or_else(|| Error::Usage {
        argument: "--sign".into(),
        problem: "an approval needs a signature".into(),
        remedy: "name a key file, or a command with --sign-command and its --hotkey".into(),
    })?;
    let proposal = Proposal { from, to, netuid: args.netuid, mechanism: args.mechanism };
    write_json(out, &proposal.approve(&signer)?)?;
    Ok(Status::Good)
}

/// Rao as alpha.
fn alpha(rao: u128) -> String {
    format!("{:.4}", rao as f64 / 1e9)
}

/// A tally in a sentence.
fn said(tally: &Tally) -> String {
    let share = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
    format!(
        "{} of {} alpha approve, {:.2} %; {:.2} % are needed",
        alpha(tally.approved),
        alpha(tally.total),
        share(tally.approved as f64, tally.total as f64),
        share(tally.kappa.into(), u16::MAX.into())
    )
}

fn count(args: &TallyArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let (from, to) = args.change.digests()?;
    let tally = tally(&read_approvals(&args.approvals)?, &State::read(&args.metagraph)?, from, to)?;
    if console.json {
        write_json(out, &json!({"from": from, "to": to, "tally": tally}))?;
    } else {
        let rows: Vec<[String; 3]> = tally
            .approvers
            .iter()
            .map(|voter| [voter.uid.to_string(), voter.hotkey.clone(), alpha(voter.stake.into())])
            .collect();
        let verdict = if tally.adopted { "adopted" } else { "not adopted" };
        let table = table(["uid ", "approved by", "stake "], &rows);
        write_text(out, &format!("{verdict}: {}\n\n{table}", said(&tally)))?;
    }
    Ok(if tally.adopted { Status::Good } else { Status::Finding })
}

fn adopt(args: &AdoptArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let signer = args.sign.signer(console)?;
    let config = Config::read(&args.criteria)?;
    let refuse = |argument: &Path, problem: String, remedy: &str| {
        Err(Error::Usage { argument: argument.display().to_string(), problem, remedy: remedy.into() })
    };
    if !args.ledger.exists() {
        return refuse(
            &args.ledger,
            "there is no such ledger".into(),
            "the first round brings its criteria: `score --ledger`",
        );
    }
    let mut ledger = Ledger::open(&args.ledger)?;
    if let Some(repaired) = ledger.repaired() {
        console.warn(&format!("ledger: {repaired}"));
    }
    let Some(Head { netuid, mechanism, block, criteria: from, .. }) = ledger.last().map(|last| last.head.clone())
    else {
        return refuse(
            &args.ledger,
            "it has no entry yet".into(),
            "the first round brings its criteria: `score --ledger`",
        );
    };
    let to = Digest::of_criteria(&config);
    if from == to {
        return refuse(&args.criteria, format!("these are the criteria in force, {from}"), "nothing is to be done");
    }
    let place = Place { netuid, mechanism, block: args.block.unwrap_or(block) };
    if place.block < block {
        let problem = format!("--block {} is before the last entry's, {block}", place.block);
        return refuse(&args.ledger, problem, "leave it out, or give a later one");
    }
    let vote = match (&args.approvals, &args.metagraph) {
        (Some(approvals), Some(state)) => {
            Some(vote(&read_approvals(approvals)?, &State::read(state)?, place, from, to)?)
        }
        _ => None,
    };
    let keeps_memory = args.averages == Averages::Keep;
    let tally = vote.as_ref().map(|vote| vote.tally.clone());
    let change = CriteriaChanged { from, to, criteria: config.to_toml(), keeps_memory, vote: vote.map(Box::new) };
    let head = ledger.append(place, to, Body::CriteriaChanged(change), signer.as_ref())?;
    if console.json {
        let value = json!({"entry": head.number, "digest": head.digest(), "from": from, "to": to, "tally": tally});
        write_json(out, &value)?;
    } else {
        let by = tally.map_or("by its owner's decision alone".to_owned(), |tally| format!("with {}", said(&tally)));
        let memory = if keeps_memory { "go on" } else { "begin anew" };
        write_text(
            out,
            &format!(
                "{}: entry {}, {}\ncriteria {to} from now on, {by}; averages and ratings {memory}\n",
                args.ledger.display(),
                head.number,
                head.digest()
            ),
        )?;
    }
    Ok(Status::Good)
}

/// The vote on a change; refused where it is not carried.
fn vote(approvals: &[Approval], state: &State, place: Place, from: Digest, to: Digest) -> Result<Vote> {
    let refuse = |problem: String, remedy: &str| {
        Err(Error::Usage { argument: "--approvals".into(), problem, remedy: remedy.into() })
    };
    if (state.netuid, state.mechid) != (place.netuid, place.mechanism) {
        let problem = format!(
            "the state is of subnet {}.{}, and the ledger of {}.{}",
            state.netuid, state.mechid, place.netuid, place.mechanism
        );
        return refuse(problem, "give the state of the ledger's subnet");
    }
    let proposal = Proposal { from, to, netuid: place.netuid, mechanism: place.mechanism };
    let (voters, kappa, approvals) = (voters(state)?, state.hyper.kappa, for_proposal(approvals, &proposal));
    let tally = recount(&proposal, &voters, kappa, &approvals)?;
    if !tally.adopted {
        let problem = format!("the change is not carried: {}", said(&tally));
        return refuse(problem, "gather more, or leave --approvals out: the change is then the ledger's owner's alone");
    }
    Ok(Vote { voters, kappa, approvals, tally })
}
