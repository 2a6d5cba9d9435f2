//! What a ledger has to show: its last round, the epoch of that, and how weights went from round to round.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cluster, Copier, History, HistoryEntry, Miner, Report, Scored};
use crate::ledger::{self, Body, Demands, Entry, Round};
use crate::stages::yuma::{Epoch, State};
use crate::{Error, Result};

/// Rounds that the history shows at most, evenly apart; the last is one of them.
const POINTS: usize = 400;

impl Report {
    /// Of a ledger that verifies.
    ///
    /// # Errors
    /// As [`ledger::verify`]; [`Error::File`] for the first thing that is wrong with it, or if it has no round.
    pub fn from_ledger(path: &Path) -> Result<Self> {
        let refuse = |field: &str, problem: String, remedy: &str| Error::File {
            file: path.display().to_string(),
            field: field.into(),
            problem,
            remedy: remedy.into(),
        };
        let (mut entries, mut last) = (Vec::new(), None::<Entry>);
        // Those of the last round, and those that were adopted since.
        let (mut criteria, mut adopted) = (None, None);
        let (mut step, mut rounds) = (1, 0_usize);
        let verified = ledger::verify(path, &Demands::default(), |entry| {
            if let Some(text) = entry.body.criteria() {
                adopted = Some((text.to_owned(), entry.head.criteria.to_string()));
            }
            if entry.body.round().is_none() {
                return;
            }
            criteria = adopted.take().or(criteria.take());
            if let Some(last) = last.replace(entry)
                && rounds.is_multiple_of(step)
            {
                entries.extend(last.body.round().map(|round| history(&last, round)));
                if entries.len() >= POINTS {
                    // Every second one from here on.
                    let mut at = 0;
                    entries.retain(|_| {
                        at += 1;
                        at % 2 == 1
                    });
                    step *= 2;
                }
            }
            rounds += 1;
        })?;
        if let Some(finding) = verified.findings.first() {
            let remedy = "a report of it would show what is not so: see `tauscore verify`";
            return Err(refuse(&finding.field, finding.to_string(), remedy));
        }
        let Some(Entry { head, body: Body::Round(round), .. }) = &last else {
            return Err(refuse("entries", "it has no round".into(), "score one with --ledger"));
        };
        entries.extend(last.as_ref().map(|last| history(last, round)));
        for at in 1..entries.len() {
            entries[at].changed = entries[at].criteria != entries[at - 1].criteria;
        }
        let mut report = match &round.epoch {
            Some(epoch) => {
                let state = serde_json::from_str::<State>(&epoch.state).map_err(|error| {
                    refuse("epoch", error.to_string(), "it was written by another version of tauscore")
                })?;
                let state = state.with_submitted(epoch.validator, &round.chain_row())?;
                Self::from_state(&state, &Epoch::with_raw(&state))
            }
            None => Self::default(),
        };
        report.source = path.display().to_string();
        report.rounds = vec![Scored { criteria, ..scored(round) }];
        report.history = Some(History { entries });
        let named = [
            ("Last entry", head.digest()),
            ("Responses", head.responses),
            ("Scores", head.scores),
            ("Weights", head.weights),
            ("Shaders", round.shaders),
        ];
        report.digests = named.map(|(label, digest)| (label.to_owned(), digest.to_string())).into();
        let models = round.models.iter().map(|model| (format!("Model {}", model.name), model.weights.clone()));
        report.digests.extend(models);
        if let Some(signer) = &head.signer {
            report.digests.push(("Signed by".into(), signer.to_string()));
        }
        Ok(report)
    }
}

fn history(entry: &Entry, round: &Round) -> HistoryEntry {
    let pairs = round.table.entrants.iter().zip(&round.weights).filter(|(_, weight)| **weight > 0);
    HistoryEntry {
        number: entry.head.number,
        block: entry.head.block,
        criteria: entry.head.criteria.to_string(),
        changed: false,
        responses: round.table.answers.len() as u64,
        copies: round.table.copies.iter().map(|row| u64::from(row.answers)).sum(),
        weights: pairs.map(|(entrant, weight)| (entrant.hotkey.clone(), *weight)).collect(),
    }
}

/// A recorded round as `miners.json` would have it, but for what is not in a record: intervals, excerpts.
fn scored(round: &Round) -> Scored {
    let table = &round.table;
    let (answered, tallies) = (table.answered(), table.tallies());
    let mut sums = vec![(0_u64, 0_u64); table.entrants.len()];
    for answer in &table.answers {
        let (accuracy, novelty) = &mut sums[answer.entrant as usize];
        *accuracy += u64::from(answer.accuracy);
        *novelty += u64::from(answer.novelty);
    }
    let total: u64 = round.weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut copies = vec![0; table.entrants.len()];
    let mut clusters: BTreeMap<u32, Vec<Copier>> = BTreeMap::new();
    for row in &table.copies {
        copies[row.entrant as usize] += row.answers as usize;
        clusters.entry(row.of).or_default().push(Copier {
            miner: table.entrants[row.entrant as usize].hotkey.clone(),
            responses: row.answers as usize,
            of_responses: answered[row.entrant as usize] as usize,
            ..Copier::default()
        });
    }
    let mean = |sum: u64, count: f64| if count > 0.0 { sum as f64 / 65_535.0 / count } else { 0.0 };
    let mut miners: Vec<Miner> = (0..table.entrants.len())
        .map(|at| Miner {
            miner: table.entrants[at].hotkey.clone(),
            uid: table.entrants[at].uid,
            prompts: answered[at] as usize,
            copies: copies[at],
            novelty: mean(sums[at].1, f64::from(answered[at])),
            accuracy: mean(sums[at].0, f64::from(answered[at])),
            accuracy_interval: None,
            score: mean(tallies[at].sum, tallies[at].prompts as f64),
            weight: f64::from(round.weights[at]) / total.max(1) as f64,
        })
        .collect();
    miners.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.miner.cmp(&b.miner)));
    let cluster =
        |(of, copies): (u32, Vec<Copier>)| Cluster { originator: table.entrants[of as usize].hotkey.clone(), copies };
    Scored {
        prompts: Some(table.prompts.len()),
        miners,
        copies: Some(clusters.into_iter().map(cluster).collect()),
        ..Scored::default()
    }
}
