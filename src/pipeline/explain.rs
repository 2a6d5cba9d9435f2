//! What a miner's weight was made of, and what would have changed it most: plain data from the folder that `score` wrote.
//!
//! Nothing is scored again. What-ifs change one thing in his rows and go the way from the round to its weights once more, by the same
//! functions; that is done only where that way, with nothing changed, gives the weights that the folder has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files::read_json;
use super::{Cluster, Copier};
use crate::config::{Config, LossKind};
use crate::data::read_text;
use crate::stages::copies::Finding;
use crate::stages::novelty::Against;
use crate::stages::score::{ScoreConfig, Unanswered, part};
use crate::stages::weights::{self, Answer, Copying, Ema, Entrant, Memory, Stage, Table};
use crate::{Error, Result};

/// Neighbours that are shown, the most similar first.
const NEIGHBOURS: usize = 5;

/// Names that an unknown one may have meant.
const SUGGESTED: usize = 3;

/// What a miner's weight was made of. Numbers are in [0, 1] unless said otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// His hotkey.
    pub miner: String,
    /// His uid, where one is known.
    pub uid: Option<u16>,
    /// The digest of the criteria.
    pub criteria: String,
    /// Prompts that he answered.
    pub answered: usize,
    /// Prompts of the round.
    pub prompts: usize,
    /// His share of the weights, among all who are in the row.
    pub weight: Place,
    /// The weight as the chain takes it, in 65535ths of the largest.
    pub weight_u16: u16,
    /// Accuracy, novelty and score: his means, among those who answered. Empty if he did not.
    pub parts: Vec<Part>,
    /// Between which bounds his mean accuracy lies, where enough prompts say so.
    pub accuracy_interval: Option<[f64; 2]>,
    /// How the criteria make a response's score.
    pub formula: String,
    /// What took something from his score, and how much.
    pub penalties: Penalties,
    /// Whose responses he handed in, most first.
    pub copied: Vec<Copied>,
    /// Who handed in his, most first. That costs him nothing.
    pub copied_by: Vec<Copied>,
    /// The responses that his resemble most.
    pub neighbours: Vec<Neighbour>,
    /// What each of the criteria's stages gave him.
    pub stages: Vec<StageOf>,
    /// What the epoch pays him for all validators' weights, where one ran.
    pub epoch: Option<Paid>,
    /// What would have changed his weight, the most first.
    pub what_ifs: Vec<WhatIf>,
    /// What is not known, and why.
    pub notes: Vec<String>,
}

/// A number, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Place {
    /// The number.
    pub value: f64,
    /// 1 is the largest; who has the same has the same rank.
    pub rank: usize,
    /// Of how many.
    pub of: usize,
}

/// One of the means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Part {
    /// `accuracy`, `novelty` or `score`.
    pub name: &'static str,
    /// His.
    #[serde(flatten)]
    pub place: Place,
    /// The least, the quartiles and the most of all who answered.
    pub quantiles: [f64; 5],
}

/// What took something from his score. Costs are in his mean score, each as if it alone were mended.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Penalties {
    /// Responses that lost novelty as copies, beside answers like nobody's before.
    pub copies: Penalty,
    /// Other responses whose novelty lay below saturation.
    pub novelty: Penalty,
    /// Prompts that he did not answer.
    pub unanswered: Penalty,
    /// Blank responses.
    pub blank: Penalty,
    /// Responses with arrays that cannot be judged.
    pub faults: Penalty,
    /// What is wrong with the first of these.
    pub first_fault: Option<String>,
    /// Responses that were longer than the limit: what was cut off did not count.
    pub truncated: usize,
}

/// How often, and what it cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Penalty {
    /// How often.
    pub count: usize,
    /// What it took from his mean score.
    pub cost: f64,
    /// Whether that is the most that it can be: how novel other answers would have been, nobody knows.
    pub at_most: bool,
}

/// Copies of one miner's responses by another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Copied {
    /// The other miner's hotkey.
    pub miner: String,
    /// Responses.
    pub responses: usize,
    /// How many of each kind.
    pub kinds: BTreeMap<String, usize>,
    /// Their mean evidence in bits.
    pub evidence: f64,
    /// The prompt of the surest one.
    pub prompt_id: String,
    /// The longest run of words that both have in it.
    pub excerpt: String,
}

/// A response that resembles an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Neighbour {
    /// The prompt.
    pub prompt_id: String,
    /// How his response begins; empty in folders of older versions.
    pub excerpt: String,
    /// Who answered before him.
    pub miner: String,
    /// The prompt of that answer.
    pub of_prompt: String,
    /// How it begins.
    pub of_excerpt: String,
    /// Whether it is of an earlier round.
    pub history: bool,
    /// Cosine of the two embeddings.
    pub similarity: f64,
    /// If it counts as a copy: of what kind.
    pub copy_kind: Option<String>,
}

/// What a stage gave him.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageOf {
    /// The stage's kind.
    pub kind: String,
    /// The value after it, on any scale, among those who take part; `None` where he takes no part.
    #[serde(flatten)]
    pub place: Option<Place>,
}

/// What an epoch pays.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paid {
    /// His share of what miners earn, in 65535ths.
    pub incentive: u16,
    /// In rao, as a decimal.
    pub rao: String,
}

/// One thing changed, and the weights that come of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhatIf {
    /// What is changed: `no_copies`, `own_answers`, `full_novelty`, `all_answered`, `all_judged`, or `accuracy_of_next`, `_median` or `_best`.
    pub change: &'static str,
    /// The same in words: "with ...".
    pub words: String,
    /// His mean score.
    pub score: f64,
    /// His share of the weights.
    pub weight: Place,
    /// The weight as the chain takes it.
    pub weight_u16: u16,
    /// What his share gains; below zero where he would lose.
    pub gain: f64,
    /// Whether it is the most that he could gain: how novel other answers are, nobody knows before.
    pub at_most: bool,
}

#[derive(Deserialize)]
struct ScoreLine {
    prompt_id: String,
    miner: String,
    novelty: f64,
    nearest: Option<NearestLine>,
    #[serde(default)]
    copy_evidence: f64,
    copy_of: Option<String>,
    copy_kind: Option<String>,
    accuracy: f64,
    score_u16: u16,
    chars: usize,
    truncated: bool,
    fault: Option<String>,
    excerpt: Option<String>,
}

#[derive(Deserialize)]
struct NearestLine {
    miner: String,
    prompt_id: String,
    similarity: f64,
    #[serde(default)]
    history: bool,
    #[serde(default)]
    excerpt: String,
}

#[derive(Deserialize)]
struct MinerLine {
    miner: String,
    uid: Option<u16>,
    prompts: usize,
    novelty: f64,
    accuracy: f64,
    accuracy_interval: Option<[f64; 2]>,
    score: f64,
    weight: f64,
    weight_u16: u16,
    #[serde(default)]
    stages: Vec<StageLine>,
}

#[derive(Deserialize)]
struct StageLine {
    kind: String,
    value: Option<f64>,
}

#[derive(Deserialize)]
struct EpochLine {
    chain: ChainLine,
}

#[derive(Deserialize)]
struct ChainLine {
    incentive: Vec<u16>,
    server_emission: Vec<String>,
}

/// What `score` wrote, as far as it is needed.
struct Results {
    config: Config,
    scores: Vec<ScoreLine>,
    miners: Vec<MinerLine>,
    clusters: Vec<Cluster>,
    epoch: Option<EpochLine>,
}

/// Explains the weight of a miner, named by hotkey or uid, from the folder that `score` wrote.
///
/// # Errors
/// [`Error::Io`] where a file cannot be read; [`Error::File`] and [`Error::Row`] where one is not what `score` writes; [`Error::Usage`] if
/// there is no such miner.
pub fn explain(folder: &Path, miner: &str) -> Result<Explanation> {
    let results = Results::read(folder)?;
    let miner = results.find(miner)?;
    Ok(results.explain(miner))
}

impl Results {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("scores.jsonl");
        let refuse = |line: usize, error: &serde_json::Error| Error::Row {
            file: path.display().to_string(),
            line,
            field: "row".into(),
            problem: error.to_string(),
            remedy: "name a folder that `score` wrote, or score the round again".into(),
        };
        let text = read_text(&path)?;
        let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
        let scores = lines.map(|(line, number)| serde_json::from_str(line).map_err(|error| refuse(number, &error)));
        let epoch = folder.join("epoch.json");
        let results = Self {
            scores: scores.collect::<Result<_>>()?,
            config: Config::read(&folder.join("criteria.toml"))?,
            miners: read_json(&folder.join("miners.json"))?,
            clusters: read_json(&folder.join("copies.json"))?,
            epoch: epoch.exists().then(|| read_json(&epoch)).transpose()?,
        };
        let known: BTreeSet<&str> = results.miners.iter().map(|miner| miner.miner.as_str()).collect();
        match results.scores.iter().find(|row| !known.contains(row.miner.as_str())) {
            None => Ok(results),
            Some(row) => Err(Error::File {
                file: folder.join("miners.json").display().to_string(),
                field: "miner".into(),
                problem: format!("{:?} is not there, and has rows in scores.jsonl", row.miner),
                remedy: "keep the files of one run together, or score the round again".into(),
            }),
        }
    }

    fn find(&self, name: &str) -> Result<&MinerLine> {
        let by_name = self.miners.iter().find(|miner| miner.miner == name);
        let by_uid = || self.miners.iter().find(|miner| miner.uid.is_some() && miner.uid == name.parse().ok());
        by_name.or_else(by_uid).ok_or_else(|| {
            let likeness = |miner: &MinerLine| strsim::jaro_winkler(&miner.miner, name);
            let mut near: Vec<(f64, &str)> =
                self.miners.iter().map(|miner| (likeness(miner), miner.miner.as_str())).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
            let near: Vec<String> = near
                .into_iter()
                .take(SUGGESTED)
                .filter(|(likeness, _)| *likeness > 0.7)
                .map(|(_, miner)| format!("{miner:?}"))
                .collect();
            let remedy = match near.as_slice() {
                [] => "miners.json has those who did, by hotkey and uid".to_owned(),
                near => format!("did you mean {}? miners.json has all", near.join(" or ")),
            };
            Error::Usage {
                argument: "--miner".into(),
                problem: format!(
                    "nobody of the {} in this round has the hotkey or uid {name:?}: who answers nothing gets no weight",
                    self.miners.len()
                ),
                remedy,
            }
        })
    }

    fn explain(&self, miner: &MinerLine) -> Explanation {
        let own: Vec<Own<'_>> =
            self.scores.iter().filter(|row| row.miner == miner.miner).map(|row| Own::new(row, &self.config)).collect();
        let prompts: BTreeSet<&str> = self.scores.iter().map(|row| row.prompt_id.as_str()).collect();
        let weights = self.miners.iter().map(|miner| miner.weight);
        let mut notes = Vec::new();
        if own.iter().any(|own| own.scored(&self.config.score).abs_diff(own.row.score_u16) > 1) {
            notes.push("some scores do not follow from the row's accuracy and novelty: the folder was changed or is of another version".into());
        }
        if miner.prompts == 0 {
            notes.push(if self.config.weights.stages.is_empty() {
                "he answered nothing in this round".into()
            } else {
                "he answered nothing in this round: what weight he has is of earlier rounds, or the share of the subnet's owner".to_owned()
            });
        }
        let what_ifs = if miner.prompts == 0 { Vec::new() } else { self.what_ifs(miner, &own, &prompts, &mut notes) };
        Explanation {
            miner: miner.miner.clone(),
            uid: miner.uid,
            criteria: self.config.digest(),
            answered: own.len(),
            prompts: prompts.len(),
            weight: Place::new(miner.weight, weights),
            weight_u16: miner.weight_u16,
            parts: if miner.prompts == 0 { Vec::new() } else { self.parts(miner) },
            accuracy_interval: miner.accuracy_interval,
            formula: formula(&self.config.score),
            penalties: self.penalties(&own, prompts.len()),
            copied: self.copied(|cluster, copier| (copier.miner == miner.miner).then_some(&cluster.originator)),
            copied_by: self.copied(|cluster, copier| (cluster.originator == miner.miner).then_some(&copier.miner)),
            neighbours: neighbours(&own),
            stages: self.stages(miner),
            epoch: self.epoch.as_ref().zip(miner.uid).and_then(|(epoch, uid)| {
                let uid = usize::from(uid);
                let (incentive, rao) = (epoch.chain.incentive.get(uid)?, epoch.chain.server_emission.get(uid)?);
                Some(Paid { incentive: *incentive, rao: rao.clone() })
            }),
            what_ifs,
            notes,
        }
    }

    /// Those who answered.
    fn peers(&self) -> impl Iterator<Item = &MinerLine> + Clone {
        self.miners.iter().filter(|miner| miner.prompts > 0)
    }

    fn parts(&self, miner: &MinerLine) -> Vec<Part> {
        let part = |name: &'static str, of: fn(&MinerLine) -> f64| {
            let mut field: Vec<f64> = self.peers().map(of).collect();
            field.sort_by(f64::total_cmp);
            let place = Place::new(of(miner), field.iter().copied());
            Part { name, place, quantiles: [0, 1, 2, 3, 4].map(|quarter| quantile(&field, quarter)) }
        };
        vec![
            part("accuracy", |miner| miner.accuracy),
            part("novelty", |miner| miner.novelty),
            part("score", |miner| miner.score),
        ]
    }

    fn stages(&self, miner: &MinerLine) -> Vec<StageOf> {
        let stages = miner.stages.iter().enumerate();
        stages
            .map(|(at, stage)| {
                let values = self.miners.iter().filter_map(|miner| miner.stages.get(at)?.value);
                StageOf { kind: stage.kind.clone(), place: stage.value.map(|value| Place::new(value, values)) }
            })
            .collect()
    }

    /// Copies, under the name that `whose` gives.
    fn copied<'a>(&'a self, whose: impl Fn(&'a Cluster, &'a Copier) -> Option<&'a String>) -> Vec<Copied> {
        let all = self.clusters.iter().flat_map(|cluster| cluster.copies.iter().map(move |copier| (cluster, copier)));
        let mut found: Vec<Copied> = all
            .filter_map(|(cluster, copier)| {
                Some(Copied {
                    miner: whose(cluster, copier)?.clone(),
                    responses: copier.responses,
                    kinds: copier.kinds.clone(),
                    evidence: copier.evidence,
                    prompt_id: copier.proof.prompt_id.clone(),
                    excerpt: copier.proof.excerpt.clone(),
                })
            })
            .collect();
        found.sort_by(|a, b| b.responses.cmp(&a.responses).then_with(|| a.miner.cmp(&b.miner)));
        found
    }

    /// Over how many prompts his mean score is.
    fn counted(&self, own: &[Own<'_>], prompts: usize) -> f64 {
        let counted = if self.config.score.unanswered == Unanswered::Zero { prompts } else { own.len() };
        counted.max(1) as f64
    }

    fn penalties(&self, own: &[Own<'_>], prompts: usize) -> Penalties {
        let (score, counted) = (&self.config.score, self.counted(own, prompts));
        let penalty = |applies: &dyn Fn(&Own<'_>) -> bool, mended: &dyn Fn(&Own<'_>) -> u16| {
            let rows: Vec<&Own<'_>> = own.iter().filter(|own| applies(own)).collect();
            let lost = |own: &&Own<'_>| f64::from(mended(own).saturating_sub(own.row.score_u16));
            Penalty { count: rows.len(), cost: rows.iter().map(lost).sum::<f64>() / 65_535.0 / counted, at_most: false }
        };
        let mean = mean_of_judged(own);
        let missing = prompts.saturating_sub(own.len());
        let average =
            own.iter().map(|own| f64::from(own.row.score_u16)).sum::<f64>() / own.len().max(1) as f64 / 65_535.0;
        let novel = |own: &Own<'_>| Own { novelty: 1.0, ..own.innocent() }.scored(score);
        Penalties {
            copies: Penalty { at_most: true, ..penalty(&|own| own.certainty > 0.0, &novel) },
            novelty: penalty(&|own| own.certainty == 0.0 && own.novelty < score.novelty_saturation, &novel),
            unanswered: Penalty {
                count: missing,
                cost: if score.unanswered == Unanswered::Zero { average * missing as f64 / counted } else { 0.0 },
                at_most: false,
            },
            blank: penalty(&|own| own.is_blank(), &|_| mean),
            faults: penalty(&|own| own.row.fault.is_some(), &|_| mean),
            first_fault: own.iter().find_map(|own| own.row.fault.clone()),
            truncated: own.iter().filter(|own| own.row.truncated).count(),
        }
    }

    /// What would have changed his weight, the most first.
    fn what_ifs(
        &self,
        miner: &MinerLine,
        own: &[Own<'_>],
        prompts: &BTreeSet<&str>,
        notes: &mut Vec<String>,
    ) -> Vec<WhatIf> {
        let world = match World::new(self, miner, prompts) {
            Ok(world) => world,
            Err(reason) => {
                notes.push(format!("what would have changed the weight cannot be told: {reason}"));
                return Vec::new();
            }
        };
        notes.extend(world.note.clone());
        let score = &self.config.score;
        let mut what_ifs = Vec::new();
        let mut ask = |change: &'static str, words: String, at_most: bool, rows: Vec<(&str, Answer)>, copies: bool| {
            if let Ok(Outcome { weight, weight_u16, score }) = world.with(rows, copies) {
                let gain = weight.value - miner.weight;
                what_ifs.push(WhatIf { change, words, score, weight, weight_u16, gain, at_most });
            }
        };
        let changed = |which: &dyn Fn(&Own<'_>) -> bool, change: &dyn Fn(&Own<'_>) -> Answer| -> Vec<(&str, Answer)> {
            own.iter().filter(|own| which(own)).map(|own| (own.row.prompt_id.as_str(), change(own))).collect()
        };

        let copies = own.iter().filter(|own| own.certainty > 0.0).count();
        if copies > 0 {
            let unknown = own.iter().any(|own| own.unknown);
            let rows = changed(&|own| own.certainty > 0.0, &|own| own.innocent().answer(score));
            let words = format!("with {copies} copies taken for his own, their novelty as embeddings have it");
            ask("no_copies", words, unknown, rows, false);
            let rows = changed(&|own| own.certainty > 0.0, &|own| Own { novelty: 1.0, ..own.innocent() }.answer(score));
            let words = format!("with answers of his own, like nobody's before, in the place of {copies} copies");
            ask("own_answers", words, true, rows, false);
        }
        if own.iter().any(|own| own.novelty < score.novelty_saturation) {
            let rows = changed(&|_| true, &|own| Own { novelty: 1.0, ..*own }.answer(score));
            let apart = if copies > 0 { ", copies still losing theirs" } else { "" };
            ask("full_novelty", format!("with answers like nobody's before{apart}"), false, rows, true);
        }
        let mean = mean_answer(own);
        let missing: Vec<&str> =
            prompts.iter().copied().filter(|id| own.iter().all(|own| own.row.prompt_id != *id)).collect();
        if !missing.is_empty() {
            let words = format!("with the {} prompts answered that he left out, as well as the others", missing.len());
            ask("all_answered", words, false, missing.iter().map(|id| (*id, mean)).collect(), true);
        }
        let worthless = own.iter().filter(|own| own.worthless).count();
        if worthless > 0 && worthless < own.len() {
            let words = format!("with {worthless} blank or faulty responses as good as his others");
            ask("all_judged", words, false, changed(&|own| own.worthless, &|_| mean), true);
        }
        for (change, whose, accuracy) in self.accuracies(miner) {
            let rows = changed(&|_| true, &|own| own.with_mean_accuracy(accuracy, miner.accuracy).answer(score));
            ask(change, format!("with the accuracy of {whose}, {accuracy:.4}"), false, rows, true);
        }
        what_ifs.sort_by(|a, b| b.gain.total_cmp(&a.gain));
        what_ifs
    }

    /// Accuracies of others to compare with: of the next better one, the median and the best.
    fn accuracies(&self, miner: &MinerLine) -> Vec<(&'static str, String, f64)> {
        let mut peers: Vec<&MinerLine> = self.peers().collect();
        peers.sort_by(|a, b| a.accuracy.total_cmp(&b.accuracy).then_with(|| a.miner.cmp(&b.miner)));
        let mut found = Vec::new();
        if let Some(next) = peers.iter().find(|peer| peer.accuracy > miner.accuracy) {
            found.push(("accuracy_of_next", format!("{}, the next better one", next.miner), next.accuracy));
        }
        if let Some(median) = peers.get(peers.len() / 2).filter(|median| median.miner != miner.miner) {
            found.push(("accuracy_of_median", format!("{}, the median", median.miner), median.accuracy));
        }
        if let Some(best) = peers.last().filter(|best| best.accuracy > miner.accuracy) {
            found.push(("accuracy_of_best", format!("{}, the best", best.miner), best.accuracy));
        }
        // Where two of them are one, he is told once.
        let mut told = BTreeSet::new();
        found.retain(|(_, _, accuracy)| told.insert(accuracy.to_bits()));
        found
    }
}

/// One of his rows, taken apart.
#[derive(Clone, Copy)]
struct Own<'a> {
    row: &'a ScoreLine,
    accuracy: f64,
    /// By embeddings, before copies lose theirs.
    novelty: f64,
    /// Of being a copy.
    certainty: f64,
    worthless: bool,
    /// Whether the novelty is not known: that of a sure copy is 0, whatever it was before.
    unknown: bool,
}

impl<'a> Own<'a> {
    fn new(row: &'a ScoreLine, config: &Config) -> Self {
        let evidence = (row.copy_evidence.max(0.0) * 256.0) as u64;
        let finding = Finding { evidence, source: None };
        let certainty =
            if config.copies.bits == 0 { 0.0 } else { f64::from(finding.certainty(config.copies.bits)) / 65_536.0 };
        // One neighbour alone says what the novelty was.
        let by_neighbour = || 1.0 - row.nearest.as_ref().map_or(0.0, |nearest| nearest.similarity.clamp(0.0, 1.0));
        let one_neighbour =
            config.novelty.nearest == 1 || config.novelty.against == Against::Batch && row.nearest.is_none();
        let (novelty, unknown) = match certainty {
            certainty if certainty < 1.0 => (row.novelty / (1.0 - certainty), false),
            _ if one_neighbour => (by_neighbour(), false),
            _ => (1.0, true),
        };
        let mut own = Self { row, accuracy: row.accuracy, novelty, certainty, worthless: false, unknown };
        let reads_text = !matches!(config.loss.kind, LossKind::Logits | LossKind::Logprobs);
        own.worthless = row.fault.is_some() || reads_text && own.is_blank();
        own
    }

    /// The same, were it no copy.
    fn innocent(&self) -> Self {
        Self { certainty: 0.0, ..*self }
    }

    fn is_blank(&self) -> bool {
        self.row.chars == 0 || self.row.excerpt.as_ref().is_some_and(String::is_empty)
    }

    fn scored(&self, score: &ScoreConfig) -> u16 {
        score.score(self.accuracy, self.novelty, self.certainty, self.worthless)
    }

    fn answer(&self, score: &ScoreConfig) -> Answer {
        let novelty = self.novelty * (1.0 - self.certainty);
        Answer { score: self.scored(score), accuracy: part(self.accuracy), novelty: part(novelty), ..Answer::default() }
    }

    /// With an accuracy by which his mean, which is `mean`, becomes another one: all move by the same part of what lies between them and the
    /// best, or the worst.
    fn with_mean_accuracy(&self, wanted: f64, mean: f64) -> Self {
        let accuracy = if wanted >= mean {
            let part = if mean < 1.0 { (wanted - mean) / (1.0 - mean) } else { 0.0 };
            self.accuracy + (1.0 - self.accuracy) * part
        } else {
            self.accuracy * wanted / mean
        };
        Self { accuracy, ..*self }
    }
}

/// The mean of what he answered and could be judged.
fn mean_answer(own: &[Own<'_>]) -> Answer {
    let judged: Vec<&Own<'_>> = own.iter().filter(|own| !own.worthless).collect();
    let mean =
        |of: &dyn Fn(&Own<'_>) -> f64| judged.iter().map(|own| of(own)).sum::<f64>() / judged.len().max(1) as f64;
    Answer {
        score: part(mean(&|own| f64::from(own.row.score_u16) / 65_535.0)),
        accuracy: part(mean(&|own| own.row.accuracy)),
        novelty: part(mean(&|own| own.row.novelty)),
        ..Answer::default()
    }
}

fn mean_of_judged(own: &[Own<'_>]) -> u16 {
    mean_answer(own).score
}

/// The round as the stages see it, and his place in it.
struct World<'a> {
    config: &'a Config,
    table: Table,
    memory: Memory,
    at: u32,
    note: Option<String>,
}

/// What comes of a change.
struct Outcome {
    weight: Place,
    weight_u16: u16,
    score: f64,
}

impl<'a> World<'a> {
    /// Builds the table anew, and holds it to the weights that the folder has; else says why it cannot be.
    fn new(results: &'a Results, miner: &MinerLine, prompts: &BTreeSet<&str>) -> std::result::Result<Self, String> {
        let config = &results.config;
        let mut miners: Vec<&MinerLine> = results.miners.iter().collect();
        miners.sort_by(|a, b| a.miner.cmp(&b.miner));
        let index: HashMap<&str, u32> = miners.iter().zip(0..).map(|(miner, at)| (miner.miner.as_str(), at)).collect();
        let prompt_at: HashMap<&str, u32> = prompts.iter().copied().zip(0..).collect();
        let entrant =
            |miner: &&MinerLine| Entrant { hotkey: miner.miner.clone(), uid: miner.uid, coldkey: None, block: None };
        let answer = |row: &ScoreLine| Answer {
            prompt: prompt_at[row.prompt_id.as_str()],
            entrant: index[row.miner.as_str()],
            score: row.score_u16,
            accuracy: part(row.accuracy),
            novelty: part(row.novelty),
        };
        let mut answers: Vec<Answer> = results.scores.iter().map(answer).collect();
        answers.sort_unstable_by_key(|row| (row.prompt, row.entrant));
        let mut copies: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        for row in &results.scores {
            if let Some(of) = row.copy_of.as_deref().and_then(|of| index.get(of)) {
                *copies.entry((index[row.miner.as_str()], *of)).or_default() += 1;
            }
        }
        let mut table = Table {
            entrants: miners.iter().map(entrant).collect(),
            prompts: prompts.iter().map(|id| (*id).to_owned()).collect(),
            answers,
            unanswered_is_zero: config.score.unanswered == Unanswered::Zero,
            copies: copies.into_iter().map(|((entrant, of), answers)| Copying { entrant, of, answers }).collect(),
            ..Table::default()
        };
        find_owner(config, &miners, &mut table);
        let memory = remembered(config, &miners);
        let reckoned = !memory.is_empty();

        let row = weights::weigh(&config.weights, &table, &memory).map_err(|error| error.to_string())?.row;
        let off = row.iter().zip(&miners).map(|(weight, miner)| weight.abs_diff(miner.weight_u16)).max().unwrap_or(0);
        if off > u16::from(reckoned) {
            let kinds: BTreeSet<&str> = config.weights.stages.iter().map(Stage::kind).collect();
            let kinds: Vec<&str> = kinds.into_iter().collect();
            return Err(if kinds.is_empty() {
                "the weights do not follow from scores.jsonl: files of two runs, or changed ones".into()
            } else {
                format!(
                    "the stages ({}) need what the folder does not hold: ratings before the round, or in which block each answered",
                    kinds.join(", ")
                )
            });
        }
        let note = reckoned.then(|| {
            "the averages before this round are reckoned back from what stage \"ema\" gave: what-ifs are right to a 65535th".to_owned()
        });
        Ok(Self { config, table, memory, at: index[miner.miner.as_str()], note })
    }

    /// The weights with some of his answers, by the prompt's id, changed or added; without his copies, if they are not to count.
    fn with(&self, rows: Vec<(&str, Answer)>, copies: bool) -> Result<Outcome> {
        let mut table = self.table.clone();
        for (prompt_id, row) in rows {
            let Ok(prompt) = table.prompts.binary_search_by(|id| id.as_str().cmp(prompt_id)) else { continue };
            let row = Answer { prompt: prompt as u32, entrant: self.at, ..row };
            match table.answers.binary_search_by_key(&(row.prompt, row.entrant), |row| (row.prompt, row.entrant)) {
                Ok(at) => table.answers[at] = row,
                Err(at) => table.answers.insert(at, row),
            }
        }
        if !copies {
            table.copies.retain(|copy| copy.entrant != self.at);
        }
        let row = weights::weigh(&self.config.weights, &table, &self.memory)?.row;
        let total: u64 = row.iter().map(|weight| u64::from(*weight)).sum();
        let share = |weight: u16| if total == 0 { 0.0 } else { f64::from(weight) / total as f64 };
        let weight_u16 = row[self.at as usize];
        let own: Vec<u16> = table.answers.iter().filter(|row| row.entrant == self.at).map(|row| row.score).collect();
        let counted = if table.unanswered_is_zero { table.prompts.len() } else { own.len() };
        Ok(Outcome {
            weight: Place::new(share(weight_u16), row.iter().map(|weight| share(*weight))),
            weight_u16,
            score: own.iter().map(|score| f64::from(*score)).sum::<f64>() / 65_535.0 / counted.max(1) as f64,
        })
    }
}

/// Tells the table who the subnet's owner is, where a stage gives him a share: the folder has no coldkeys, but who got exactly that.
fn find_owner(config: &Config, miners: &[&MinerLine], table: &mut Table) {
    let Some(Stage::Burn(burn)) = config.weights.stages.last() else { return };
    let got = |miner: &&MinerLine| miner.stages.last().and_then(|stage| stage.value);
    let share = |value: f64| value == burn.share || value == 1.0;
    let owner = match burn.uid {
        Some(uid) => miners.iter().position(|miner| miner.uid == Some(uid)),
        None => miners.iter().position(|miner| got(miner).is_some_and(share)),
    };
    if let Some(owner) = owner {
        table.entrants[owner].coldkey = Some(burn.coldkey.clone());
        table.owner_uid = table.entrants[owner].uid;
    }
}

/// What the stages remembered before the round, as far as it can be reckoned back from what they gave: the moving averages.
fn remembered(config: &Config, miners: &[&MinerLine]) -> Memory {
    let mut memory = Memory::default();
    let Some((at, ema)) = config.weights.stages.iter().enumerate().find_map(|(at, stage)| match stage {
        Stage::Ema(ema) => Some((at, ema)),
        _ => None,
    }) else {
        return memory;
    };
    for miner in miners {
        let Some(after) = miner.stages.get(at).and_then(|stage| stage.value) else { continue };
        let before = match at {
            0 => (miner.prompts > 0).then_some(miner.score),
            at => miner.stages[at - 1].value,
        };
        let average = average_before(ema, before, after);
        if average > 0.0 {
            memory.averages.insert(miner.miner.clone(), average);
        }
    }
    memory
}

/// The average that a value, or none, has moved to `after`.
fn average_before(ema: &Ema, value: Option<f64>, after: f64) -> f64 {
    // Who moved up was below the value, and still is.
    let rate = if value.unwrap_or(0.0) > after { ema.alpha_up } else { ema.alpha_down };
    let alpha = ema.alpha.or(rate).unwrap_or(1.0);
    let kept = 1.0 - alpha;
    match value {
        None if ema.unqueried == weights::Unqueried::Keep => after,
        // Nothing is left of it.
        _ if kept <= 0.0 => after,
        value => ((after - alpha * value.unwrap_or(0.0)) / kept).max(0.0),
    }
}

impl Place {
    fn new(value: f64, field: impl Iterator<Item = f64>) -> Self {
        let (mut rank, mut of) = (1, 0);
        for other in field {
            rank += usize::from(other > value);
            of += 1;
        }
        Self { value, rank, of }
    }
}

/// The value below which so many quarters of an ascending field lie, in a straight line between two.
fn quantile(field: &[f64], quarters: usize) -> f64 {
    let at = field.len().saturating_sub(1) as f64 * quarters as f64 / 4.0;
    let (low, part) = (at.floor() as usize, at.fract());
    let value = |at: usize| field.get(at).or(field.last()).copied().unwrap_or(0.0);
    value(low) + part * (value(low + 1) - value(low))
}

/// His responses that resemble earlier ones most.
fn neighbours(own: &[Own<'_>]) -> Vec<Neighbour> {
    let mut found: Vec<Neighbour> = own
        .iter()
        .filter_map(|Own { row, .. }| {
            let nearest = row.nearest.as_ref()?;
            Some(Neighbour {
                prompt_id: row.prompt_id.clone(),
                excerpt: row.excerpt.clone().unwrap_or_default(),
                miner: nearest.miner.clone(),
                of_prompt: nearest.prompt_id.clone(),
                of_excerpt: nearest.excerpt.clone(),
                history: nearest.history,
                similarity: nearest.similarity,
                copy_kind: row.copy_kind.clone(),
            })
        })
        .collect();
    found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then_with(|| a.prompt_id.cmp(&b.prompt_id)));
    found.truncate(NEIGHBOURS);
    found
}

/// How a response's score is made.
fn formula(score: &ScoreConfig) -> String {
    let power = |base: String, exponent: f64| match exponent {
        0.0 => None,
        1.0 => Some(base),
        exponent => Some(format!("{base}^{exponent}")),
    };
    let novelty = match score.novelty_saturation {
        1.0 => "novelty".to_owned(),
        saturation => format!("min(1, novelty / {saturation})"),
    };
    let factors = [
        power("accuracy".into(), score.accuracy_power),
        power(novelty, score.novelty_power),
        Some("(1 - certainty of a copy)".to_owned()),
    ];
    format!("score = {}", factors.into_iter().flatten().collect::<Vec<_>>().join(" * "))
}
