//! `tauscore doctor`: does each adapter keep each kernel's promise, does the exact encoder give the recorded integers, and the language
//! model the recorded losses? A validator proves his own card before he trusts it.

use std::io::Write;

use serde::Deserialize;

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::device::{Choice, Device, Parity, adapters, parity};
use crate::models::{DEFAULT_LANGUAGE_MODEL, DEFAULT_MODEL, Kind, Store};
use crate::nn::exact::IntegerModel;
use crate::nn::exact::model::MINILM_DIGEST;
use crate::nn::llama::LlamaModel;
use crate::stages::encode::{ExactEncoder, self_test};
use crate::stages::language::{LanguageModel, Passage};
use crate::{Error, KERNELS, Result};

/// Options of `tauscore doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Check one device instead of all adapters and the CPU
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
}

/// How far a token's loss may be from the recorded one, in nats.
const LOSS_TOLERANCE: f32 = 1e-3;

/// A recorded response of the default language model, of those in `datasets/reference/smollm2_losses.json`.
#[derive(Deserialize)]
struct Answered {
    /// The prompt in the chat template, then the response.
    ids: Vec<u32>,
    /// Where the response begins.
    start: usize,
    /// The loss of each of its tokens, in nats.
    nll: Vec<f32>,
}

/// What is known of one device.
struct Findings<'a> {
    console: &'a Console,
    out: &'a mut dyn Write,
    rows: Vec<[String; 7]>,
    broken: usize,
}

pub(super) fn run(args: &DoctorArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut findings = Findings { console, out, rows: Vec::new(), broken: 0 };
    let mut opened = Vec::new();
    match &args.device {
        Some(choice) => opened.push(Device::open(choice)?),
        None => {
            for adapter in adapters() {
                match adapter.open() {
                    Ok(device) => opened.push(device),
                    Err(error) => {
                        findings.broken += 1;
                        console.error(&error);
                    }
                }
            }
            if opened.is_empty() && findings.broken == 0 {
                console.note("no adapter: kernels run as twins on the CPU, and there is nothing to compare them with");
            }
        }
    }
    for device in &opened {
        findings.kernels(device)?;
    }
    let checked = opened.len();

    // Twins keep their promise to themselves, but what is known from elsewhere holds for the CPU as well.
    if args.device.is_none() {
        opened.push(Device::cpu());
    }
    let encoder = or_left_out(minilm(console), "the encoder's recorded vectors", console);
    let language_model = or_left_out(smollm2(), "the language model's recorded losses", console);
    for device in &opened {
        findings.known_answers(device)?;
        if let Some(model) = &encoder {
            findings.encoder(device, model)?;
        }
        if let Some(model) = &language_model {
            findings.language_model(device, model)?;
        }
    }

    let Findings { rows, broken, out, .. } = findings;
    if !console.json {
        write_text(out, &table(["device", "variant", "kernel", "promise", "samples ", "used ", "verdict"], &rows))?;
        let word = if broken == 0 { "all promises kept".to_owned() } else { format!("{broken} broken") };
        write_text(out, &format!("{} kernels on {checked} devices: {word}\n", KERNELS.len()))?;
    }
    Ok(if broken == 0 { Status::Good } else { Status::Finding })
}

/// The model, or a warning that `what` it is for was left out.
fn or_left_out<M>(model: Result<M>, what: &str, console: &Console) -> Option<M> {
    let told = |error: &Error| {
        console.warn(&format!("{what} were left out: {error}; {}", error.remedy().unwrap_or_default()));
    };
    model.inspect_err(told).ok()
}

/// The integer model whose embeddings are recorded. It is not fetched.
fn minilm(console: &Console) -> Result<IntegerModel> {
    let folder = Store::from_env()?.resolve(DEFAULT_MODEL, Kind::Encoder, true, &mut |_| {})?;
    let model = IntegerModel::of_folder(&folder, &mut console.listener())?;
    let digest = model.digest();
    if digest == MINILM_DIGEST {
        return Ok(model);
    }
    Err(Error::File {
        file: folder.display().to_string(),
        field: "sha256".into(),
        problem: format!("its integer model is {digest}, not {MINILM_DIGEST}"),
        remedy: format!(
            "run `tauscore models fetch {DEFAULT_MODEL} --force` and `tauscore models convert {DEFAULT_MODEL}`"
        ),
    })
}

/// The language model whose losses are recorded. It is not fetched.
fn smollm2() -> Result<LlamaModel> {
    let store = Store::from_env()?;
    let path = store.resolve(DEFAULT_LANGUAGE_MODEL, Kind::LanguageModel, true, &mut |_| {})?;
    store.verify(DEFAULT_LANGUAGE_MODEL)?;
    LlamaModel::open(&path)
}

impl Findings<'_> {
    /// Every sample of every kernel against the CPU.
    fn kernels(&mut self, device: &Device) -> Result<()> {
        for kernel in KERNELS {
            let (mut worst, mut samples, mut failure) = (0.0_f64, 0, None);
            for sample in (kernel.samples)() {
                samples += 1;
                let about = sample.about;
                match parity::check(device, kernel, sample) {
                    Ok(verdict) => {
                        worst = worst.max(verdict.worst);
                        failure = failure.or(verdict.broken.map(|why| format!("{about}: {why}")));
                    }
                    Err(error) => failure = failure.or(Some(format!("{about}: {error}"))),
                }
            }
            if self.console.json {
                let value = serde_json::json!({"device": device.name(), "variant": variant(device),
                    "kernel": kernel.name, "samples": samples, "worst_share_of_promise": worst,
                    "kept": failure.is_none(), "failure": failure});
                write_json(self.out, &value)?;
            }
            let promise = match kernel.parity {
                Parity::Exact => "exact".to_owned(),
                Parity::Close { absolute, relative } => format!("{absolute:.0e} + {relative:.0e} x"),
            };
            let used = if kernel.parity == Parity::Exact { String::new() } else { format!("{:.1} %", worst * 100.0) };
            self.note(device, kernel.name, promise, samples, used, failure);
        }
        Ok(())
    }

    /// The samples whose answers are known.
    fn known_answers(&mut self, device: &Device) -> Result<()> {
        let answers = self_test::known_answers()?;
        let failure = self_test::run_with(device, &answers).err().map(|error| error.to_string());
        if self.console.json {
            let value = serde_json::json!({"device": device.name(), "variant": variant(device),
                "check": "known answers", "samples": answers.len(), "kept": failure.is_none(), "failure": failure});
            write_json(self.out, &value)?;
        }
        self.note(device, "known answers", "exact".into(), answers.len(), String::new(), failure);
        Ok(())
    }

    /// Every recorded vector, embedded by the whole encoder.
    fn encoder(&mut self, device: &Device, model: &IntegerModel) -> Result<()> {
        let vectors = self_test::recorded()?;
        let name = device.name();
        self.console.note(&format!("embedding {} recorded vectors: {name}", vectors.len()));
        let compared = ExactEncoder::new(device, model)
            .and_then(|encoder| self_test::compare(&encoder, &vectors, usize::MAX, &mut self.console.listener()));
        let (integers, failure) = match compared {
            Ok(differences) => (Some(differences.integers), differences.first),
            Err(error) => (None, Some(error.to_string())),
        };
        if self.console.json {
            let value = serde_json::json!({"device": name, "variant": variant(device), "check": "encoder, exact",
                "vectors": vectors.len(), "differing_integers": integers, "kept": failure.is_none(), "failure": failure});
            write_json(self.out, &value)?;
        }
        let failure = failure.map(|why| match integers {
            Some(integers) => format!("{integers} integers differ, first: {why}"),
            None => why,
        });
        self.note(device, "encoder, exact", "exact".into(), vectors.len(), String::new(), failure);
        Ok(())
    }

    /// Some short recorded responses, judged by the whole language model.
    fn language_model(&mut self, device: &Device, model: &LlamaModel) -> Result<()> {
        #[derive(Deserialize)]
        struct File {
            rows: Vec<Answered>,
        }
        let text = include_str!("../../datasets/reference/smollm2_losses.json");
        let File { mut rows } = self_test::parse("datasets/reference/smollm2_losses.json", text)?;
        rows.truncate(3);
        let name = device.name();
        self.console.note(&format!("judging {} recorded responses: {name}", rows.len()));
        let prompts: Vec<&[u32]> = rows.iter().map(|row| &row.ids[..row.start]).collect();
        let passages: Vec<Passage<'_>> = rows
            .iter()
            .enumerate()
            .map(|(prefix, row)| {
                let tokens = &row.ids[row.start..];
                Passage { prefix, tokens, scored: std::iter::once(0..tokens.len()).collect() }
            })
            .collect();
        let right: Vec<f32> = rows.iter().flat_map(|row| row.nll.iter().copied()).collect();
        let judged = LanguageModel::new(device, model)
            .and_then(|model| model.losses(&prompts, &passages, |event| self.console.event(&event)));
        let (worst, failure) = match judged.map(|losses| losses.concat()) {
            Ok(losses) => {
                let off: Vec<f32> = losses.iter().zip(&right).map(|(found, right)| (found - right).abs()).collect();
                let place = off.iter().position(|off| off.is_nan() || *off > LOSS_TOLERANCE);
                let failure = place.map(|at| format!("token {at} has a loss of {}, not {}", losses[at], right[at]));
                (off.into_iter().reduce(f32::max), failure)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        if self.console.json {
            let value = serde_json::json!({"device": name, "variant": variant(device), "check": "language model",
                "tokens": right.len(), "largest_difference": worst, "kept": failure.is_none(), "failure": failure});
            write_json(self.out, &value)?;
        }
        let used = worst.map_or_else(String::new, |worst| format!("{:.1} %", worst / LOSS_TOLERANCE * 100.0));
        self.note(device, "language model", format!("{LOSS_TOLERANCE:.0e}"), right.len(), used, failure);
        Ok(())
    }

    /// Adds a row of the table.
    fn note(
        &mut self,
        device: &Device,
        what: &str,
        promise: String,
        samples: usize,
        used: String,
        failure: Option<String>,
    ) {
        self.broken += usize::from(failure.is_some());
        let verdict = failure.map_or("kept".to_owned(), |why| format!("BROKEN: {why}"));
        let samples = samples.to_string();
        self.rows.push([device.name(), variant(device), what.to_owned(), promise, samples, used, verdict]);
    }
}

/// Which form of the kernels the device runs.
fn variant(device: &Device) -> String {
    if device.is_cpu() { "twin".to_owned() } else { device.variant().to_string() }
}
