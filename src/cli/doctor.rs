//! `tauscore doctor`: does each adapter keep each kernel's promise, and does the exact encoder give the recorded integers? A
//! validator proves his own card before he trusts it.

use std::io::Write;

use super::table::table;
use super::{Console, Outcome, Status, write_json, write_text};
use crate::device::{Choice, Device, Parity, adapters, parity};
use crate::models::{DEFAULT_MODEL, Kind, Store};
use crate::nn::exact::IntegerModel;
use crate::nn::exact::model::MINILM_DIGEST;
use crate::stages::encode::{ExactEncoder, self_test};
use crate::{Error, KERNELS, Result};

/// Options of `tauscore doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    /// Check one device instead of all adapters and the CPU
    #[arg(long, value_name = "DEVICE")]
    device: Option<Choice>,
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
    let model = match minilm(console) {
        Ok(model) => Some(model),
        Err(error) => {
            let remedy = error.remedy().unwrap_or_default();
            console.warn(&format!("the encoder's recorded vectors were left out: {error}; {remedy}"));
            None
        }
    };
    for device in &opened {
        findings.known_answers(device)?;
        if let Some(model) = &model {
            findings.encoder(device, model)?;
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
