//! What the criteria's kind of loss says of a round's responses: a function for each kind.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;

use super::Embedder;
use super::judge::{Case, Judge, Judgement, Reading};
use super::measurements::{CaseMeasurements, Judging, TextMeasurements, Verdict};
use super::texts::{Embedded, Texts};
use crate::config::{LossConfig, LossKind};
use crate::data::{Prompt, Response, Round};
use crate::progress::Listener;
use crate::stages::loss::relative::{Signal, accuracies};
use crate::stages::loss::{self, Fault, LARGEST_LOSS, Matcher};
use crate::stages::score::accuracy;
use crate::{Error, Result};

/// What was found of one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// The loss, in the kind's own unit.
    pub loss: f64,
    /// In [0, 1].
    pub accuracy: f64,
    /// Cosine of the response's embedding and its reference's, where the kind compares embeddings.
    pub similarity: Option<f64>,
    /// How many tokens it is of: those of the response that were embedded, or those whose losses are known. `None` where the text itself is
    /// compared, where an embedding came with the response, and where there is a fault.
    pub tokens: Option<usize>,
    /// Losses of the tokens that were judged, in nats; empty where whole texts are.
    pub token_losses: Vec<f64>,
    /// What is wrong with what was sent along, if that is why it is worth nothing.
    pub fault: Option<String>,
}

/// What judges a round's responses: a kind of loss with what it takes of the references, one for each prompt.
pub(super) enum Measure<'a> {
    Embedding { references: Vec<&'a str> },
    Contrast { references: Vec<&'a str>, temperature: f64 },
    Exact { keys: Vec<Key> },
    Sent { arrays: Arrays, tokens: Vec<&'a [u32]>, vocabulary: usize },
    Language { reading: Reading, prompts: Vec<&'a str>, references: Vec<&'a str>, sum: bool, clip: f64, gate: f64 },
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

/// Measures a round's responses by `config`, without novelty and scores. `embedder` and `judge` are for the kinds that ask for one
/// ([`LossKind::embeds`], [`LossConfig::reading`]).
///
/// # Errors
/// As [`check_references`] and [`score`](super::score); [`Error::Usage`] if `config` is not legal, or an embedder or a judge is wanting.
pub fn measure(
    round: &Round,
    config: &LossConfig,
    embedder: Option<&Embedder>,
    judge: Option<&Judge>,
    listen: Listener<'_>,
) -> Result<Vec<Measured>> {
    config.check()?;
    let measure = Measure::new(round, config)?;
    let mut cases = CaseMeasurements::default();
    let judging = judge.map(|judge| Judging { judge, known: &mut cases });
    let Some(embedder) = embedder.filter(|_| config.kind.embeds()) else {
        return measure.measure(round, None, judging, &[], listen);
    };
    let mut measured = TextMeasurements::new(embedder);
    let mut texts = Texts::new(embedder, &mut measured);
    round.responses().iter().filter(|row| row.embedding.is_none()).for_each(|row| texts.want(&row.text));
    measure.embeds().iter().for_each(|reference| texts.want(reference));
    texts.embed(listen)?;
    let rows = texts.rows(round)?;
    measure.measure(round, Some(Embedded { texts: &texts, rows: &rows }), judging, &[], listen)
}

/// Checks that every prompt has a reference that `config` can measure by, and that what rows name is there. Whoever scores for long asks before.
///
/// # Errors
/// [`Error::Usage`] naming the first prompt that has none, or whose reference gives no answer to compare with or has no legal tokens;
/// [`Error::Row`] for a row that names a file that is not there.
pub fn check_references(round: &Round, config: &LossConfig) -> Result<()> {
    Measure::new(round, config).map(drop)
}

impl<'a> Measure<'a> {
    /// Takes what it needs of `round`'s references.
    pub(super) fn new(round: &'a Round, config: &LossConfig) -> Result<Self> {
        if let Some(reading) = config.reading() {
            let references =
                if reading.judgement.needs_reference() { references(round)? } else { vec![""; round.prompts().len()] };
            let (prompts, clip, gate) = (prompts(round)?, config.clip(), config.gate());
            let sum = config.kind == LossKind::ExplainedSum;
            return Ok(Self::Language { reading, prompts, references, sum, clip, gate });
        }
        let references = references(round)?;
        match config.kind {
            LossKind::Contrast => Ok(Self::Contrast { references, temperature: config.temperature() }),
            LossKind::Exact => {
                let matcher = config.matcher()?;
                let prompts = round.prompts().iter().zip(references);
                let keys =
                    prompts.map(|(prompt, reference)| Key::new(prompt, reference, &matcher)).collect::<Result<_>>()?;
                Ok(Self::Exact { keys })
            }
            LossKind::Logits => Self::sent(round, config, Arrays::Logits),
            LossKind::Logprobs => Self::sent(round, config, Arrays::Logprobs),
            // Those that a language model judges are taken above.
            _ => Ok(Self::Embedding { references }),
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
            Self::Embedding { references } | Self::Contrast { references, .. } => references,
            Self::Exact { .. } | Self::Sent { .. } | Self::Language { .. } => &[],
        }
    }

    /// One judgement for each response of `round`, in order. `embedded` has the texts that it [embeds](Self::embeds). `copies` says which
    /// responses are known to be copies, if that is known: they do not move what others are compared with.
    pub(super) fn measure(
        &self,
        round: &Round,
        embedded: Option<Embedded<'_>>,
        judge: Option<Judging<'_>>,
        copies: &[bool],
        listen: Listener<'_>,
    ) -> Result<Vec<Measured>> {
        let wanting = |argument: &str, what: &str, remedy: &str| Error::Usage {
            argument: argument.into(),
            problem: format!("the criteria's kind of loss needs {what}, and none is given"),
            remedy: format!("load one with `{remedy}`, or choose another `kind` in [loss]"),
        };
        let embedded = || embedded.ok_or_else(|| wanting("embedder", "an encoder", "Embedder::load"));
        match self {
            Self::Language { reading, prompts, references, sum, clip, gate } => {
                let judge = judge.ok_or_else(|| wanting("judge", "a language model", "Judge::load"))?;
                let judged = judged(round, prompts, references, judge, reading, listen)?;
                Ok(match reading.judgement {
                    Judgement::Response => judged.into_iter().map(fluency).collect(),
                    _ => {
                        let sum_clip = clip * reading.response_tokens as f64;
                        relative(round, judged, copies, *sum, [*clip, sum_clip], *gate)
                    }
                })
            }
            Self::Embedding { references } => embedding(round, references, embedded()?),
            Self::Contrast { references, temperature } => contrast(round, references, *temperature, embedded()?),
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
        let remedy = "bring the file to where the row says, or leave the field out if the miner sent none";
        Err(round.refuse(row, self.field(), format!("{}: {problem}", path.display()), remedy))
    }
}

impl Measured {
    fn new(loss: f64, accuracy: f64) -> Self {
        Self { loss, accuracy, ..Self::default() }
    }

    /// Of a loss of which 0 is right and 1 or more is wrong.
    fn right_or_wrong(loss: f64) -> Self {
        Self::new(loss, accuracy(loss))
    }

    fn with_tokens(self, token_losses: Vec<f64>) -> Self {
        Self { tokens: Some(token_losses.len()), token_losses, ..self }
    }

    /// Of a response whose embedding is at a `distance` (1 - cosine) from its reference's.
    fn compared(self, texts: &Texts<'_>, row: &Response, distance: f64) -> Self {
        let tokens = row.embedding.is_none().then(|| texts.count(&row.text).tokens as usize);
        Self { similarity: Some(1.0 - distance), tokens, ..self }
    }

    fn faulty(fault: String) -> Self {
        Self { fault: Some(fault), ..Self::new(LARGEST_LOSS, 0.0) }
    }
}

/// What the language model says of each response; an error in words for one that it cannot read.
fn judged(
    round: &Round,
    prompts: &[&str],
    references: &[&str],
    mut judge: Judging<'_>,
    reading: &Reading,
    listen: Listener<'_>,
) -> Result<Vec<Verdict>> {
    let cases = round.responses().iter().map(|row| {
        let prompt = row.prompt as usize;
        // A blank answer is none.
        let response = if row.text.trim().is_empty() { "" } else { row.text.as_str() };
        Case { prompt: prompts[prompt], response, reference: Some(references[prompt]) }
    });
    let judged = judge.judge(&cases.collect::<Vec<_>>(), reading, listen)?;
    for (row, judged) in round.responses().iter().zip(&judged) {
        // Where responses are cut, it is the prompt that is too long.
        if let (Err(problem), false) = (judged, reading.judgement == Judgement::Response) {
            return Err(Error::Usage {
                argument: format!("prompt {:?}", round.prompts()[row.prompt as usize].id),
                problem: problem.clone(),
                remedy: "shorten the prompt, or choose a `kind` in [loss] that needs no language model".into(),
            });
        }
    }
    Ok(judged)
}

/// The response's probability, in the geometric mean of its tokens.
fn fluency(judged: Verdict) -> Measured {
    let judged = match judged {
        Ok(judged) => judged,
        Err(problem) => return Measured::faulty(problem),
    };
    let loss = judged.loss();
    let accuracy = loss.map_or(0.0, |loss| libm::exp(-loss.max(0.0)));
    Measured::new(loss.unwrap_or(LARGEST_LOSS), accuracy).with_tokens(widened(&judged.token_losses))
}

fn widened(losses: &[f32]) -> Vec<f64> {
    losses.iter().copied().map(f64::from).collect()
}

/// Each response against the others to its prompt: by its gain, and, where it is known how the reference explains it, by the lesser of
/// the two.
fn relative(
    round: &Round,
    judged: Vec<Verdict>,
    copies: &[bool],
    sum: bool,
    [clip, sum_clip]: [f64; 2],
    gate: f64,
) -> Vec<Measured> {
    let mut texts: HashMap<(u32, &str), usize> = HashMap::new();
    let mut of_prompts = vec![(Vec::new(), Vec::new(), Vec::new()); round.prompts().len()];
    let mut measured = Vec::with_capacity(judged.len());
    for (index, (row, judged)) in round.responses().iter().zip(judged).enumerate() {
        let judged = judged.unwrap_or_default();
        let loss = if sum { judged.total() } else { judged.loss() }.unwrap_or(LARGEST_LOSS);
        let text = *texts.entry((row.prompt, &row.text)).or_insert(index);
        let (responses, signals, explained) = &mut of_prompts[row.prompt as usize];
        responses.push(index);
        let copy = copies.get(index).copied().unwrap_or(false);
        let asked = round.prompt_of(row).and_then(|prompt| prompt.text.as_deref()).unwrap_or_default();
        let hollow = loss::is_hollow(&row.text, asked);
        let signal = Signal { text, copy, hollow, gain: -loss, surprise: judged.surprise };
        signals.push(signal);
        explained.extend(judged.explained.map(|gain| Signal { gain, ..signal }));
        measured.push(Measured::new(loss, 0.0).with_tokens(widened(&judged.token_losses)));
    }
    for (responses, signals, explained) in &of_prompts {
        for (response, accuracy) in responses.iter().zip(accuracies(signals, clip, gate)) {
            measured[*response].accuracy = accuracy;
        }
        let of_explained = responses.iter().zip(signals).filter(|(_, signal)| signal.surprise.is_some());
        for ((response, _), accuracy) in of_explained.zip(accuracies(explained, sum_clip, gate)) {
            measured[*response].accuracy = measured[*response].accuracy.min(accuracy);
        }
    }
    measured
}

fn embedding(round: &Round, references: &[&str], embedded: Embedded<'_>) -> Result<Vec<Measured>> {
    let Embedded { texts, rows } = embedded;
    let of_prompts: Vec<u32> = references.iter().map(|text| texts.row(text)).collect();
    let of_each: Vec<u32> = round.responses().iter().map(|row| of_prompts[row.prompt as usize]).collect();
    let losses = loss::embedding(texts.device(), texts.embeddings(), rows, &of_each)?;
    let responses = round.responses().iter().zip(losses);
    Ok(responses.map(|(row, loss)| Measured::right_or_wrong(loss).compared(texts, row, loss)).collect())
}

/// -ln of the share that its own reference has in the softmax over all distinct references of the cosine divided by the temperature; as
/// accuracy that share.
fn contrast(round: &Round, references: &[&str], temperature: f64, embedded: Embedded<'_>) -> Result<Vec<Measured>> {
    let Embedded { texts, rows } = embedded;
    let (mut distinct, mut places) = (Vec::new(), HashMap::new());
    let mut place = |row: u32| {
        *places.entry(row).or_insert_with(|| {
            distinct.push(row);
            distinct.len() - 1
        })
    };
    let of_prompts: Vec<usize> = references.iter().map(|text| place(texts.row(text))).collect();
    let mut measured = Vec::with_capacity(rows.len());
    for (row, embedding) in round.responses().iter().zip(rows) {
        // 1 - cosine: what is nearer is smaller.
        let losses = loss::embedding(texts.device(), texts.embeddings(), &vec![*embedding; distinct.len()], &distinct)?;
        let own = losses[of_prompts[row.prompt as usize]];
        let loss = libm::log(losses.iter().map(|other| libm::exp((own - other) / temperature)).sum());
        measured.push(Measured::new(loss, libm::exp(-loss)).compared(texts, row, own));
    }
    Ok(measured)
}

fn exact(round: &Round, keys: &[Key]) -> Vec<Measured> {
    let loss = |row: &Response| {
        let Key { matcher, answer } = &keys[row.prompt as usize];
        Measured::right_or_wrong(matcher.loss(answer, &row.text))
    };
    round.responses().par_iter().map(loss).collect()
}

/// The mean loss of the reference's tokens, in nats; as accuracy their probability, in the geometric mean. A response whose arrays are
/// missing or wrong has the largest loss, and accuracy 0.
fn sent(round: &Round, arrays: Arrays, tokens: &[&[u32]], vocabulary: usize) -> Result<Vec<Measured>> {
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
                Measured::new(loss, libm::exp(-loss)).with_tokens(losses)
            }
            Err(fault) => Measured::faulty(fault.to_string()),
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

/// The text of every prompt, in order.
fn prompts(round: &Round) -> Result<Vec<&str>> {
    let text = |prompt: &'_ Prompt| Error::Usage {
        argument: format!("prompt {:?}", prompt.id),
        problem: "its text is not known, and a language model judges answers by it".into(),
        remedy: "give `prompt` in a row of the round or of the references, or choose another kind with --loss".into(),
    };
    round.prompts().iter().map(|prompt| prompt.text.as_deref().ok_or_else(|| text(prompt))).collect()
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
            remedy: "set `match` (and `pattern`), in the reference's row, in [loss] of the criteria or as options of `loss`, so that \
                     the reference gives an answer, or take another `kind`"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Options, ReferenceRow, Row};

    #[test]
    fn what_measures_must_be_there() {
        let id = || "p".to_owned();
        let row = Row {
            prompt_id: id(),
            prompt: Some("q".into()),
            miner: "a".into(),
            response: "3".into(),
            ..Row::default()
        };
        let reference = ReferenceRow { prompt_id: id(), reference: "it is 3".into(), ..ReferenceRow::default() };
        let (round, _) = Round::from_rows([row], [reference], Options::default()).expect("a round");
        let measure = |kind| measure(&round, &LossConfig { kind, ..LossConfig::default() }, None, None, &mut |_| {});
        for (kind, wanting) in [
            (LossKind::ReferenceGain, "judge: "),
            (LossKind::Lm, "judge: "),
            (LossKind::Embedding, "embedder: "),
            (LossKind::Contrast, "embedder: "),
            (LossKind::Logits, "loss.vocabulary: "),
        ] {
            let error = measure(kind).expect_err("it is wanting").to_string();
            assert!(error.starts_with(wanting), "{kind:?}: {error}");
        }
        let exact = measure(LossKind::Exact).expect("nothing is wanting");
        assert_eq!(exact, [Measured { accuracy: 1.0, ..Measured::default() }], "the reference's answer");
    }
}
