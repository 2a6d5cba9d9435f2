//! From what `score` found to an entry's body.

use std::collections::{BTreeMap, HashMap};

use super::{Body, Digest, Entry, Epoch, Model, ResponseLeaf, Round, merkle};
use crate::config::Config;
use crate::data;
use crate::device::Variant;
use crate::nn::Precision;
use crate::pipeline::{Embedder, EpochResult, Judge, Outcome};
use crate::stages::weights::{self, Memory, Stage};
use crate::stages::yuma::State;
use crate::{KERNELS, state};

const PROMPTS: &str = "tauscore 2026-11 ledger: prompts and references";
const SHADERS: &str = "tauscore 2026-11 ledger: shaders";

/// How far a score may move, in 65535ths, where an encoder in floats is part of it: devices round differently, by a few units in the last place.
const STEP_OF_ENCODER: u16 = 16;
/// The same of a language model, of whose token losses 1e-3 is promised.
const STEP_OF_LANGUAGE_MODEL: u16 = 132;

/// What there is to record of a round.
#[derive(Clone, Copy, Debug)]
pub struct Recording<'a> {
    /// The round.
    pub round: &'a data::Round,
    /// The earlier rounds that counted as answered before.
    pub history: &'a [data::Round],
    /// What the stages of the weights remembered before it.
    pub memory: &'a Memory,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// The criteria.
    pub config: &'a Config,
    /// What embedded it.
    pub embedder: &'a Embedder,
    /// The language model that judged it, if one did.
    pub judge: Option<&'a Judge>,
    /// The subnet's state and its epoch with the round's row, if one ran.
    pub epoch: Option<(&'a State, &'a EpochResult)>,
}

impl Recording<'_> {
    /// Whether an entry is of the same round.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        entry.body.round().is_some_and(|round| round.round == Digest(state::digest(self.round)))
    }

    /// The body of its entry; `first` in its ledger, it brings the criteria.
    pub fn body(&self, first: bool) -> Body {
        let Self { round, outcome, config, embedder, .. } = self;
        let table = outcome.table.clone();
        let texts = texts_of(round);
        let text = |(hotkey, prompt_id, _)| texts.get(&(prompt_id, hotkey)).copied().unwrap_or_default();
        let weights: HashMap<&str, u16> =
            outcome.miners.iter().map(|miner| (miner.miner.as_str(), miner.weight)).collect();
        let weight = |entrant: &weights::Entrant| weights.get(entrant.hotkey.as_str()).copied().unwrap_or_default();
        let remembers = config.weights.stages.iter().any(Stage::remembers);
        let encoder = Model {
            role: "encoder".into(),
            name: config.encoder.model.clone(),
            weights: embedder.digest().into(),
            tokenizer: embedder.tokenizer_digest().into(),
        };
        let judge = self.judge.map(|judge| Model {
            role: "loss".into(),
            name: config.loss.model().into(),
            weights: judge.digest().into(),
            tokenizer: judge.tokenizer_digest().into(),
        });
        let epoch = self.epoch.map(|(state, result)| Epoch {
            validator: result.validator,
            state: json(state),
            chain: json(&result.chain),
        });
        Body::Round(Box::new(Round {
            engine: env!("CARGO_PKG_VERSION").into(),
            device: embedder.device().name().to_string(),
            shaders: shaders(),
            models: std::iter::once(encoder).chain(judge).collect(),
            criteria: first.then(|| config.to_toml()),
            step: step(config),
            round: Digest(state::digest(round)),
            prompts: prompts(round),
            history: self.history.iter().map(responses).collect(),
            texts: table.named().map(text).collect(),
            weights: table.entrants.iter().map(weight).collect(),
            memory: if remembers { self.memory.clone() } else { Memory::default() },
            table,
            epoch,
        }))
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Digests of a round's texts by prompt and hotkey.
pub(super) fn texts_of(round: &data::Round) -> BTreeMap<(&str, &str), Digest> {
    let name = |row: &data::Response| {
        let prompt = round.prompt_of(row).map_or("", |prompt| prompt.id.as_str());
        (prompt, round.miner_of(row).map_or("", |miner| miner.hotkey.as_str()))
    };
    round.responses().iter().map(|row| (name(row), Digest::of(row.text.as_bytes()))).collect()
}

/// The Merkle root over a round's responses: the same for all who were given the same answers to the same prompts.
pub fn responses(round: &data::Round) -> Digest {
    let leaf = |((prompt_id, hotkey), text)| ResponseLeaf { hotkey, prompt_id, text }.digest();
    merkle::root(&texts_of(round).into_iter().map(leaf).collect::<Vec<_>>())
}

/// A digest of what was asked and what answers were compared with.
pub fn prompts(round: &data::Round) -> Digest {
    let mut prompts: Vec<_> = round
        .prompts()
        .iter()
        .map(|prompt| {
            let rule = prompt.rule.as_ref().map(|rule| (format!("{:?}", rule.compare), &rule.pattern));
            (&prompt.id, &prompt.text, &prompt.reference, &prompt.tokens, rule)
        })
        .collect();
    prompts.sort_unstable_by_key(|(id, ..)| *id);
    Digest::of_value(PROMPTS, &prompts)
}

/// A digest of the kernels' shaders.
pub fn shaders() -> Digest {
    let shaders: Vec<_> = KERNELS
        .iter()
        .flat_map(|kernel| [Variant::Core, Variant::Int64].map(|variant| (kernel.name, kernel.wgsl.of(variant))))
        .collect();
    Digest::of_value(SHADERS, &shaders)
}

/// How far scores by these criteria may differ between devices, in 65535ths: 0 where all that they come from is integers.
pub fn step(config: &Config) -> u16 {
    match (config.loss.reading(), config.encoder.precision) {
        (Some(_), _) => STEP_OF_LANGUAGE_MODEL,
        (None, Precision::F32) => STEP_OF_ENCODER,
        (None, Precision::Exact) => 0,
    }
}
