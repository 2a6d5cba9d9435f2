//! Whether what the engine says of miners is what is known of them.

use std::collections::HashMap;

use serde::Serialize;

use crate::data::{Quality, Round, ScoreRow, Scores};
use crate::stages::eval::{
    Estimate, Resampled, Resamples, Table, partial_spearman, quantile, rouge_l, spearman, subset_means,
};
use crate::{Error, Result};

/// The fewest miners that have an order worth a correlation.
const FEWEST_MINERS: usize = 3;

/// How many prompts a rank is tried on.
const SUBSETS: [usize; 9] = [5, 10, 20, 50, 100, 200, 500, 1000, 2000];

/// What was found beside the quality of miners.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QualityReport {
    /// Prompts of the scores.
    pub prompts: usize,
    /// Resamples of the prompts behind each interval.
    pub resamples: usize,
    /// Pairs of miner and prompt without a response.
    pub unanswered: usize,
    /// Miners with scores, whose quality is not known; they are left out.
    pub without_quality: Vec<String>,
    /// Miners of known quality without scores, likewise.
    pub without_scores: Vec<String>,
    /// For each column of the table.
    pub columns: Vec<ColumnReport>,
    /// For each miner of whom both are known, the most accurate first.
    pub miners: Vec<MinerReport>,
    /// How sure the miners' order is.
    pub neighbours: Neighbours,
    /// How many prompts it takes to find that order.
    pub subsets: Vec<SubsetReport>,
}

/// Rank correlations, over miners, of their means with a measure of quality.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ColumnReport {
    /// The measure's name.
    pub quality: String,
    /// Mean score, 0 for prompts without a response.
    pub score: Correlation,
    /// Mean accuracy, 0 for prompts without a response.
    pub accuracy: Correlation,
    /// Mean novelty over the responses.
    pub novelty: Correlation,
    /// The control: the mean of the logarithm of a response's characters and one.
    pub log_length: Correlation,
    /// A control for accuracy: mean [`rouge_l`] with the reference, where texts are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rouge_l: Option<Correlation>,
}

/// A rank correlation, -1 to 1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// Spearman's.
    pub spearman: Estimate,
    /// The same with the ranks of log length held fixed; `None` of log length itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given_length: Option<Estimate>,
}

/// How sure a miner's mean accuracy is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MinerReport {
    /// His hotkey.
    pub miner: String,
    /// Prompts that he answered.
    pub answered: usize,
    /// His mean accuracy.
    pub accuracy: Estimate,
    /// Its standard error.
    pub standard_error: f64,
    /// Whether 95 % of the resamples have him above the next one; `None` of the last.
    pub above_the_next: Option<bool>,
}

/// How many miners are told apart from the next one by their accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Neighbours {
    /// Pairs of neighbours in rank.
    pub pairs: usize,
    /// Those whose difference has an interval without 0.
    pub told_apart: usize,
}

/// How near the miners' order over some prompts comes to their order over all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SubsetReport {
    /// Random prompts, fewer than all.
    pub prompts: usize,
    /// The median of Spearman's correlation of mean accuracies.
    pub accuracy: Option<f64>,
    /// The same of mean scores.
    pub score: Option<f64>,
}

/// Compares the means of `scores` with `quality`, over the miners that both name. With `texts`, a round that holds the scored responses and
/// references, ROUGE-L stands beside them. All intervals are by the same `resamples` draws of the prompts, for which nothing but their number
/// counts: the same input in another order gives the same report.
///
/// # Errors
/// [`Error::File`] if fewer than 3 miners are in both; [`Error::Row`] if a scored response is not among the texts, is another one there, or
/// has no reference.
pub fn quality(scores: &Scores, quality: &Quality, texts: Option<&Round>, resamples: usize) -> Result<QualityReport> {
    let row_of: HashMap<&str, usize> = quality.miners.iter().map(String::as_str).zip(0..).collect();
    let known: Vec<(usize, &String)> =
        scores.miners.iter().enumerate().filter(|(_, miner)| row_of.contains_key(miner.as_str())).collect();
    if known.len() < FEWEST_MINERS {
        return Err(Error::File {
            file: quality.file.clone(),
            field: "miner".into(),
            problem: format!("{} of its miners have scores in {}", known.len(), scores.file),
            remedy: format!("a rank correlation needs {FEWEST_MINERS}: name the miners as the scores do"),
        });
    }
    let outside = |names: &[String], inside: &dyn Fn(&str) -> bool| -> Vec<String> {
        let mut outside: Vec<String> = names.iter().filter(|name| !inside(name)).cloned().collect();
        outside.sort_unstable();
        outside
    };
    let at: HashMap<u32, usize> = known.iter().map(|(miner, _)| *miner as u32).zip(0..).collect();
    let table = |missing: f64, value: &dyn Fn(&ScoreRow) -> Result<f64>| -> Result<Table> {
        let mut table = Table::new(known.len(), scores.prompts.len(), missing);
        for row in &scores.rows {
            if let Some(miner) = at.get(&row.miner) {
                table.set(*miner, row.prompt as usize, value(row)?);
            }
        }
        Ok(table)
    };
    let accuracies = table(0.0, &|row| Ok(row.accuracy))?;
    let all_scores = table(0.0, &|row| Ok(row.score))?;
    let draws = Resamples::new(scores.prompts.len(), resamples);
    let signals = Signals {
        accuracy: accuracies.resample(&draws),
        score: all_scores.resample(&draws),
        novelty: table(f64::NAN, &|row| Ok(row.novelty))?.resample(&draws),
        log_length: table(f64::NAN, &|row| Ok(f64::from(row.chars).ln_1p()))?.resample(&draws),
        rouge_l: match texts {
            Some(texts) => Some(table(f64::NAN, &overlaps(scores, texts))?.resample(&draws)),
            None => None,
        },
    };
    let columns = quality.columns.iter().map(|column| {
        let truth: Vec<f64> = known.iter().map(|(_, miner)| column.values[row_of[miner.as_str()]]).collect();
        signals.column(&column.name, &truth)
    });
    let mut answered = vec![0; known.len()];
    for miner in scores.rows.iter().filter_map(|row| at.get(&row.miner)) {
        answered[*miner] += 1;
    }
    let miners = miners(&signals.accuracy, &known, &answered);
    Ok(QualityReport {
        prompts: scores.prompts.len(),
        resamples,
        unanswered: answered.iter().map(|answered| scores.prompts.len() - answered).sum(),
        without_quality: outside(&scores.miners, &|miner| row_of.contains_key(miner)),
        without_scores: outside(&quality.miners, &|miner| scores.miners.binary_search(&miner.to_owned()).is_ok()),
        columns: columns.collect(),
        neighbours: Neighbours {
            pairs: miners.len() - 1,
            told_apart: miners.iter().filter(|miner| miner.above_the_next == Some(true)).count(),
        },
        miners,
        subsets: SUBSETS
            .into_iter()
            .filter(|size| *size < scores.prompts.len())
            .map(|size| SubsetReport {
                prompts: size,
                accuracy: agreement(&accuracies, &signals.accuracy, size, resamples),
                score: agreement(&all_scores, &signals.score, size, resamples),
            })
            .collect(),
    })
}

/// The miners' means by what they are of.
struct Signals {
    accuracy: Resampled,
    score: Resampled,
    novelty: Resampled,
    log_length: Resampled,
    rouge_l: Option<Resampled>,
}

impl Signals {
    fn column(&self, name: &str, truth: &[f64]) -> ColumnReport {
        let correlation = |signal: &Resampled| Correlation {
            spearman: signal.estimate(|means| spearman(means, truth)),
            given_length: Some(
                signal.estimate_with(&self.log_length, |means, lengths| partial_spearman(means, truth, lengths)),
            ),
        };
        ColumnReport {
            quality: name.to_owned(),
            score: correlation(&self.score),
            accuracy: correlation(&self.accuracy),
            novelty: correlation(&self.novelty),
            log_length: Correlation {
                spearman: self.log_length.estimate(|means| spearman(means, truth)),
                given_length: None,
            },
            rouge_l: self.rouge_l.as_ref().map(correlation),
        }
    }
}

/// ROUGE-L of a scored response with its prompt's reference.
fn overlaps<'a>(scores: &'a Scores, texts: &'a Round) -> impl Fn(&ScoreRow) -> Result<f64> + 'a {
    let mut found = HashMap::new();
    for response in texts.responses() {
        if let (Some(prompt), Some(miner)) = (texts.prompt_of(response), texts.miner_of(response)) {
            found.insert((prompt.id.as_str(), miner.hotkey.as_str()), (prompt, response));
        }
    }
    move |row| {
        let pair = (scores.prompts[row.prompt as usize].as_str(), scores.miners[row.miner as usize].as_str());
        let Some((prompt, response)) = found.get(&pair) else {
            let problem = format!("{:?} has no response to prompt {:?} among --responses", pair.1, pair.0);
            return Err(scores.refuse(row, "miner", problem, "give the files that were scored, all of them"));
        };
        let chars = response.text.chars().count();
        if chars != row.chars as usize {
            let problem = format!("the response that was scored has {} characters, and this one {chars}", row.chars);
            return Err(texts.refuse(response, "response", problem, "give the files that were scored"));
        }
        let Some(reference) = &prompt.reference else {
            let problem = format!("prompt {:?} has none", pair.0);
            return Err(texts.refuse(response, "reference", problem, "name a file with it by --references"));
        };
        Ok(rouge_l(&response.text, reference))
    }
}

/// The miners, the most accurate first, equal ones by name.
fn miners(accuracy: &Resampled, known: &[(usize, &String)], answered: &[usize]) -> Vec<MinerReport> {
    let mut order: Vec<usize> = (0..known.len()).collect();
    order.sort_by(|a, b| accuracy.value[*b].total_cmp(&accuracy.value[*a]));
    let next = order.iter().copied().map(Some).skip(1).chain([None]);
    order
        .iter()
        .zip(next)
        .map(|(&miner, next)| MinerReport {
            miner: known[miner].1.clone(),
            answered: answered[miner],
            accuracy: accuracy.estimate(|means| Some(means[miner])),
            standard_error: accuracy.standard_error(miner),
            above_the_next: next.map(|next| accuracy.estimate(|means| Some(means[miner] - means[next])).has_a_sign()),
        })
        .collect()
}

/// The median, over random subsets, of the rank correlation of the miners' means over `size` prompts and over all.
fn agreement(table: &Table, all: &Resampled, size: usize, draws: usize) -> Option<f64> {
    let subsets = subset_means(table, size, draws);
    let mut found: Vec<f64> = subsets.iter().filter_map(|means| spearman(means, &all.value)).collect();
    found.sort_unstable_by(f64::total_cmp);
    quantile(&found, 0.5)
}
