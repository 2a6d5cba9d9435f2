//! `tauscore embed`: texts in, one JSON line each out.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json};
use crate::config::Config;
use crate::data::{Options, Source, Text, Texts};
use crate::nn::Rows;
use crate::progress::Event;

/// Options of `tauscore embed`.
#[derive(Debug, clap::Args)]
pub(super) struct EmbedArgs {
    /// JSON Lines with {"text"} a line, plain or gzip; `-` for standard input
    #[arg(value_name = "TEXTS")]
    texts: PathBuf,
    /// Leave bad lines out and list them instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Serialize)]
struct Row<'a> {
    ids: &'a [u32],
    embedding: Rows,
    tokens: usize,
    truncated: bool,
}

#[derive(Serialize)]
struct Done {
    event: &'static str,
    texts: usize,
    tokens: u64,
    seconds: f64,
}

pub(super) fn run(args: &EmbedArgs, console: &Console, out: &mut dyn Write) -> Outcome {
    let mut config = Config::default();
    args.model.apply(&mut config);
    let mut source = Texts::open(Source::path(&args.texts), Options { skip_bad: args.skip_bad })?;
    let device = args.device.open(console)?;
    let embedder = args.model.load(&mut config, &args.device, device, console)?;
    let (mut texts, mut tokens, mut seconds) = (0, 0, 0.0);
    loop {
        let chunk = source.by_ref().take(embedder.chunk()).collect::<crate::Result<Vec<Text>>>()?;
        if chunk.is_empty() {
            break;
        }
        let began = Instant::now();
        let (lists, embeddings) = embedder.embed(&chunk.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())?;
        seconds += began.elapsed().as_secs_f64();
        for (index, list) in lists.iter().enumerate() {
            tokens += list.ids.len() as u64;
            let embedding = embeddings.row(index);
            write_json(out, &Row { ids: &list.ids, embedding, tokens: list.ids.len(), truncated: list.truncated })?;
        }
        texts += chunk.len();
        console.event(&Event::Advanced { stage: "embedding", done: texts as u64 });
    }
    console.left_out(source.skipped(), "lines");
    console.json_event(&Done { event: "done", texts, tokens, seconds });
    let rate = tokens as f64 / seconds.max(1e-9);
    console.note(&format!("{texts} texts, {tokens} tokens in {seconds:.2} s: {rate:.0} tokens/s"));
    Ok(Status::Good)
}
