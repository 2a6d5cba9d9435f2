//! A language model as judge: what a response does to the losses of tokens.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::embedder::{TOKENIZER, check_ids};
use crate::device::Device;
use crate::models;
use crate::nn::llama::{Checkpoint, LlamaModel};
use crate::progress::{Event, Listener};
use crate::stages::language::{LanguageModel, Passage, STAGE};
use crate::stages::tokens::ChatTokenizer;
use crate::{Error, Result};

/// Tokens that are timed to tell how long the others will take.
const SAMPLE: usize = 128;

/// Which tokens' losses are compared with which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// The response, given the prompt.
    Response,
    /// The reference, given the prompt and the response, against the reference given the prompt alone.
    ReferenceGain,
    /// The same, and beside it what [`Judgement::Explained`] compares.
    MutualGain,
    /// The response, given the prompt and the reference, against the response given the prompt alone.
    Explained,
    /// The response, given the prompt, against the response given an empty prompt.
    Information,
}

impl Judgement {
    /// Whether it needs a reference.
    pub fn needs_reference(self) -> bool {
        matches!(self, Self::ReferenceGain | Self::MutualGain | Self::Explained)
    }
}

/// A response to a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What was asked.
    pub prompt: &'a str,
    /// What was answered.
    pub response: &'a str,
    /// What a good answer would be.
    pub reference: Option<&'a str>,
}

/// What came of one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judged {
    /// Losses of the tokens that are judged, in nats.
    pub token_losses: Vec<f32>,
    /// Losses of the same tokens without what is judged by them; empty where nothing is compared.
    pub baseline: Vec<f32>,
    /// Mean loss of the response's own tokens, given the prompt, in nats; `None` if it has none.
    pub surprise: Option<f64>,
    /// With [`Judgement::MutualGain`]: how much less the response's own tokens cost where the reference is known, in nats, together; `None` if it
    /// has none.
    pub explained: Option<f64>,
}

impl Judged {
    /// As [`Judged::loss`], summed over the tokens: in nats.
    pub fn total(&self) -> Option<f64> {
        Some(self.loss()? * self.token_losses.len() as f64)
    }

    /// The mean loss, less the baseline's: in nats per token, the lower the better. `None` if no token was judged.
    pub fn loss(&self) -> Option<f64> {
        Some(mean(&self.token_losses)? - mean(&self.baseline).unwrap_or(0.0))
    }
}

/// How a [`Judge`] reads.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What is compared.
    pub judgement: Judgement,
    /// The most tokens of a response. [`Judgement::Response`] takes all of it.
    pub response_tokens: usize,
    /// The most tokens of a reference.
    pub reference_tokens: usize,
    /// Whether what stands before several responses is computed once for all of them. It changes no bit.
    pub share: bool,
}

/// A language model and its tokenizer.
#[derive(Debug)]
pub struct Judge {
    tokenizer: ChatTokenizer,
    model: LanguageModel,
    digest: String,
    tokenizer_digest: String,
}

/// Prefixes and passages of some cases, each distinct one once.
#[derive(Default)]
struct Work {
    share: bool,
    prefixes: Vec<Vec<u32>>,
    known_prefixes: HashMap<Vec<u32>, usize>,
    passages: Vec<Continued>,
    known_passages: HashMap<Continued, usize>,
}

/// As [`Passage`].
#[derive(Clone, PartialEq, Eq, Hash)]
struct Continued {
    prefix: usize,
    tokens: Vec<u32>,
    scored: Vec<Range<usize>>,
}

/// Which passages a case is judged by.
struct Plan {
    /// The passage and the first of its losses that count.
    judged: (usize, usize),
    baseline: Option<usize>,
    /// The passage whose first losses are those of the response, and how many these are.
    response: (usize, usize),
    /// The passage of the response, given the reference.
    explained: Option<usize>,
}

impl Judge {
    /// Loads the model at `path`, a GGUF file or a folder, onto `device`. `pin` is the SHA-256, in hexadecimal, that its file of weights
    /// must have.
    ///
    /// # Errors
    /// As [`LlamaModel::open`] and [`ChatTokenizer::open`]; [`Error::File`] if the file is another than the pinned one, or the
    /// tokenizer has ids beyond the model's vocabulary;
    /// [`Error::Device`] if the device has no room.
    pub fn load(device: &Device, path: &Path, pin: Option<&str>) -> Result<Self> {
        let checkpoint = Checkpoint::find(path)?;
        let digest = digest(&checkpoint.weights()?)?;
        if let Some(pin) = pin.filter(|pin| !pin.eq_ignore_ascii_case(&digest)) {
            return Err(Error::File {
                file: path.display().to_string(),
                field: "sha256".into(),
                problem: format!("it is {digest}, and the criteria mean {pin}"),
                remedy: "name the model that the criteria mean, or leave `sha256` out of [loss]".into(),
            });
        }
        let (tokenizer, model) = (ChatTokenizer::open(path)?, LlamaModel::open(path)?);
        check_ids(path, tokenizer.vocabulary(), model.config.vocabulary)?;
        let tokenizer_digest = match &checkpoint {
            Checkpoint::Gguf(_) => digest.clone(),
            // The second has the chat template.
            Checkpoint::Safetensors(folder) => {
                let files = [TOKENIZER, "tokenizer_config.json"].map(|name| folder.join(name));
                self::digest(&files.into_iter().filter(|file| file.exists()).collect::<Vec<_>>())?
            }
        };
        Ok(Self { tokenizer, model: LanguageModel::new(device, &model)?, digest, tokenizer_digest })
    }

    /// The SHA-256 of the model's file of weights, in hexadecimal; of several files, that of their digests, a line each, by name. As `sha256` in
    /// [`LossConfig`](crate::config::LossConfig) it makes criteria say which weights they mean.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The SHA-256 of the model's tokenizer and chat template, in hexadecimal, as [`Judge::digest`]; of a GGUF file, which has them in it, that of the
    /// file.
    pub fn tokenizer_digest(&self) -> &str {
        &self.tokenizer_digest
    }

    /// The device that the weights are on.
    pub fn device(&self) -> &Device {
        self.model.device()
    }

    /// Judges `cases`: for each what came of it, or why it cannot be judged (too long for the model). On the CPU `listen` is told
    /// before how long it will take.
    ///
    /// # Errors
    /// [`Error::Usage`] if a prompt cannot be put into the chat template; [`Error::Device`]
    /// if the device fails.
    pub fn judge(
        &self,
        cases: &[Case<'_>],
        reading: &Reading,
        listen: Listener<'_>,
    ) -> Result<Vec<std::result::Result<Judged, String>>> {
        let responses = self.tokenizer.encode_all(&cases.iter().map(|case| case.response).collect::<Vec<_>>())?;
        let references: Vec<&str> = cases.iter().map(|case| case.reference.unwrap_or_default()).collect();
        let references = if reading.judgement.needs_reference() {
            self.tokenizer.encode_all(&references)?
        } else {
            vec![Vec::new(); cases.len()]
        };
        let mut prompts: HashMap<&str, Vec<u32>> = HashMap::new();
        for prompt in cases.iter().map(|case| case.prompt).chain([""]) {
            if !prompts.contains_key(prompt) {
                prompts.insert(prompt, self.tokenizer.prefix(prompt)?);
            }
        }
        let mut work = Work { share: reading.share, ..Work::default() };
        let plans: Vec<std::result::Result<Plan, String>> = cases
            .iter()
            .zip(responses.iter().zip(&references))
            .map(|(case, (response, reference))| {
                self.plan(&mut work, &prompts[case.prompt], &prompts[""], response, reference, reading)
            })
            .collect();
        let prefixes: Vec<&[u32]> = work.prefixes.iter().map(Vec::as_slice).collect();
        let passages: Vec<Passage<'_>> = work
            .passages
            .iter()
            .map(|passage| Passage { prefix: passage.prefix, tokens: &passage.tokens, scored: passage.scored.clone() })
            .collect();
        let losses = self.losses(&prefixes, &passages, listen)?;
        let judged = |plan: Plan| {
            let own = &losses[plan.response.0][..plan.response.1];
            let explained = plan.explained.and_then(|passage| Some(mean(own)? - mean(&losses[passage])?));
            Judged {
                token_losses: losses[plan.judged.0][plan.judged.1..].to_vec(),
                baseline: plan.baseline.map_or_else(Vec::new, |passage| losses[passage].clone()),
                surprise: mean(own),
                explained: explained.map(|mean| mean * own.len() as f64),
            }
        };
        Ok(plans.into_iter().map(|plan| plan.map(judged)).collect())
    }

    /// The passages' losses, with events.
    fn losses(&self, prefixes: &[&[u32]], passages: &[Passage<'_>], listen: Listener<'_>) -> Result<Vec<Vec<f32>>> {
        let total = self.model.tokens(prefixes, passages)?;
        // The samples cost a hundredth of what they tell about at most: what is short is over before it is told.
        if self.device().is_cpu() && total >= 200 * SAMPLE as u64 {
            let sample = vec![0; SAMPLE];
            let passage = Passage { prefix: 0, tokens: &sample, scored: one(1..SAMPLE) };
            let mut seconds = 0.0;
            // The first one also wakes threads and touches all weights for the first time.
            for _ in 0..2 {
                let began = Instant::now();
                self.model.losses(&[&[]], std::slice::from_ref(&passage), |event| {
                    if matches!(event, Event::Warning { .. }) {
                        listen(event);
                    }
                })?;
                seconds = began.elapsed().as_secs_f64() * total as f64 / SAMPLE as f64;
            }
            listen(Event::Expected { stage: STAGE, seconds });
        }
        self.model.losses(prefixes, passages, listen)
    }

    /// Which passages a case needs.
    fn plan(
        &self,
        work: &mut Work,
        prompt: &[u32],
        nothing: &[u32],
        response: &[u32],
        reference: &[u32],
        reading: &Reading,
    ) -> std::result::Result<Plan, String> {
        let again = self.tokenizer.again();
        let cut = &response[..response.len().min(reading.response_tokens)];
        let reference = &reference[..reference.len().min(reading.reference_tokens)];
        let longest = match reading.judgement {
            Judgement::Response => prompt.len() + response.len(),
            Judgement::Information => prompt.len().max(nothing.len()) + cut.len(),
            _ => prompt.len() + cut.len() + again.len() + reference.len(),
        };
        if longest > self.model.positions() {
            return Err(format!("it takes {longest} tokens, the model reads {}", self.model.positions()));
        }
        let all = |tokens: &[u32]| one(0..tokens.len());
        Ok(match reading.judgement {
            Judgement::Response => {
                let judged = work.passage(prompt, response.to_vec(), all(response));
                Plan { judged: (judged, 0), baseline: None, response: (judged, response.len()), explained: None }
            }
            Judgement::ReferenceGain | Judgement::MutualGain => {
                let tokens = [cut, again, reference].concat();
                let scored = vec![0..cut.len(), cut.len() + again.len()..tokens.len()];
                let judged = work.passage(prompt, tokens, scored);
                let baseline = work.passage(prompt, reference.to_vec(), all(reference));
                let explained = (reading.judgement == Judgement::MutualGain)
                    .then(|| work.passage(&[prompt, reference, again].concat(), cut.to_vec(), all(cut)));
                Plan { judged: (judged, cut.len()), baseline: Some(baseline), response: (judged, cut.len()), explained }
            }
            Judgement::Explained => {
                let judged = work.passage(&[prompt, reference, again].concat(), cut.to_vec(), all(cut));
                let baseline = work.passage(prompt, cut.to_vec(), all(cut));
                Plan { judged: (judged, 0), baseline: Some(baseline), response: (baseline, cut.len()), explained: None }
            }
            Judgement::Information => {
                let judged = work.passage(prompt, cut.to_vec(), all(cut));
                let baseline = work.passage(nothing, cut.to_vec(), all(cut));
                Plan { judged: (judged, 0), baseline: Some(baseline), response: (judged, cut.len()), explained: None }
            }
        })
    }
}

impl Work {
    /// The passage of `tokens` that continue `prefix`.
    fn passage(&mut self, prefix: &[u32], mut tokens: Vec<u32>, mut scored: Vec<Range<usize>>) -> usize {
        let mut shared = prefix;
        if !self.share {
            scored.iter_mut().for_each(|range| *range = range.start + prefix.len()..range.end + prefix.len());
            tokens.splice(0..0, prefix.iter().copied());
            shared = &[];
        }
        let prefix = match self.known_prefixes.get(shared) {
            Some(known) => *known,
            None => {
                self.prefixes.push(shared.to_vec());
                self.known_prefixes.insert(shared.to_vec(), self.prefixes.len() - 1);
                self.prefixes.len() - 1
            }
        };
        let passage = Continued { prefix, tokens, scored };
        if let Some(known) = self.known_passages.get(&passage) {
            return *known;
        }
        self.passages.push(passage.clone());
        self.known_passages.insert(passage, self.passages.len() - 1);
        self.passages.len() - 1
    }
}

/// A single range.
fn one(range: Range<usize>) -> Vec<Range<usize>> {
    std::iter::once(range).collect()
}

/// See [`Judge::digest`].
fn digest(files: &[PathBuf]) -> Result<String> {
    let digests = files.iter().map(|file| models::digest(file).map_err(|error| Error::io(file, error)));
    let digests: Vec<String> = digests.collect::<Result<_>>()?;
    Ok(match digests.as_slice() {
        [digest] => digest.clone(),
        several => models::digest_of_text(&(several.join("\n") + "\n")),
    })
}

/// In order, in f64.
fn mean(losses: &[f32]) -> Option<f64> {
    let sum: f64 = losses.iter().map(|loss| f64::from(*loss)).sum();
    (!losses.is_empty()).then(|| sum / losses.len() as f64)
}
