//! `tauscore loss`: what a language model says of responses, one JSON line each.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::{Console, DeviceArgs, Outcome, Status, judge, write_json};
use crate::data::{Answer, Answers, Options, Source};
use crate::models::{DEFAULT_LANGUAGE_MODEL, pinned_language};
use crate::pipeline::judge::{Case, Judged, Judgement, Reading};
use crate::progress::Event;

/// Options of `tauscore loss`.
#[derive(Debug, clap::Args)]
pub(super) struct LossArgs {
    /// JSON Lines with {"prompt", "response", "reference"} a line, the reference where the kind needs one, plain or gzip; `-` for
    /// standard input
    #[arg(value_name = "PAIRS")]
    pairs: PathBuf,
    /// What the loss is of
    #[arg(long, value_enum, default_value_t = Kind::ReferenceGain)]
    kind: Kind,
    /// Print the loss of each token, and of the same tokens without what is judged by them
    #[arg(long)]
    token_losses: bool,
    /// The most tokens of a response; `lm` takes all of it
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..))]
    response_tokens: u32,
    /// The most tokens of a reference
    #[arg(long, value_name = "N", default_value_t = 96, value_parser = clap::value_parser!(u32).range(1..))]
    reference_tokens: u32,
    /// Compute a prompt again for each of its responses: it changes no bit, and shows what sharing saves
    #[arg(long)]
    no_prefix_sharing: bool,
    /// Leave bad lines out and list them instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    /// A known language model, a GGUF file, or a folder with one or with config.json and model.safetensors
    #[arg(long, value_name = "MODEL", default_value = DEFAULT_LANGUAGE_MODEL)]
    model: String,
    /// Never fetch a model: refuse if it is missing
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What the loss is of. Where two losses are compared, it is the difference of their means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// The reference's tokens after the response, less without it
    ReferenceGain,
    /// The response's tokens after the prompt
    Lm,
    /// The response's tokens after prompt and reference, less after the prompt alone
    Explained,
    /// The same, as a sum
    ExplainedSum,
    /// The response's tokens after the prompt, less after an empty prompt
    Information,
}

impl Kind {
    fn judgement(self) -> Judgement {
        match self {
            Self::ReferenceGain => Judgement::ReferenceGain,
            Self::Lm => Judgement::Response,
            Self::Explained | Self::ExplainedSum => Judgement::Explained,
            Self::Information => Judgement::Information,
        }
    }
}

#[derive(Serialize)]
struct Row<'a> {
    /// Nats per token, the lower the better; null where there is no token.
    loss: Option<f64>,
    /// What the loss is less than without what judges it: the higher the better. Only where losses are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    gain: Option<f64>,
    /// How many tokens it is of.
    tokens: usize,
    /// Mean loss of the response's own tokens.
    surprise: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_losses: Option<&'a [f32]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline_losses: Option<&'a [f32]>,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    pairs: usize,
    /// Tokens whose loss was asked for.
    scored: usize,
    /// Tokens that went through the model.
    tokens: u64,
    seconds: f64,
}

pub(super) fn run(args: &LossArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let judgement = args.kind.judgement();
    let mut source = Answers::open(Source::path(&args.pairs), Options { skip_bad: args.skip_bad })?;
    let mut answers: Vec<Answer> = Vec::new();
    while let Some(answer) = source.next().transpose()? {
        if judgement.needs_reference() && answer.reference.as_deref().is_none_or(|text| text.trim().is_empty()) {
            let remedy = "give each row a reference, or choose --kind lm";
            source.refuse(answer.line, "reference", "is missing, and this kind of loss needs one".into(), remedy)?;
            continue;
        }
        answers.push(answer);
    }
    let device = args.device.open(console)?;
    let judge = judge(&args.model, pinned_language(&args.model), &device, args.offline, console)?;
    let reading = Reading {
        judgement,
        response_tokens: args.response_tokens as usize,
        reference_tokens: args.reference_tokens as usize,
        share: !args.no_prefix_sharing,
    };
    let cases: Vec<Case<'_>> = answers
        .iter()
        .map(|answer| Case {
            prompt: &answer.prompt,
            response: &answer.response,
            reference: answer.reference.as_deref(),
        })
        .collect();
    let mut tokens = 0;
    let began = Instant::now();
    let judged = judge.judge(&cases, &reading, &mut |event| {
        if let Event::Began { total, .. } = event {
            tokens = total;
        }
        console.event(&event);
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let (mut pairs, mut scored) = (0, 0);
    for (answer, judged) in answers.iter().zip(judged) {
        match judged {
            Ok(judged) => {
                pairs += 1;
                scored += judged.token_losses.len() + judged.baseline.len();
                write_json(out, &row(&judged, args.kind == Kind::ExplainedSum, args.token_losses))?;
            }
            Err(problem) => {
                source.refuse(answer.line, "response", problem, "shorten the prompt or the response")?;
            }
        }
    }
    console.left_out(source.skipped(), "lines");
    console.json_event(&Done { event: "done", pairs, scored, tokens, seconds });
    let rate = tokens as f64 / seconds.max(1e-9);
    console.note(&format!("{pairs} pairs, {tokens} tokens in {seconds:.2} s: {rate:.0} tokens/s"));
    Ok(Status::Good)
}

fn row(judged: &Judged, sum: bool, all: bool) -> Row<'_> {
    let loss = if sum { judged.total() } else { judged.loss() };
    Row {
        loss,
        gain: loss.filter(|_| !judged.baseline.is_empty()).map(|loss| -loss),
        tokens: judged.token_losses.len(),
        surprise: judged.surprise,
        token_losses: all.then_some(judged.token_losses.as_slice()),
        baseline_losses: (all && !judged.baseline.is_empty()).then_some(judged.baseline.as_slice()),
    }
}
