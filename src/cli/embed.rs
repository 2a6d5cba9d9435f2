//! `tauscore embed`: texts in, one JSON line each out.

use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::{Console, DeviceArgs, ModelArgs, Outcome, Status, write_json};
use crate::config::Config;
use crate::data::{Options, Source, Text, Texts};
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
#[derive(Clone, Copy, Debug, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arithmetic {
    /// 32-bit floats, of unit length
    F32,
    /// Integers in 32768ths, of length 32768
    Exact,
}

#[derive(Serialize)]
struct Row<'a, T> {
    ids: &'a [u32],
    embedding: &'a [T],
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
    match args.precision {
        Arithmetic::F32 => {
            let device = args.device.open(console)?;
            let embedder = args.model.load(&config, &device, console)?;
            let embed = |texts: &[&str]| {
                let (lists, embeddings) = embedder.embed(texts)?;
                Ok((lists, embeddings.values))
            };
            lines(source, embedder.chunk(), embedder.encoder().width(), embed, console, out)
        }
        Arithmetic::Exact => {
            let load = |device: &_| args.model.load_exact(&config, device, console);
            let (_, embedder) = args.device.load(console, load)?;
            let embed = |texts: &[&str]| embedder.embed(texts);
            lines(source, embedder.chunk(), embedder.encoder().width(), embed, console, out)
        }
    }
}

/// Writes a line a text, a chunk at a time.
fn lines<T: Serialize>(
    mut source: Texts,
    chunk: usize,
    width: usize,
    embed: impl Fn(&[&str]) -> crate::Result<(Vec<Tokens>, Vec<T>)>,
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
        for (list, embedding) in lists.iter().zip(embeddings.chunks_exact(width)) {
            tokens += list.ids.len() as u64;
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
