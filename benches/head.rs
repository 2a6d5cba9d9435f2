//! The fused head and loss of a language model on the CPU, at another program's word: `benches/peers/head.py` builds this and lets
//! it take turns with torch.
//!
//! `cargo bench --bench head -- HIDDEN TARGETS WEIGHTS f32|q8`. The files hold little-endian numbers: f32 `[rows][hidden]`, u32
//! `[rows]`, and the rows of the vocabulary's words as `nn::packed` lays them out. For each line on standard input all losses are
//! computed once, and `{"seconds", "losses"}` is printed; an empty one comes first, when all is ready.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results, and why there are none")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::time::Instant;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec};
use tauscore::device::{Buffer, Call, Device};
use tauscore::nn::packed::Format;
use tauscore::nn::{head, surprise};

struct Head {
    device: Device,
    hidden: Buffer<f32>,
    /// Row and target.
    scored: Buffer<[u32; 2]>,
    weights: Buffer<u32>,
    format: Format,
    /// Of the vocabulary.
    words: usize,
    depth: usize,
}

impl Head {
    fn read(hidden: &str, targets: &str, weights: &str, format: Format) -> Result<Self, Box<dyn Error>> {
        let device = Device::cpu();
        let (hidden, targets, weights) = (numbers::<f32>(hidden)?, numbers::<u32>(targets)?, numbers::<u32>(weights)?);
        let depth = hidden.len().checked_div(targets.len()).ok_or("there are no targets")?;
        let words = weights.len().checked_div(format.words(depth)).ok_or("there are too few hidden numbers")?;
        if hidden.len() != targets.len() * depth || weights.len() != words * format.words(depth) {
            return Err("the files' sizes do not fit each other".into());
        }
        if targets.iter().any(|target| *target as usize >= words) {
            return Err("a target is beyond the vocabulary".into());
        }
        let scored: Vec<[u32; 2]> = (0..).zip(targets).map(|(row, target)| [row, target]).collect();
        let (hidden, scored, weights) = (device.upload(&hidden)?, device.upload(&scored)?, device.upload(&weights)?);
        Ok(Self { device, hidden, scored, weights, format, words, depth })
    }

    /// The losses of the first `rows`; what they need beside the inputs is taken and given back.
    fn losses(&self, rows: usize) -> tauscore::Result<Vec<f32>> {
        let splits = head::splits(self.words);
        let partials = self.device.zeros::<[f32; 3]>(rows * splits)?;
        let losses = self.device.zeros::<f32>(rows)?;
        // As head::Params, of the whole vocabulary, and surprise::Params.
        let params = [rows, 0, self.words, self.depth, self.format as usize, splits].map(|value| value as u32);
        let bindings = [self.hidden.all(), self.scored.range(0..rows), self.weights.all(), partials.all()];
        let call = Call { constants: &[], params: cast_slice(&params), bindings: &bindings, workgroups: 1 };
        self.device.dispatch(&head::KERNEL, &call)?;
        let params = [rows as u32, splits as u32];
        let bindings = [partials.all(), losses.all()];
        let call = Call { constants: &[], params: cast_slice(&params), bindings: &bindings, workgroups: 1 };
        self.device.dispatch(&surprise::KERNEL, &call)?;
        self.device.download(&losses)
    }
}

fn numbers<T: Pod>(path: impl AsRef<Path>) -> Result<Vec<T>, Box<dyn Error>> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(pod_collect_to_vec(&bytes))
}

fn main() -> Result<(), Box<dyn Error>> {
    // cargo adds an option of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [hidden, targets, weights, format] = arguments.as_slice() else {
        eprintln!("left out: HIDDEN TARGETS WEIGHTS FORMAT are needed, which benches/peers/head.py gives");
        return Ok(());
    };
    let format = match format.as_str() {
        "f32" => Format::F32,
        "q8" => Format::Q8,
        _ => return Err(format!("there is no format {format}").into()),
    };
    let head = Head::read(hidden, targets, weights, format)?;
    head.losses(1)?; // what a process takes once
    println!();
    for line in stdin().lock().lines() {
        line?;
        let began = Instant::now();
        let losses = head.losses(head.scored.len())?;
        let seconds = began.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({"seconds": seconds, "losses": losses}));
    }
    Ok(())
}
