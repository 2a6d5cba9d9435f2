//! `tauscore embed`: texts in, one JSON line each out.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json};
use crate::config::Config;
use crate::data::{Options, Source, Text, Texts};
use crate::nn::{Embeddings, Rows};
use crate::progress::Event;
use crate::stages::tokens::Tokens;

/// Options of `tauscore embed`.
#[derive(Debug, clap::Args)]
pub(super) struct EmbedArgs {
    /// JSON Lines with {"text"} a line, plain or gzip; `-` for standard input
    #[arg(value_name = "TEXTS")]
    texts: PathBuf,
    /// Leave bad lines out and list them instead of ending at the first
    #[arg(long)]
    skip_bad: bool,
    /// The arithmetic: floats, which differ in the last digits between devices, or integers, the same on all
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    precision: Arithmetic,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    device: DeviceArgs,
}

/// In which arithmetic texts are embedded.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Arithmetic {
    /// 32-bit floats, of unit length
    F32,
    /// Integers in 32768ths, of length 32768
    Exact,
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
    let source = Texts::open(Source::path(&args.texts), Options { skip_bad: args.skip_bad })?;
    let device = args.device.open(console)?;
    match args.precision {
        Arithmetic::F32 => {
            let embedder = args.model.load(&config, &device, console)?;
            lines(source, embedder.chunk(), |texts| embedder.embed(texts), console, out)
        }
        Arithmetic::Exact => {
            let embedder = args.model.load_exact(&config, &device, console)?;
            let width = embedder.encoder().width();
            let embed = |texts: &[&str]| {
                let (lists, rows) = embedder.embed(texts)?;
                Ok((lists, Embeddings { width, rows: Rows::Exact(rows) }))
            };
            lines(source, embedder.chunk(), embed, console, out)
        }
    }
}

/// Writes a line a text, a chunk at a time.
fn lines(
    mut source: Texts,
    chunk: usize,
    embed: impl Fn(&[&str]) -> crate::Result<(Vec<Tokens>, Embeddings)>,
    console: &Console,
    out: &mut dyn Write,
) -> Outcome {
    let (mut texts, mut tokens, mut seconds) = (0, 0, 0.0);
    loop {
        let chunk = source.by_ref().take(chunk).collect::<crate::Result<Vec<Text>>>()?;
        if chunk.is_empty() {
            break;
        }
        let began = Instant::now();
        let (lists, embeddings) = embed(&chunk.iter().map(|row| row.text.as_str()).collect::<Vec<_>>())?;
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
