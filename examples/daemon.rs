//! A validator daemon's loop: answers in, `{uid: weight}` for the SDK out, and what the epoch would make of it.
//! `cargo run --release --example daemon [MODEL]`: a known name or a folder; a tiny model with random weights if left out.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a program, and a program talks")]

use std::path::Path;

use serde_json::Value;
use tauscore::config::{Config, LossKind};
use tauscore::data::{Options, ReferenceRow, Round, Row};
use tauscore::device::{Choice, Device};
use tauscore::models::{Kind, Store};
use tauscore::pipeline::{self, Embedder, Models};
use tauscore::stages::yuma::State;
use tauscore::{Error, Result, progress::Event};

const HERE: &str = env!("CARGO_MANIFEST_DIR");
const HISTORY: usize = 8; // Earlier rounds that a response may be a copy of.

fn main() -> std::process::ExitCode {
    if let Err(error) = run(std::env::args().nth(1)) {
        eprintln!("error: {error}\n{}", error.remedy().unwrap_or_default());
        return 2.into();
    }
    0.into()
}

fn run(model: Option<String>) -> Result<()> {
    let mut config = Config::default();
    config.loss.kind = LossKind::Embedding; // The default kind judges better and needs a language model: `Judge::load`.
    config.encoder.model = model.unwrap_or_else(|| format!("{HERE}/datasets/models/f32-mean"));
    let folder = Store::from_env()?.resolve(&config.encoder.model, Kind::Encoder, false, &mut |_| {})?;
    let device = Device::open(&Choice::Auto)?;
    let mut listen = |event: Event| eprintln!("{event:?}");
    let embedder = Embedder::load(&device, &folder, &config.encoder, &mut listen)?;
    let mut models = Models::new(&embedder, None); // What they read for the last round, they need not read again.
    // A daemon asks the chain for this at every turn.
    let mut state = State::read(&Path::new(HERE).join("datasets/examples/subnet.json"))?;
    let mut history: Vec<Round> = Vec::new();
    for turn in 0..2 {
        let (round, bad) = Round::from_rows(answers(turn)?, references(turn)?, Options { skip_bad: true })?;
        bad.iter().for_each(|error| eprintln!("left out: {error}"));
        let outcome = pipeline::score(&mut models, &round, &history, Some(&state), &config, &mut listen)?;
        let weighed = outcome.miners.iter().filter(|miner| miner.weight > 0);
        let weights: Vec<_> = weighed.filter_map(|miner| Some((miner.uid?.0, outcome.share(miner)))).collect();
        println!("round {turn}: set_weights({weights:?})");
        let epoch = pipeline::epoch(&device, &state, "validator_large", &outcome)?.chain;
        println!("round {turn}: incentive by uid, in 65535ths: {:?}", epoch.incentive);
        state.advance(&epoch)?;
        let mut fields = state.into_fields();
        fields.last_mechanism_step_block = fields.block;
        fields.block += u64::from(fields.hyper.tempo);
        state = State::new(fields)?;
        history.push(round);
        history.drain(..history.len().saturating_sub(HISTORY));
    }
    Ok(())
}

/// What the network brought: seven miners' answers to four questions.
fn answers(turn: usize) -> Result<Vec<Row>> {
    let lines = include_str!("../datasets/gsm8k/round.jsonl").lines().skip(28 * turn).take(28);
    let row = |[prompt_id, miner, response]: [String; 3], json: &Value| {
        let block = json["block"].as_u64();
        Row { prompt_id, miner, response, block, ..Row::default() }
    };
    lines.map(|line| parsed(line, ["prompt_id", "miner", "response"]).map(|(texts, json)| row(texts, &json))).collect()
}

/// What the answers are measured by.
fn references(turn: usize) -> Result<Vec<ReferenceRow>> {
    let lines = include_str!("../datasets/gsm8k/references.jsonl").lines().skip(4 * turn).take(4);
    let row = |[prompt_id, reference]: [String; 2]| ReferenceRow { prompt_id, reference, ..ReferenceRow::default() };
    lines.map(|line| parsed(line, ["prompt_id", "reference"]).map(|(texts, _)| row(texts))).collect()
}

fn parsed<const N: usize>(line: &str, keys: [&str; N]) -> Result<([String; N], Value)> {
    let json: Value = serde_json::from_str(line).map_err(|error| Error::io("network", error.into()))?;
    Ok((keys.map(|key| json[key].as_str().unwrap_or_default().to_owned()), json))
}
