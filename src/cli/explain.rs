//! `tauscore explain`: what a miner's weight was made of, in words that he can check.

use std::io::Write;
use std::path::PathBuf;

use super::table::{harmless, table};
use super::{Console, Outcome, Status, write_json, write_text};
use crate::pipeline::explain::{Copied, Explanation, Neighbour, Penalty, WhatIf, explain};

/// Neighbours for people; `--json` has more.
const SHOWN: usize = 3;

/// Options of `tauscore explain`.
#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A folder that `tauscore score` wrote
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// The miner: hotkey or uid
    #[arg(long, value_name = "HOTKEY|UID")]
    miner: String,
}

pub(super) fn run(args: &ExplainArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let explanation = explain(&args.folder, &args.miner)?;
    if console.json {
        write_json(out, &explanation)?;
    } else {
        write_text(out, &as_text(&explanation))?;
    }
    Ok(Status::Good)
}

fn as_text(of: &Explanation) -> String {
    let uid = of.uid.map_or_else(String::new, |uid| format!(" (uid {uid})"));
    let mut text = format!(
        "{}{uid} has {} of the weights of this round: rank {} of {}.\n",
        harmless(&of.miner),
        percent(of.weight.value),
        of.weight.rank,
        of.weight.of
    );
    if let Some(paid) = &of.epoch {
        let share = percent(f64::from(paid.incentive) / 65_535.0);
        text.push_str(&format!(
            "The epoch over all validators pays {share} of what miners get, {} rao.\n",
            harmless(&paid.rao)
        ));
    }
    if !of.parts.is_empty() {
        text.push_str(&format!("{}\n\n{}", most(of), parts(of)));
        text.push_str(&format!("\n{} prompts of {} answered. For each: {}", of.answered, of.prompts, of.formula));
        text.push_str("\nWhat took something from the mean score, each as if it alone were mended:\n");
        text.push_str(&penalties(of));
    }
    of.copied.iter().for_each(|copied| text.push_str(&format!("\n{}", copies(copied, "of"))));
    of.copied_by.iter().for_each(|copied| text.push_str(&format!("\n{}", copies(copied, "by"))));
    if !of.neighbours.is_empty() {
        text.push_str("\nThe answers that earlier ones resemble most:\n");
        of.neighbours.iter().take(SHOWN).for_each(|neighbour| text.push_str(&beside(neighbour)));
    }
    if !of.stages.is_empty() {
        text.push_str(&format!("\nFrom the score to the weight:\n{}", stages(of)));
    }
    if !of.what_ifs.is_empty() {
        text.push_str(&format!("\nWhat the weight would have been, all others as they are:\n{}", what_ifs(of)));
    }
    of.notes.iter().for_each(|note| text.push_str(&format!("note: {}\n", harmless(note))));
    text + &format!("criteria {}\n", of.criteria)
}

/// What would have changed the weight most.
fn most(of: &Explanation) -> String {
    match of.what_ifs.first() {
        Some(what_if) if what_if.gain > 0.0 => format!(
            "What would have changed that most: {}, it would be {}{} and rank {}.",
            harmless(&what_if.words),
            if what_if.at_most { "at most " } else { "" },
            percent(what_if.weight.value),
            what_if.weight.rank
        ),
        Some(_) => "Nothing of what is asked below would have brought more.".to_owned(),
        None => "What would have changed that most cannot be told: see the notes.".to_owned(),
    }
}

fn parts(of: &Explanation) -> String {
    let rows: Vec<[String; 8]> = of
        .parts
        .iter()
        .map(|part| {
            let [least, lower, median, upper, best] = part.quantiles.map(|value| format!("{value:.4}"));
            let interval = of.accuracy_interval.filter(|_| part.name == "accuracy");
            let interval = interval.map_or_else(String::new, |[low, high]| format!(" ({low:.4} to {high:.4})"));
            let rank = format!("{} of {}", part.place.rank, part.place.of);
            [
                format!("{}{interval}", part.name),
                format!("{:.4}", part.place.value),
                rank,
                least,
                lower,
                median,
                upper,
                best,
            ]
        })
        .collect();
    table(["mean", "here ", "rank ", "least ", "lower quarter ", "median ", "upper quarter ", "best "], &rows)
}

fn penalties(of: &Explanation) -> String {
    let all = &of.penalties;
    let row = |what: &str, penalty: Penalty| {
        let cost = match (penalty.count, penalty.at_most) {
            (0, _) => "-".to_owned(),
            (_, true) => format!("at most {:.4}", penalty.cost),
            (_, false) => format!("{:.4}", penalty.cost),
        };
        [format!("  {what}"), penalty.count.to_string(), cost]
    };
    let mut rows = vec![
        row("copies", all.copies),
        row("like earlier answers, novelty not saturated", all.novelty),
        row("prompts not answered", all.unanswered),
        row("blank answers", all.blank),
    ];
    if let Some(fault) = &all.first_fault {
        rows.push(row(&format!("answers that could not be judged: {fault}"), all.faults));
    }
    if all.truncated > 0 {
        rows.push([
            "  cut off, being too long: the rest did not count".into(),
            all.truncated.to_string(),
            String::new(),
        ]);
    }
    table(["", "answers ", "cost "], &rows)
}

fn copies(of: &Copied, preposition: &str) -> String {
    let kinds: Vec<String> = of.kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let consequence = if preposition == "by" { ", which costs nothing here" } else { "" };
    let evidence = format!("{:.1} bits of evidence on average", of.evidence);
    let excerpt = if of.excerpt.is_empty() { String::new() } else { format!(": \"{}\"", harmless(&of.excerpt)) };
    format!(
        "{} answers are copies {preposition} {}{consequence} ({}; {evidence}).\n  The surest, to {}, has in common{excerpt}\n",
        of.responses,
        harmless(&of.miner),
        harmless(&kinds.join(", ")),
        harmless(&of.prompt_id)
    )
}

/// His answer and the earlier one, one above the other.
fn beside(of: &Neighbour) -> String {
    let copy = of.copy_kind.as_ref().map_or_else(String::new, |kind| format!(", a copy ({})", harmless(kind)));
    let history = if of.history { format!(", earlier round, {}", harmless(&of.of_prompt)) } else { String::new() };
    let quoted = |text: &str| if text.is_empty() { "(blank)".to_owned() } else { format!("\"{}\"", harmless(text)) };
    format!(
        "  {}: cosine {:.4}{copy}\n    here   {}\n    before {} ({}{history})\n",
        harmless(&of.prompt_id),
        of.similarity,
        quoted(&of.excerpt),
        quoted(&of.of_excerpt),
        harmless(&of.miner)
    )
}

fn stages(of: &Explanation) -> String {
    let score =
        of.parts.iter().find(|part| part.name == "score").map(|part| ("mean score".to_owned(), Some(part.place)));
    let stages = of.stages.iter().map(|stage| (stage.kind.clone(), stage.place));
    let rows: Vec<[String; 3]> = score
        .into_iter()
        .chain(stages)
        .chain([("weight".to_owned(), Some(of.weight))])
        .map(|(kind, place)| match place {
            Some(place) => [kind, format!("{:.6}", place.value), format!("{} of {}", place.rank, place.of)],
            None => [kind, "takes no part".to_owned(), "-".to_owned()],
        })
        .collect();
    table(["stage", "value ", "rank "], &rows)
}

fn what_ifs(of: &Explanation) -> String {
    let row = |what_if: &WhatIf| {
        let most = if what_if.at_most { "<= " } else { "" };
        [
            what_if.words.clone(),
            format!("{:.4}", what_if.score),
            format!("{most}{}", percent(what_if.weight.value)),
            format!("{:+.2}", what_if.gain * 100.0),
            format!("{} of {}", what_if.weight.rank, what_if.weight.of),
        ]
    };
    table(["", "score ", "weight ", "points ", "rank "], &of.what_ifs.iter().map(row).collect::<Vec<_>>())
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
