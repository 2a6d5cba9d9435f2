//! `tauscore criteria`: what changes, by which digests, and who agrees.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::sign::SignArgs;
use super::table::{harmless, table};
use super::{Console, Outcome, Status, write_json, write_text};
use crate::config::Config;
use crate::ledger::{Digest, Proposal, Tally, Voter, read_approvals, tally};
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
        let of = |path: &Path| Config::read(path).map(|criteria| Digest::of(criteria.to_toml().as_bytes()));
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

fn count(args: &TallyArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let (from, to) = args.change.digests()?;
    let tally = tally(&read_approvals(&args.approvals)?, &State::read(&args.metagraph)?, from, to)?;
    if console.json {
        write_json(out, &json!({"from": from, "to": to, "tally": tally}))?;
    } else {
        write_text(out, &shown(&tally))?;
    }
    Ok(if tally.adopted { Status::Good } else { Status::Finding })
}

/// A tally as a person reads it.
fn shown(tally: &Tally) -> String {
    let alpha = |rao: u128| format!("{:.4}", rao as f64 / 1e9);
    let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
    let row = |voter: &Voter| [voter.uid.to_string(), voter.hotkey.clone(), alpha(voter.stake.into())];
    let rows: Vec<[String; 3]> = tally.approvers.iter().map(row).collect();
    format!(
        "{}: {} of {} alpha approve, {:.2} %; {:.2} % are needed\n\n{}",
        if tally.adopted { "adopted" } else { "not adopted" },
        alpha(tally.approved),
        alpha(tally.total),
        percent(tally.approved as f64, tally.total as f64),
        percent(tally.kappa.into(), u16::MAX.into()),
        table(["uid ", "approved by", "stake "], &rows)
    )
}
