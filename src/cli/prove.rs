//! `tauscore prove`: what a miner keeps to show that he is in a record.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::{Console, Outcome, Status, write_json, write_text};
use crate::ledger::{self, Demands};
use crate::{Error, whole};

/// Options of `tauscore prove`.
#[derive(Debug, clap::Args)]
pub(super) struct ProveArgs {
    /// The ledger
    #[arg(value_name = "LEDGER")]
    ledger: PathBuf,
    /// The miner
    #[arg(long, value_name = "HOTKEY")]
    hotkey: String,
    /// Of which entry [default: the last one that he is in]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    entry: Option<u64>,
    /// Where the proof goes; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(args: &ProveArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut proof = None;
    let verified = ledger::verify(&args.ledger, &Demands::default(), |entry| {
        if args.entry.is_none_or(|number| number == entry.head.number) {
            proof = ledger::prove(&entry, &args.hotkey).or(proof.take());
        }
    })?;
    if let Some(finding) = verified.findings.first() {
        return Err(Error::File {
            file: args.ledger.display().to_string(),
            field: finding.field.clone(),
            problem: finding.to_string(),
            remedy: "what does not verify proves nothing: see `tauscore verify`".into(),
        });
    }
    let Some(proof) = proof else {
        let entry = args.entry.map_or("any entry".to_owned(), |number| format!("entry {number}"));
        return Err(Error::Usage {
            argument: "--hotkey".into(),
            problem: format!("{:?} is not in {entry} of the {}", args.hotkey, verified.entries),
            remedy: "name a miner of a recorded round by his hotkey, and the entry by its number from 1".into(),
        });
    };
    let root = proof.head.digest();
    let text = serde_json::to_string(&proof).unwrap_or_default() + "\n";
    let Some(path) = &args.out else {
        write_text(out, &text)?;
        return Ok(Status::Good);
    };
    whole::write(path, text.as_bytes())?;
    let name = path.display();
    if console.json {
        write_json(
            out,
            &json!({"proof": name.to_string(), "entry": proof.head.number, "root": root, "bytes": text.len()}),
        )?;
    } else {
        let (count, entry) = (proof.responses.len(), proof.head.number);
        write_text(
            out,
            &format!(
                "{name}: {count} responses and the weight of {} in entry {entry}\n\
                 Check with: tauscore verify --proof {name} --root {root}\n",
                proof.hotkey
            ),
        )?;
    }
    Ok(Status::Good)
}
