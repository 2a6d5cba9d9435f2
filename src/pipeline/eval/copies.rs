//! Whether the engine finds responses that are known to be copies.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;

use crate::data::{Copies, CopyRow, ScoreRow, Scores};
use crate::stages::eval::{Detection, Estimate, Rates, Resamples, Table};
use crate::{Error, Result};

/// Texts shorter than this coincide by chance.
const LONG: u32 = 200;

/// What was found beside known copies.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CopyReport {
    /// Resamples of the prompts behind each interval.
    pub resamples: usize,
    /// Rows of known copies without a scored response; they are left out.
    pub without_scores: usize,
    /// Miners with known copies.
    pub copiers: usize,
    /// Miners without.
    pub others: usize,
    /// All known copies.
    pub all: CopyRates,
    /// By how they were disguised, where that is said.
    pub by_kind: BTreeMap<String, CopyRates>,
    /// The area under the ROC curve for miners: copiers and others, by the mean evidence of all their responses.
    pub miner_auc: Estimate,
    /// What the engine says itself.
    pub verdict: Verdict,
}

/// What the engine calls a copy, whatever the evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The share of known copies that it calls one.
    pub true_positives: f64,
    /// The share of what is no copy that it calls one.
    pub false_positives: f64,
}

/// How well copies are told from the responses of miners without a known copy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CopyRates {
    /// Over all responses.
    pub any_length: Told,
    /// Over responses of at least 200 characters, to victims' responses of as many.
    pub long: Told,
    /// The share of copies whose `copy_of` is the victim, of those whose victim is known.
    pub victim_named: Option<f64>,
}

/// How well some copies are told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Told {
    /// How many copies.
    pub copies: usize,
    /// How many other responses.
    pub others: usize,
    /// The area under the ROC curve, [`Rates::auc`].
    pub auc: Estimate,
    /// The share of copies found at 1 % false positives, [`Rates::true_positives`].
    pub true_positives: Estimate,
    /// What the evidence exceeds there, [`Rates::above`].
    pub above: Option<f64>,
}

/// A known copy with what was found of it, and its victim's response to the same prompt.
#[derive(Clone, Copy)]
struct Known<'a> {
    copy: &'a CopyRow,
    row: &'a ScoreRow,
    victim: Option<&'a ScoreRow>,
}

/// Compares the evidence in `scores` with the copies that are known; what is no copy are all responses of miners without a known one. All
/// intervals are by the same `resamples` draws of the prompts.
///
/// # Errors
/// [`Error::File`] if `scores` has no evidence, or no response that is a known copy or none of a miner without one; [`Error::Row`] if evidence
/// is missing in some rows.
pub fn copies(scores: &Scores, copies: &Copies, resamples: usize) -> Result<CopyReport> {
    let evidence = evidence(scores)?;
    let known: Vec<Known<'_>> = copies
        .rows
        .iter()
        .filter_map(|copy| {
            let victim = copy.victim.as_ref().and_then(|victim| scores.row(&copy.prompt_id, victim));
            Some(Known { copy, row: scores.row(&copy.prompt_id, &copy.miner)?, victim })
        })
        .collect();
    let copiers: HashSet<&str> = copies.rows.iter().map(|copy| copy.miner.as_str()).collect();
    let is_copier = |miner: u32| copiers.contains(scores.miners[miner as usize].as_str());
    let others: Vec<&ScoreRow> = scores.rows.iter().filter(|row| !is_copier(row.miner)).collect();
    let refuse = |problem: &str, remedy: &str| Error::File {
        file: copies.file.clone(),
        field: "miner".into(),
        problem: format!("{problem} in {}", scores.file),
        remedy: remedy.into(),
    };
    if known.is_empty() {
        return Err(refuse("none of its copies has a scored response", "name prompts and miners as the scores do"));
    }
    if others.is_empty() {
        return Err(refuse("every miner has a known copy", "score the round with the miners who did not copy"));
    }

    let draws = Resamples::new(scores.prompts.len(), resamples);
    let told = |known: &[Known<'_>]| rates(known, &others, &draws, &evidence);
    let mut by_kind: BTreeMap<&str, Vec<Known<'_>>> = BTreeMap::new();
    for copy in &known {
        if let Some(kind) = &copy.copy.kind {
            by_kind.entry(kind).or_default().push(*copy);
        }
    }
    let called = |rows: &mut dyn ExactSizeIterator<Item = &ScoreRow>| {
        let all = rows.len();
        rows.filter(|row| row.copy_of.is_some()).count() as f64 / all as f64
    };
    let copying = (0..scores.miners.len()).filter(|miner| is_copier(*miner as u32)).count();
    Ok(CopyReport {
        resamples,
        without_scores: copies.rows.len() - known.len(),
        copiers: copying,
        others: scores.miners.len() - copying,
        all: told(&known),
        by_kind: by_kind.into_iter().map(|(kind, known)| (kind.to_owned(), told(&known))).collect(),
        miner_auc: miner_auc(scores, &evidence, &draws, is_copier),
        verdict: Verdict {
            true_positives: called(&mut known.iter().map(|known| known.row)),
            false_positives: called(&mut others.iter().copied()),
        },
    })
}

/// The evidence of a row.
fn evidence(scores: &Scores) -> Result<impl Fn(&ScoreRow) -> f64> {
    if let Some(bare) = scores.rows.iter().find(|row| row.copy_evidence.is_none()) {
        return Err(if scores.rows.iter().all(|row| row.copy_evidence.is_none()) {
            Error::File {
                file: scores.file.clone(),
                field: "copy_evidence".into(),
                problem: "no row has it".into(),
                remedy: "score the round again with this version".into(),
            }
        } else {
            scores.refuse(bare, "copy_evidence", "is missing".into(), "score the whole round again with one version")
        });
    }
    Ok(|row: &ScoreRow| row.copy_evidence.unwrap_or_default())
}

fn rates(
    known: &[Known<'_>],
    others: &[&ScoreRow],
    draws: &Resamples,
    evidence: &impl Fn(&ScoreRow) -> f64,
) -> CopyRates {
    let is_long = |row: &ScoreRow| row.chars >= LONG;
    let told = |fits: &dyn Fn(&ScoreRow) -> bool| {
        let copies = known.iter().filter(|known| fits(known.row) && known.victim.is_none_or(fits));
        let copies: Vec<(f64, u32)> = copies.map(|known| (evidence(known.row), known.row.prompt)).collect();
        let others = others.iter().filter(|row| fits(row));
        let others: Vec<(f64, u32)> = others.map(|row| (evidence(row), row.prompt)).collect();
        let counts = (copies.len(), others.len());
        let detection = Detection::new(copies, others);
        let value = detection.rates(|_| 1);
        let found: Vec<Option<Rates>> = draws.map(|counts| detection.rates(|prompt| counts[prompt as usize]));
        let estimate = |of: fn(Rates) -> f64| Estimate::new(value.map(of), found.iter().map(|rates| rates.map(of)));
        Told {
            copies: counts.0,
            others: counts.1,
            auc: estimate(|rates| rates.auc),
            true_positives: estimate(|rates| rates.true_positives),
            above: value.map(|rates| rates.above),
        }
    };
    let named: Vec<bool> = known
        .iter()
        .filter(|known| known.copy.victim.is_some())
        .map(|known| known.copy.victim == known.row.copy_of)
        .collect();
    let share = named.iter().filter(|named| **named).count() as f64 / named.len() as f64;
    CopyRates { any_length: told(&|_| true), long: told(&is_long), victim_named: (!named.is_empty()).then_some(share) }
}

/// The area under the curve of the miners' mean evidence.
fn miner_auc(
    scores: &Scores,
    evidence: &impl Fn(&ScoreRow) -> f64,
    draws: &Resamples,
    is_copier: impl Fn(u32) -> bool,
) -> Estimate {
    let mut table = Table::new(scores.miners.len(), scores.prompts.len(), f64::NAN);
    for row in &scores.rows {
        table.set(row.miner as usize, row.prompt as usize, evidence(row));
    }
    let copying: Vec<bool> = (0..scores.miners.len() as u32).map(is_copier).collect();
    table.resample(draws).estimate(|means| {
        let of = |copies: bool| {
            means.iter().zip(&copying).filter(move |(_, copying)| **copying == copies).map(|(mean, _)| (*mean, 0))
        };
        Detection::new(of(true), of(false)).rates(|_| 1).map(|rates| rates.auc)
    })
}
