//! A recorded round, scored again from its texts on this machine.

use std::collections::BTreeMap;

use super::{Digest, Finding, Round, record};
use crate::config::Config;
use crate::nn::Precision;
use crate::pipeline::{self, Models, Past};
use crate::progress::Listener;
use crate::stages::weights::{Answer, Table};
use crate::stages::yuma::{Fields, State};
use crate::{Result, data, state};

/// Findings of one kind that are named.
const NAMED: usize = 20;

/// Scores `round` again by `config`, as entry `number` has it, and compares scores, accuracies and novelties to within the record's step.
///
/// # Errors
/// As [`pipeline::score`].
pub fn recompute(
    (number, recorded): (u64, &Round),
    config: &Config,
    models: &mut Models<'_>,
    (round, history): (&data::Round, &[data::Round]),
    listen: Listener<'_>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut add = |field: String, expected: String, found: String| {
        findings.push(Finding::new(number, field, expected, found));
    };
    let digests = [
        ("round", recorded.round, Digest(state::digest(round))),
        ("prompts", recorded.prompts, record::prompts(round)),
    ];
    for (field, expected, found) in digests {
        if expected != found {
            add(field.into(), expected.to_string(), found.to_string());
        }
    }
    let earlier: Vec<Digest> = history.iter().map(record::responses).collect();
    if recorded.history != earlier {
        let name = |rounds: &[Digest]| {
            let names = rounds.iter().map(|digest| digest.to_string()[..16].to_owned()).collect::<Vec<_>>();
            format!("{} earlier rounds [{}]", rounds.len(), names.join(", "))
        };
        add("history".into(), name(&recorded.history), name(&earlier));
    }

    let subnet = subnet(&recorded.table)?;
    let past = Past { rounds: history, memory: &recorded.memory };
    let outcome = pipeline::score_after(past, models, round, subnet.as_ref(), config, listen)?;
    let texts = record::texts_of(round);
    let found: BTreeMap<(&str, &str), &Answer> = named(&outcome.table);
    let expected: BTreeMap<(&str, &str), &Answer> = named(&recorded.table);
    let recorded_texts = recorded.table.named().zip(&recorded.texts);
    let mut lists: [Vec<Finding>; 4] = Default::default();
    let [others, scores, accuracies, novelties] = &mut lists;
    for ((hotkey, prompt_id, answer), text) in recorded_texts {
        let of = format!("{hotkey} to {prompt_id:?}");
        let Some(again) = found.get(&(hotkey, prompt_id)) else {
            others.push(Finding::new(number, format!("response of {of}"), text, "none"));
            continue;
        };
        if let Some(other) = texts.get(&(prompt_id, hotkey)).filter(|other| *other != text) {
            others.push(Finding::new(number, format!("response of {of}"), text, other));
        }
        let exact = config.encoder.precision == Precision::Exact;
        let novelty_step = if exact { 0 } else { recorded.step };
        for (list, field, step, expected, found) in [
            (&mut *scores, "score", recorded.step, answer.score, again.score),
            (&mut *accuracies, "accuracy", recorded.step, answer.accuracy, again.accuracy),
            (&mut *novelties, "novelty", novelty_step, answer.novelty, again.novelty),
        ] {
            if expected.abs_diff(found) > step {
                let expected = if step == 0 { expected.to_string() } else { format!("{expected} to within {step}") };
                list.push(Finding::new(number, format!("{field} of {of}"), expected, found));
            }
        }
    }
    for (hotkey, prompt_id) in found.keys().filter(|pair| !expected.contains_key(*pair)) {
        others.push(Finding::new(number, format!("response of {hotkey} to {prompt_id:?}"), "none", "one"));
    }
    for (mut list, field) in lists.into_iter().zip(["responses", "scores", "accuracies", "novelties"]) {
        let more = list.len().saturating_sub(NAMED);
        list.truncate(NAMED);
        findings.append(&mut list);
        if more > 0 {
            findings.push(Finding::new(number, field, "those of the record", format!("{more} more that differ")));
        }
    }
    let copies = |table: &Table| -> BTreeMap<(String, String), u32> {
        let name =
            |entrant: u32| table.entrants.get(entrant as usize).map_or(String::new(), |found| found.hotkey.clone());
        table.copies.iter().map(|row| ((name(row.entrant), name(row.of)), row.answers)).collect()
    };
    let (expected, found) = (copies(&recorded.table), copies(&outcome.table));
    if expected != found {
        let text = |map: &BTreeMap<(String, String), u32>| {
            let rows: Vec<String> = map.iter().map(|((by, of), count)| format!("{by} of {of}: {count}")).collect();
            format!("[{}]", rows.join(", "))
        };
        findings.push(Finding::new(number, "copies", text(&expected), text(&found)));
    }
    Ok(findings)
}

fn named(table: &Table) -> BTreeMap<(&str, &str), &Answer> {
    table.named().map(|(hotkey, prompt_id, answer)| ((hotkey, prompt_id), answer)).collect()
}

/// As much of the subnet as scoring asks for: hotkeys and coldkeys by uid. `None` where no uid is known.
fn subnet(table: &Table) -> Result<Option<State>> {
    let known = || table.entrants.iter().filter_map(|entrant| Some((usize::from(entrant.uid?), entrant)));
    let Some(last) = known().map(|(uid, _)| uid).chain(table.owner_uid.map(usize::from)).max() else { return Ok(None) };
    let n = last + 1;
    // Nobody answers under these names, and no two are one's.
    let mut hotkeys: Vec<String> = (0..n).map(|uid| format!("(uid {uid})")).collect();
    let mut coldkeys = hotkeys.clone();
    for (uid, entrant) in known() {
        hotkeys[uid].clone_from(&entrant.hotkey);
        if let Some(coldkey) = &entrant.coldkey {
            coldkeys[uid].clone_from(coldkey);
        }
    }
    let mut fields = Fields {
        hotkeys,
        coldkeys,
        stake: vec![0; n],
        validator_permit: vec![false; n],
        weights: crate::matrix::Csr::empty(n),
        bonds: crate::matrix::Csr::empty(n),
        ..Fields::default()
    };
    fields.hyper.owner_uid = table.owner_uid;
    fields.block = table.block.unwrap_or_default();
    State::new(fields).map(Some)
}
