//! `tauscore eval`: how good the engine is at what it is used for, measured by what people said.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json, write_text};
use crate::config::{Config, Precision};
use crate::data::{Source, read_pairs};
use crate::pipeline::{TextSimilarity, text_similarity};

/// Options of `tauscore eval`.
#[derive(Debug, clap::Args)]
pub(super) struct EvalArgs {
    /// Text similarity: do similarities put pairs of texts into the order of people's scores? JSON Lines with {"a", "b", "score"} a
    /// line, plain or gzip; `-` for standard input
    #[arg(long, value_name = "PAIRS")]
    sts: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// What `--json` prints: a key for each thing measured.
#[derive(Serialize)]
struct Report {
    device: String,
    model: String,
    precision: Precision,
    sts: TextSimilarity,
}

pub(super) fn run(args: &EvalArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut config = Config::default();
    args.model.apply(&mut config);
    let pairs = read_pairs(Source::path(&args.sts))?;
    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let sts = text_similarity(&embedder, &pairs, &mut console.listener())?;
    if sts.truncated > 0 {
        console.warn(&format!("{} texts were longer than the limit and were cut", sts.truncated));
    }
    if console.json {
        let device = embedder.device().name();
        write_json(out, &Report { device, model: config.encoder.model, precision: embedder.precision(), sts })?;
        return Ok(Status::Good);
    }
    let spearman = sts.spearman.map_or("undefined, all similarities are the same".into(), |r| format!("{r:.4}"));
    write_text(out, &format!("sts: {} pairs, Spearman's rank correlation {spearman}\n", sts.pairs))?;
    let rate = sts.tokens as f64 / sts.seconds.max(1e-9);
    console.note(&format!("{} tokens in {:.2} s: {rate:.0} tokens/s", sts.tokens, sts.seconds));
    Ok(Status::Good)
}
