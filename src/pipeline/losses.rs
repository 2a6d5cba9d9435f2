//! What the criteria's kind of loss says of a round's responses: a function for each kind.

use std::path::Path;

use rayon::prelude::*;

use super::texts::Texts;
use crate::config::{LossConfig, LossKind};
use crate::data::{Prompt, Response, Round};
use crate::stages::loss::{self, Fault, LARGEST_LOSS, Matcher};
use crate::stages::score::accuracy;
use crate::{Error, Result};

/// What was found of one response.
pub(super) struct Judgement {
    /// The loss, in the kind's own unit.
    pub(super) loss: f64,
    /// In [0, 1].
    pub(super) accuracy: f64,
    /// What is wrong with what was sent along, if that is why it is worth nothing.
    pub(super) fault: Option<String>,
}

/// What judges a round's responses: a kind of loss with what it takes of the references, one for each prompt.
pub(super) enum Judge<'a> {
    Embedding { references: Vec<&'a str> },
    Exact { keys: Vec<Key> },
    Sent { arrays: Arrays, tokens: Vec<&'a [u32]>, vocabulary: usize },
}

/// What a prompt's answers are compared with.
pub(super) struct Key {
    matcher: Matcher,
    answer: String,
}

/// Which arrays come with responses.
#[derive(Clone, Copy)]
pub(super) enum Arrays {
    Logits,
    Logprobs,
}

/// Checks that every prompt has a reference that `config` can measure by, and that what rows name is there. Whoever scores for long asks before.
///
/// # Errors
/// [`Error::Usage`] naming the first prompt that has none, or whose reference gives no answer to compare with or has no legal tokens;
/// [`Error::Row`] for a row that names a file that is not there.
pub fn check_references(round: &Round, config: &LossConfig) -> Result<()> {
    Judge::new(round, config).map(drop)
}

impl<'a> Judge<'a> {
    /// Takes what it needs of `round`'s references.
    pub(super) fn new(round: &'a Round, config: &LossConfig) -> Result<Self> {
        let references = references(round)?;
        match config.kind {
            LossKind::Embedding => Ok(Self::Embedding { references }),
            LossKind::Exact => {
                let matcher = config.matcher()?;
                let prompts = round.prompts().iter().zip(references);
                let keys =
                    prompts.map(|(prompt, reference)| Key::new(prompt, reference, &matcher)).collect::<Result<_>>()?;
                Ok(Self::Exact { keys })
            }
            LossKind::Logits => Self::sent(round, config, Arrays::Logits),
            LossKind::Logprobs => Self::sent(round, config, Arrays::Logprobs),
        }
    }

    fn sent(round: &'a Round, config: &LossConfig, arrays: Arrays) -> Result<Self> {
        let vocabulary = config.vocabulary()?;
        let tokens = round.prompts().iter().map(|prompt| tokens(prompt, vocabulary)).collect::<Result<_>>()?;
        round.responses().iter().try_for_each(|row| arrays.check_file(round, row))?;
        Ok(Self::Sent { arrays, tokens, vocabulary })
    }

    /// Whether a response's text is what is judged, so that a blank one is worth nothing.
    pub(super) fn reads_text(&self) -> bool {
        !matches!(self, Self::Sent { .. })
    }

    /// The references that it needs the embeddings of.
    pub(super) fn embeds(&self) -> &[&'a str] {
        match self {
            Self::Embedding { references } => references,
            Self::Exact { .. } | Self::Sent { .. } => &[],
        }
    }

    /// One judgement for each response of `round`, in order, whose embeddings are `rows` of `texts`.
    pub(super) fn judge(&self, round: &Round, texts: &Texts<'_>, rows: &[u32]) -> Result<Vec<Judgement>> {
        match self {
            Self::Embedding { references } => embedding(round, references, texts, rows),
            Self::Exact { keys } => Ok(exact(round, keys)),
            Self::Sent { arrays, tokens, vocabulary } => sent(round, *arrays, tokens, *vocabulary),
        }
    }
}

impl Arrays {
    /// The field of a row that names their file.
    fn field(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Logprobs => "logprobs",
        }
    }

    /// The file of a response's arrays, if any came with it.
    fn file(self, row: &Response) -> Option<&Path> {
        match self {
            Self::Logits => row.logits.as_deref(),
            Self::Logprobs => row.logprobs.as_deref(),
        }
    }

    /// Checks that the file that a row names is there. What it holds is the miner's business, that it is there the validator's.
    fn check_file(self, round: &Round, row: &Response) -> Result<()> {
        let Some(path) = self.file(row) else { return Ok(()) };
        let problem = match std::fs::metadata(path) {
            Ok(found) if found.is_file() => return Ok(()),
            Ok(_) => "it is no file".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Error::Row {
            file: round.files().get(row.file as usize).cloned().unwrap_or_default(),
            line: row.line,
            field: self.field().into(),
            problem: format!("{}: {problem}", path.display()),
            remedy: "bring the file to where the row says, or leave the field out if the miner sent none".into(),
        })
    }
}

impl Judgement {
    /// Of a loss of which 0 is right and 1 or more is wrong.
    fn new(loss: f64) -> Self {
        Self { loss, accuracy: accuracy(loss), fault: None }
    }
}

fn embedding(round: &Round, references: &[&str], texts: &Texts<'_>, rows: &[u32]) -> Result<Vec<Judgement>> {
    let of_prompts: Vec<u32> = references.iter().map(|text| texts.row(text)).collect();
    let of_each: Vec<u32> = round.responses().iter().map(|row| of_prompts[row.prompt as usize]).collect();
    let losses = loss::embedding(texts.device(), texts.embeddings(), rows, &of_each)?;
    Ok(losses.into_iter().map(Judgement::new).collect())
}

fn exact(round: &Round, keys: &[Key]) -> Vec<Judgement> {
    let loss = |row: &Response| {
        let Key { matcher, answer } = &keys[row.prompt as usize];
        Judgement::new(matcher.loss(answer, &row.text))
    };
    round.responses().par_iter().map(loss).collect()
}

/// The mean loss of the reference's tokens, in nats; as accuracy their probability, in the geometric mean. A response whose arrays are
/// missing or wrong has the largest loss, and accuracy 0.
fn sent(round: &Round, arrays: Arrays, tokens: &[&[u32]], vocabulary: usize) -> Result<Vec<Judgement>> {
    let judge = |row: &Response| {
        let tokens = tokens[row.prompt as usize];
        let judged = match (arrays.file(row), arrays) {
            (None, _) => Err(Fault { row: None, what: format!("no {} came with it", arrays.field()) }),
            (Some(path), Arrays::Logits) => loss::logits(path, tokens, vocabulary)?,
            (Some(path), Arrays::Logprobs) => loss::logprobs(path, tokens, vocabulary)?,
        };
        Ok(match judged {
            Ok(losses) => {
                let loss = losses.iter().sum::<f64>() / losses.len() as f64;
                Judgement { loss, accuracy: libm::exp(-loss), fault: None }
            }
            Err(fault) => Judgement { loss: LARGEST_LOSS, accuracy: 0.0, fault: Some(fault.to_string()) },
        })
    };
    round.responses().par_iter().map(judge).collect()
}

/// The tokens of a prompt's reference.
fn tokens(prompt: &Prompt, vocabulary: usize) -> Result<&[u32]> {
    let refuse = |problem: String| Error::Usage {
        argument: format!("prompt {:?}", prompt.id),
        problem,
        remedy: "give its reference the field `tokens`: a list of ids in the vocabulary of the miners' model".into(),
    };
    let tokens = prompt.tokens.as_deref().ok_or_else(|| refuse("its reference has no tokens".into()))?;
    match tokens.iter().find(|token| **token as usize >= vocabulary) {
        None => Ok(tokens),
        Some(token) => Err(refuse(format!("token {token} lies beyond the vocabulary of {vocabulary}"))),
    }
}

/// The reference of every prompt, in order.
fn references(round: &Round) -> Result<Vec<&str>> {
    round
        .prompts()
        .iter()
        .map(|prompt| {
            prompt.reference.as_deref().ok_or_else(|| Error::Usage {
                argument: format!("prompt {:?}", prompt.id),
                problem: "it has no reference to measure accuracy by".into(),
                remedy: "give a file with one row {\"prompt_id\", \"reference\"} a prompt: --references FILE".into(),
            })
        })
        .collect()
}

impl Key {
    /// The answer that a prompt's reference gives by the prompt's own rule, else by `matcher`.
    fn new(prompt: &Prompt, reference: &str, matcher: &Matcher) -> Result<Self> {
        let refuse = |problem: String| {
            Error::Usage {
            argument: format!("prompt {:?}", prompt.id),
            problem,
            remedy: "set `match` (and `pattern`), in the reference's row or in [loss] of the criteria, so that the reference gives an \
                     answer, or take another `kind`"
                .into(),
        }
        };
        let matcher = match &prompt.rule {
            Some(rule) => {
                Matcher::new(rule.compare, rule.pattern.as_deref()).map_err(|error| refuse(error.to_string()))?
            }
            None => matcher.clone(),
        };
        let answer = matcher.answer(reference);
        let answer = answer.ok_or_else(|| refuse("its reference gives no answer to compare with".into()))?;
        Ok(Self { matcher, answer })
    }
}
