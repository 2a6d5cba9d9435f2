//! What a person looks at: a round, a subnet or a ledger as one HTML file without scripts, which asks for nothing outside itself.
//!
//! [`Report`] is plain data; where it comes from is in `read.rs`, what becomes of it in `page.rs`, with its drawings in `chart.rs`.

mod chart;
mod ledger;
mod order;
mod page;
mod read;

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::pipeline::Similarity;
use crate::pipeline::audit::Audit;
pub use crate::pipeline::{Cluster, Copier, Proof};

/// All that a page can show. What is not known is left out of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Where it comes from, as the user named it.
    pub source: String,
    /// Scored rounds: one, or one a validator.
    pub rounds: Vec<Scored>,
    /// The subnet and its epoch.
    pub subnet: Option<Subnet>,
    /// How decentralised it is.
    pub audit: Option<Audit>,
    /// The rounds before, by a ledger.
    pub history: Option<History>,
    /// What else there is to name: a label and a digest each.
    pub digests: Vec<(String, String)>,
}

/// What `score` found in a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scored {
    /// Whose round it is, where there are several.
    pub validator: Option<String>,
    /// How many prompts were asked, where known.
    pub prompts: Option<usize>,
    /// The miners, the best first.
    pub miners: Vec<Miner>,
    /// Who copied whom, by originator; `None` where it is not known.
    pub copies: Option<Vec<Cluster>>,
    /// How alike they answer.
    pub similarity: Option<Similarity>,
    /// The criteria (TOML) and their digest.
    pub criteria: Option<(String, String)>,
}

/// A miner, as `miners.json` has him.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Miner {
    /// His hotkey.
    pub miner: String,
    /// His uid, where known.
    #[serde(default)]
    pub uid: Option<u16>,
    /// Prompts that he answered.
    pub prompts: usize,
    /// Answers that count as copies.
    pub copies: usize,
    /// Mean novelty, in [0, 1].
    pub novelty: f64,
    /// Mean accuracy, in [0, 1].
    pub accuracy: f64,
    /// Between which bounds it lies for 95 % of resamples.
    #[serde(default)]
    pub accuracy_interval: Option<[f64; 2]>,
    /// Mean score, in [0, 1].
    pub score: f64,
    /// His share of the weights, in [0, 1].
    pub weight: f64,
}

/// A subnet and its epoch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subnet {
    /// Its number, where known.
    pub netuid: Option<u16>,
    /// The block of the epoch, where known.
    pub block: Option<u64>,
    /// One a uid, ascending.
    pub neurons: Vec<Neuron>,
    /// Rows of weights that count, those with most stake first.
    pub rows: Vec<Row>,
}

/// A uid after the epoch. Shares are in [0, 1].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neuron {
    /// His hotkey, where known.
    pub hotkey: Option<String>,
    /// His share of all stake.
    pub stake: f64,
    /// The weight that the majority of stake supports.
    pub consensus: f64,
    /// His share of what miners earn.
    pub incentive: f64,
    /// His share of what validators earn.
    pub dividends: f64,
    /// What is left of his weights under consensus.
    pub trust: f64,
    /// What he earns, in rao.
    pub emission: u64,
}

/// A validator's weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// His uid.
    pub validator: u16,
    /// Uids and the shares of the row that they have.
    pub weights: Vec<(u16, f64)>,
}

/// A ledger's rounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The oldest first.
    pub entries: Vec<HistoryEntry>,
}

/// A round in a ledger.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistoryEntry {
    /// Its number.
    pub number: u64,
    /// Its block.
    pub block: u64,
    /// The digest of its criteria.
    pub criteria: String,
    /// Whether they are others than those of the entry before.
    pub changed: bool,
    /// Responses.
    pub responses: u64,
    /// Those that count as copies.
    pub copies: u64,
    /// Hotkeys and weights as the chain takes them.
    pub weights: Vec<(String, u16)>,
}

/// A miner who hands in copies.
#[derive(Clone, Debug, PartialEq)]
struct Copycat<'a> {
    miner: &'a str,
    /// Answers that are copies.
    responses: usize,
    /// Answers that he gave.
    of_responses: usize,
    /// Whose they were and how many, the most first.
    of: Vec<(&'a str, usize)>,
}

/// Below this share of his answers copies do not make a copycat: models of one family say the same now and then.
const FEW: f64 = 0.25;

impl Copycat<'_> {
    fn share(&self) -> f64 {
        self.responses as f64 / self.of_responses.max(1) as f64
    }
}

/// Who hands in copies in any of `rounds`, by how many of his answers are.
fn copycats<'a>(rounds: impl IntoIterator<Item = &'a Scored>) -> Vec<Copycat<'a>> {
    let mut found: BTreeMap<&str, (usize, usize, HashMap<&str, usize>)> = BTreeMap::new();
    for round in rounds {
        let mut answered = HashMap::new();
        for (originator, copier) in
            round.copies.iter().flatten().flat_map(|of| of.copies.iter().map(|copier| (&of.originator, copier)))
        {
            let (responses, _, of) = found.entry(&copier.miner).or_default();
            *responses += copier.responses;
            *of.entry(originator.as_str()).or_default() += copier.responses;
            answered.insert(copier.miner.as_str(), copier.of_responses);
        }
        for (miner, responses) in answered {
            found.entry(miner).or_default().1 += responses;
        }
    }
    let mut copycats: Vec<Copycat<'a>> = found
        .into_iter()
        .map(|(miner, (responses, of_responses, of))| {
            let mut of: Vec<(&str, usize)> = of.into_iter().collect();
            of.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
            Copycat { miner, responses, of_responses, of }
        })
        .collect();
    copycats.sort_by(|a, b| b.share().total_cmp(&a.share()).then_with(|| a.miner.cmp(b.miner)));
    copycats
}

impl Report {
    /// The page: one file, complete.
    pub fn to_html(&self) -> String {
        page::page(self)
    }
}
