//! What the criteria's kind of loss says of a round's responses: a function for each kind.

use rayon::prelude::*;

use super::texts::Texts;
use crate::config::{LossConfig, LossKind};
use crate::data::Round;
use crate::stages::loss::{self, Matcher};
use crate::stages::score::accuracy;
use crate::{Error, Result};

/// What was found of one response.
pub(super) struct Judgement {
    /// The loss, in the kind's own unit.
    pub(super) loss: f64,
    /// In [0, 1].
    pub(super) accuracy: f64,
}

/// What judges a round's responses: a kind of loss with what it takes of the references, one for each prompt.
pub(super) enum Judge<'a> {
    Embedding { references: Vec<&'a str> },
    Exact { matcher: Matcher, answers: Vec<String> },
}

/// Checks that every prompt has a reference that `config` can measure by. Whoever scores for long asks before.
///
/// # Errors
/// [`Error::Usage`] naming the first prompt that has none, or whose reference gives no answer to compare with.
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
                let answers = answers(round, &references, &matcher)?;
                Ok(Self::Exact { matcher, answers })
            }
        }
    }

    /// The references that it needs the embeddings of.
    pub(super) fn embeds(&self) -> &[&'a str] {
        match self {
            Self::Embedding { references } => references,
            Self::Exact { .. } => &[],
        }
    }

    /// One judgement for each response of `round`, in order, whose embeddings are `rows` of `texts`.
    pub(super) fn judge(&self, round: &Round, texts: &Texts<'_>, rows: &[u32]) -> Result<Vec<Judgement>> {
        let losses = match self {
            Self::Embedding { references } => embedding(round, references, texts, rows)?,
            Self::Exact { matcher, answers } => exact(round, answers, matcher),
        };
        Ok(losses.into_iter().map(|loss| Judgement { loss, accuracy: accuracy(loss) }).collect())
    }
}

fn embedding(round: &Round, references: &[&str], texts: &Texts<'_>, rows: &[u32]) -> Result<Vec<f64>> {
    let of_prompts: Vec<u32> = references.iter().map(|text| texts.row(text)).collect();
    let of_each: Vec<u32> = round.responses().iter().map(|row| of_prompts[row.prompt as usize]).collect();
    loss::embedding(texts.device(), texts.embeddings(), rows, &of_each)
}

fn exact(round: &Round, answers: &[String], matcher: &Matcher) -> Vec<f64> {
    let rows = round.responses().par_iter();
    rows.map(|row| matcher.loss(&answers[row.prompt as usize], &row.text)).collect()
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

/// The answer that each prompt's reference gives.
fn answers(round: &Round, references: &[&str], matcher: &Matcher) -> Result<Vec<String>> {
    let prompts = round.prompts().iter().zip(references);
    prompts
        .map(|(prompt, reference)| {
            matcher.answer(reference).ok_or_else(|| Error::Usage {
                argument: format!("prompt {:?}", prompt.id),
                problem: "its reference gives no answer to compare with".into(),
                remedy: "set `match` (and `pattern`) in [loss] of the criteria so that every reference gives one, or take another \
                         `kind`"
                    .into(),
            })
        })
        .collect()
}
