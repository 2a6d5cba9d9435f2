//! `tauscore audit`: how decentralised a subnet is.

use std::io::Write;
use std::path::PathBuf;

use super::table::{harmless, table};
use super::{Console, Outcome, Status, write_json, write_text};
use crate::pipeline::audit::{Audit, Concentration, CopiedRow, Neuron, Trust, percent};
use crate::stages::yuma::State;

/// Validators of the table, for people; `--json` has all.
const SHOWN: usize = 20;

/// Options of `tauscore audit`.
#[derive(Debug, clap::Args)]
pub(super) struct AuditArgs {
    /// The subnet's state, or anything that `state import` reads; `-` for standard input
    #[arg(value_name = "STATE")]
    state: PathBuf,
}

pub(super) fn run(args: &AuditArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let audit = Audit::new(&State::read(&args.state)?);
    if console.json {
        write_json(out, &audit)?;
    } else {
        write_text(out, &as_text(&audit))?;
    }
    Ok(Status::Good)
}

fn as_text(audit: &Audit) -> String {
    let mut text = format!("{}\n\n", summary(audit));
    text.push_str(&concentration("held by", "hotkeys", &audit.concentration));
    if !audit.concentration_by_coldkey.is_empty() {
        text.push('\n');
        text.push_str(&concentration("held by", "coldkeys", &audit.concentration_by_coldkey));
    }
    if !audit.copied_rows.is_empty() {
        text.push_str("\nrows of weights that are near-copies:\n");
        audit.copied_rows.iter().for_each(|row| text.push_str(&copied(row)));
    }
    if !audit.validators.is_empty() {
        text.push('\n');
        text.push_str(&validators(&audit.validators));
    }
    text
}

/// What matters most, in one line.
fn summary(audit: &Audit) -> String {
    let named = |name: &str| audit.concentration.iter().find(|held| held.name == name);
    let votes = match named("votes").filter(|votes| votes.holders > 0) {
        Some(votes) => {
            let majority = votes.majority.unwrap_or(votes.nakamoto);
            let (of, half) = (votes.holders, votes.nakamoto);
            format!("consensus takes {majority} of {of} validators, more than half of the votes takes {half}")
        }
        None => "nobody votes".to_owned(),
    };
    let copies = match (audit.compared, audit.copied_rows.len()) {
        (0 | 1, _) => "there are no rows of weights to compare".to_owned(),
        (compared, 0) => format!("no row of {compared} is a near-copy of another one"),
        (compared, copies) => format!("{copies} of {compared} rows are near-copies"),
    };
    format!("subnet {}, {} uids, block {}: {votes}; {copies}", audit.netuid, audit.n, audit.block)
}

fn concentration(head: &str, whose: &str, held: &[Concentration]) -> String {
    let rows: Vec<[String; 8]> = held
        .iter()
        .map(|held| {
            let share = |k: usize| {
                let found = held.largest.iter().find(|(of, _)| *of == k);
                found.map_or("-".to_owned(), |(_, ppm)| percent(*ppm))
            };
            [
                held.name.to_owned(),
                format!("{} of {} {whose}", held.holders, held.of),
                millionths(held.gini_ppm),
                held.nakamoto.to_string(),
                share(1),
                share(5),
                share(10),
                share(20),
            ]
        })
        .collect();
    table(["", head, "Gini ", "Nakamoto ", "largest ", "5 largest ", "10 largest ", "20 largest "], &rows)
}

fn copied(row: &CopiedRow) -> String {
    let of = row.of.as_ref().map_or_else(|| "the consensus".to_owned(), neuron);
    format!("  {} is like {of}: {}\n", neuron(&row.validator), row.evidence)
}

fn neuron(neuron: &Neuron) -> String {
    let hotkey = if neuron.hotkey.is_empty() { String::new() } else { format!(" {}", harmless(&neuron.hotkey)) };
    format!("uid {}{hotkey}", neuron.uid)
}

fn validators(all: &[Trust]) -> String {
    let rows: Vec<[String; 8]> = all
        .iter()
        .take(SHOWN)
        .map(|row| {
            [
                row.validator.uid.to_string(),
                row.validator.hotkey.clone(),
                percent(row.votes_ppm),
                row.weighs.to_string(),
                percent(row.trust_ppm),
                percent(row.above_ppm),
                row.agreement_ppm.map_or("-".to_owned(), percent),
                percent(row.dividends_ppm),
            ]
        })
        .collect();
    let head = ["uid ", "validator", "votes ", "weighs ", "trust ", "cut off ", "like consensus ", "dividends "];
    let more = if all.len() > SHOWN { format!("and {} more\n", all.len() - SHOWN) } else { String::new() };
    table(head, &rows) + &more
}

/// Millionths as a number with three digits, rounded down.
fn millionths(ppm: u32) -> String {
    format!("{}.{:03}", ppm / 1_000_000, ppm % 1_000_000 / 1_000)
}
