//! `tauscore loss`: what a kind of loss says of responses, one JSON line each.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Serialize;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, judge, loss_kinds, write_json};
use crate::config::{Config, LossConfig, LossKind};
use crate::data::{Match, Options, Round, Source};
use crate::pipeline::judge::{Case, Judged, Reading};
use crate::pipeline::{Measured, check_references, measure};
use crate::progress::Event;
use crate::{Error, Result};

/// Options of `tauscore loss`.
#[derive(Debug, clap::Args)]
#[command(mut_arg("model", |model| model.help(
    "A known language model, a GGUF file, or a folder with one or with config.json and model.safetensors; with embedding and \
     contrast an encoder, as for score"
)))]
#[command(mut_arg("precision", |precision| precision.help(
    "With embedding and contrast: exact (integers, the same on every machine) or f32 [default: exact]"
)))]
pub(super) struct LossArgs {
    /// JSON Lines with {"prompt", "response", "reference"} a line, the reference where the kind needs one, plain or gzip; `-` for
    /// standard input
    #[arg(value_name = "PAIRS")]
    pairs: PathBuf,
    /// What the loss is of
    #[arg(long, value_name = "KIND", value_parser = loss_kinds(), default_value = "reference_gain")]
    kind: LossKind,
    /// Print the loss of each token, where there are any, and of the same tokens without what is judged by them
    #[arg(long)]
    token_losses: bool,
    /// The most tokens of a response that a language model reads; `lm` takes all of it [default: 96]
    #[arg(long, value_name = "N")]
    response_tokens: Option<usize>,
    /// The most tokens of a reference that a language model reads [default: 96]
    #[arg(long, value_name = "N")]
    reference_tokens: Option<usize>,
    /// Compute a prompt again for each of its responses: it changes no bit, and shows what sharing saves
    #[arg(long)]
    no_prefix_sharing: bool,
    /// With exact: how answers are compared [default: number]
    #[arg(long = "match", value_name = "HOW", value_parser = matches())]
    compare: Option<Match>,
    /// With --match regex: what finds an answer
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
    /// With contrast: what cosines are divided by [default: 0.1]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,
    /// With logits and logprobs: how many tokens the miners' model knows
    #[arg(long, value_name = "N")]
    vocabulary: Option<usize>,
    /// Leave bad lines out and list them instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// How answers are compared, by the names that criteria have for it.
fn matches() -> impl TypedValueParser<Value = Match> {
    PossibleValuesParser::new(["number", "text", "regex"])
        .try_map(|name| serde_json::from_value::<Match>(serde_json::Value::String(name)))
}

/// A line about what a language model says.
#[derive(Serialize)]
struct JudgedRow<'a> {
    /// Nats per token, the lower the better; null where there is no token.
    loss: Option<f64>,
    /// What the loss is less than without what judges it: the higher the better. Only where losses are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    gain: Option<f64>,
    /// How many tokens it is of.
    tokens: usize,
    /// Mean loss of the response's own tokens.
    surprise: Option<f64>,
    /// How much less these cost together where the reference is known. Only where that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    explained: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_losses: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_losses: Option<&'a [f32]>,
}

/// A line about what needs no language model.
#[derive(Serialize)]
struct MeasuredRow<'a> {
    loss: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    similarity: Option<f64>,
    tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_losses: Option<&'a [f64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct Done {
    event: &'static str,
    pairs: usize,
    /// Tokens whose loss was asked for.
    scored: usize,
    /// Tokens that went through the language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    seconds: f64,
}

pub(super) fn run(args: &LossArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    args.check()?;
    let mut config = args.config();
    config.check()?;
    let options = Options { skip_bad: args.skip_bad };
    let source = Source::path(&args.pairs);
    let (round, mut skipped) = Round::read_answers(source, args.kind.needs_reference(), options)?;
    let done = match config.loss.reading() {
        Some(reading) => {
            let reading = Reading { share: !args.no_prefix_sharing, ..reading };
            judged(args, &config, &reading, &round, &mut skipped, console, out)?
        }
        None => measured(args, &mut config, &round, console, out)?,
    };
    console.left_out(&skipped, "lines");
    console.json_event(&done);
    let Done { pairs, tokens, seconds, .. } = done;
    console.note(&match tokens {
        Some(tokens) => {
            let rate = tokens as f64 / seconds.max(1e-9);
            format!("{pairs} pairs, {tokens} tokens in {seconds:.2} s: {rate:.0} tokens/s")
        }
        None => format!("{pairs} pairs in {seconds:.2} s"),
    });
    Ok(Status::Good)
}

impl LossArgs {
    /// What is said of `[loss]` and `[encoder]` of the criteria.
    fn config(&self) -> Config {
        let mut config = Config {
            loss: LossConfig {
                kind: self.kind,
                compare: self.compare,
                pattern: self.pattern.clone(),
                vocabulary: self.vocabulary,
                response_tokens: self.response_tokens,
                reference_tokens: self.reference_tokens,
                temperature: self.temperature,
                ..LossConfig::default()
            },
            ..Config::default()
        };
        if self.kind.embeds() {
            self.model.apply(&mut config);
        } else {
            config.loss.model.clone_from(&self.model.model);
        }
        config
    }

    /// Refuses options that the kind has no use for.
    fn check(&self) -> Result<()> {
        let (language, embeds) = (self.kind.judgement().is_some(), self.kind.embeds());
        let arrays = matches!(self.kind, LossKind::Logits | LossKind::Logprobs);
        let options = [
            ("--response-tokens", self.response_tokens.is_some(), language),
            ("--reference-tokens", self.reference_tokens.is_some(), language),
            ("--no-prefix-sharing", self.no_prefix_sharing, language),
            ("--match", self.compare.is_some(), self.kind == LossKind::Exact),
            ("--pattern", self.pattern.is_some(), self.kind == LossKind::Exact),
            ("--temperature", self.temperature.is_some(), self.kind == LossKind::Contrast),
            ("--vocabulary", self.vocabulary.is_some(), arrays),
            ("--model", self.model.model.is_some(), language || embeds),
            ("--precision", self.model.precision.is_some(), embeds),
            ("--max-tokens", self.model.max_tokens.is_some(), embeds),
        ];
        match options.into_iter().find(|(_, given, used)| *given && !used) {
            None => Ok(()),
            Some((option, ..)) => Err(Error::Usage {
                argument: option.into(),
                problem: "this kind of loss has no use for it".into(),
                remedy: "leave it out, or choose another --kind".into(),
            }),
        }
    }
}

/// Prints what a language model says.
fn judged(
    args: &LossArgs,
    config: &Config,
    reading: &Reading,
    round: &Round,
    skipped: &mut Vec<Error>,
    console: &Console,
    out: &mut dyn Write,
) -> Result<Done> {
    let device = args.device.open(console)?;
    let judge = judge(config.loss.model(), config.loss.pin(), &device, args.model.offline, console)?;
    let case = |row| {
        let prompt = round.prompt_of(row);
        let asked = prompt.and_then(|prompt| prompt.text.as_deref()).unwrap_or_default();
        Case { prompt: asked, response: &row.text, reference: prompt.and_then(|prompt| prompt.reference.as_deref()) }
    };
    let cases: Vec<Case<'_>> = round.responses().iter().map(case).collect();
    let mut done = Done { event: "done", ..Done::default() };
    let began = Instant::now();
    let judged = judge.judge(&cases, reading, &mut |event| {
        if let Event::Began { total, .. } = event {
            done.tokens = Some(total);
        }
        console.event(&event);
    })?;
    done.seconds = began.elapsed().as_secs_f64();
    for (row, judged) in round.responses().iter().zip(judged) {
        match judged {
            Ok(judged) => {
                done.pairs += 1;
                done.scored += judged.token_losses.len() + judged.baseline.len();
                write_json(out, &judged_row(&judged, config.loss.kind == LossKind::ExplainedSum, args.token_losses))?;
            }
            Err(problem) => {
                let error = round.refuse(row, "response", problem, "shorten the prompt or the response");
                if !args.skip_bad {
                    return Err(error);
                }
                skipped.push(error);
            }
        }
    }
    Ok(done)
}

/// Prints what needs no language model: of embeddings, answers or arrays.
fn measured(
    args: &LossArgs,
    config: &mut Config,
    round: &Round,
    console: &Console,
    out: &mut dyn Write,
) -> Result<Done> {
    check_references(round, &config.loss)?;
    let embedder = if config.loss.kind.embeds() {
        let device = args.device.open(console)?;
        Some(args.model.load(config, &args.device, device, console)?)
    } else {
        None
    };
    let began = Instant::now();
    let measured = measure(round, &config.loss, embedder.as_ref(), None, &mut console.listener())?;
    let seconds = began.elapsed().as_secs_f64();
    for measured in &measured {
        write_json(out, &measured_row(measured, args.token_losses))?;
    }
    let scored = measured.iter().map(|measured| measured.token_losses.len()).sum();
    Ok(Done { event: "done", pairs: measured.len(), scored, seconds, tokens: None })
}

fn judged_row(judged: &Judged, sum: bool, all: bool) -> JudgedRow<'_> {
    let loss = if sum { judged.total() } else { judged.loss() };
    JudgedRow {
        loss,
        gain: loss.filter(|_| !judged.baseline.is_empty()).map(|loss| -loss),
        tokens: judged.token_losses.len(),
        surprise: judged.surprise,
        explained: judged.explained,
        token_losses: all.then_some(judged.token_losses.as_slice()),
        baseline_losses: (all && !judged.baseline.is_empty()).then_some(judged.baseline.as_slice()),
    }
}

fn measured_row(measured: &Measured, all: bool) -> MeasuredRow<'_> {
    MeasuredRow {
        loss: measured.loss,
        similarity: measured.similarity,
        tokens: measured.tokens,
        token_losses: Some(measured.token_losses.as_slice()).filter(|losses| all && !losses.is_empty()),
        fault: measured.fault.as_deref(),
    }
}
