//! `tauscore bench`: every kernel of the table and every stage, as rates and as shares of the device's measured ceilings.

use std::io::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::table::table;
use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json, write_text};
use crate::config::{Config, LossKind};
use crate::device::parity::Prepared;
use crate::device::{Device, Kernel, ceiling};
use crate::pipeline::{self, Embedder, Models};
use crate::progress::Event;
use crate::{KERNELS, Result};

/// Options of `tauscore bench`.
#[derive(Debug, clap::Args)]
pub(super) struct BenchArgs {
    /// Time kernels only, which needs no model
    #[arg(long)]
    kernels: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// One kernel's rates: medians.
#[derive(Serialize)]
struct KernelRow {
    kernel: &'static str,
    sample: &'static str,
    microseconds: f64,
    giga_operations_per_second: f64,
    gigabytes_per_second: f64,
    /// The larger of the two rates' shares of the measured ceilings.
    share_of_ceiling: f64,
}

/// One stage's rates.
#[derive(Serialize)]
struct StageRow {
    stage: &'static str,
    seconds: f64,
    tokens_per_second: Option<f64>,
    responses_per_second: f64,
}

pub(super) fn run(args: &BenchArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let device = args.device.open(console)?;
    let mut rows = Vec::new();
    for kernel in KERNELS {
        rows.push(time(&device, kernel)?);
        console.note(&format!("timed {}", kernel.name));
    }
    let best = |of: fn(&KernelRow) -> f64, name: &str| rows.iter().find(|row| row.kernel == name).map_or(0.0, of);
    // A ceiling is the best rate that any kernel shows: a well-tuned matmul may beat the plain chains of the CPU.
    let arithmetic = rows.iter().map(|row| row.giga_operations_per_second).fold(0.0, f64::max);
    let memory = best(|row| row.gigabytes_per_second, ceiling::COPY.name);
    for row in &mut rows {
        let share = (row.giga_operations_per_second / arithmetic).max(row.gigabytes_per_second / memory);
        row.share_of_ceiling = if share.is_finite() { share } else { 0.0 };
    }
    let stages = if args.kernels { Vec::new() } else { stages(args, &device, console)? };

    if console.json {
        let value = serde_json::json!({"device": device.name(), "version": env!("CARGO_PKG_VERSION"),
            "ceiling": {"giga_operations_per_second": arithmetic, "gigabytes_per_second": memory},
            "kernels": rows, "stages": stages});
        write_json(out, &value)?;
        return Ok(Status::Good);
    }
    write_text(out, &format!("{}\n\n", device.name()))?;
    let cells: Vec<[String; 6]> = rows
        .iter()
        .map(|row| {
            [
                row.kernel.to_owned(),
                row.sample.to_owned(),
                format!("{:.0}", row.microseconds),
                format!("{:.1}", row.giga_operations_per_second),
                format!("{:.1}", row.gigabytes_per_second),
                format!("{:.0} %", row.share_of_ceiling * 100.0),
            ]
        })
        .collect();
    write_text(out, &table(["kernel", "sample", "us ", "Gop/s ", "GB/s ", "of ceiling "], &cells))?;
    write_text(
        out,
        "of ceiling: of the best arithmetic or of a large copy, whichever is nearer; above 100 % a cache helps\n",
    )?;
    if !stages.is_empty() {
        let cells: Vec<[String; 4]> = stages
            .iter()
            .map(|row| {
                [
                    row.stage.to_owned(),
                    format!("{:.2}", row.seconds),
                    row.tokens_per_second.map_or(String::new(), |rate| format!("{rate:.0}")),
                    format!("{:.0}", row.responses_per_second),
                ]
            })
            .collect();
        write_text(out, &format!("\n{}", table(["stage", "s ", "tokens/s ", "responses/s "], &cells)))?;
    }
    Ok(Status::Good)
}

/// The median over half a second, after a warm-up that also compiles the shader. The parity tests check the answers.
fn time(device: &Device, kernel: &'static Kernel) -> Result<KernelRow> {
    const ENOUGH: Duration = Duration::from_millis(500);
    let samples = (kernel.samples)();
    let Some(sample) = samples.into_iter().next_back() else {
        return Err(crate::Error::Kernel { kernel: kernel.name, problem: "it has no sample".into() });
    };
    let (about, operations, bytes) = (sample.about, sample.operations as f64, sample.bytes as f64);
    let prepared = Prepared::new(device, kernel, sample)?;
    prepared.dispatch()?;
    device.finish()?;
    let mut seconds = Vec::new();
    let began = Instant::now();
    while began.elapsed() < ENOUGH || seconds.len() < 3 {
        let once = Instant::now();
        prepared.dispatch()?;
        device.finish()?;
        seconds.push(once.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    Ok(KernelRow {
        kernel: kernel.name,
        sample: about,
        microseconds: median * 1e6,
        giga_operations_per_second: operations / median / 1e9,
        gigabytes_per_second: bytes / median / 1e9,
        share_of_ceiling: 0.0,
    })
}

/// The demo's round, stage by stage, after a warm-up on a few texts.
fn stages(args: &BenchArgs, device: &Device, console: &Console) -> Result<Vec<StageRow>> {
    let mut config = Config::default();
    args.model.apply(&mut config);
    let embedder: Embedder = args.model.load(&mut config, &args.device, device.clone(), console)?;
    embedder.embed(&["warm up", "the device and its shaders"])?;
    let round = super::demo::round()?;
    let mut rows = Vec::new();
    let responses = round.responses().len() as f64;
    let began = Instant::now();
    // What a language model costs is told for itself: all of the demo's round would take long on a CPU.
    config.loss.kind = LossKind::Embedding;
    let outcome = pipeline::score(&mut Models::new(&embedder, None), &round, &[], None, &config, &mut |event| {
        console.event(&event);
        if let Event::Ended { stage, seconds } = event {
            rows.push(StageRow { stage, seconds, tokens_per_second: None, responses_per_second: responses / seconds });
        }
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if let Some(row) = rows.iter_mut().find(|row| row.stage == "embedding") {
        row.tokens_per_second = Some(outcome.tokens as f64 / row.seconds);
    }
    rows.push(StageRow {
        stage: "all",
        seconds,
        tokens_per_second: Some(outcome.tokens as f64 / seconds),
        responses_per_second: responses / seconds,
    });
    Ok(rows)
}
