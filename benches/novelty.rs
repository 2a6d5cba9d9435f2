//! The novelty of rows of unit length on the CPU, at another program's word: `benches/peers/novelty.py` builds this and lets it take
//! turns with numpy and faiss.
//!
//! `cargo bench --bench novelty -- ROWS WIDTH exact|f32 [BANK]`. ROWS holds one prompt's responses in the order of their arrival, each by
//! another miner, `[responses][width]`: little-endian i16 in 32768ths, or f32. With BANK there are rows of earlier rounds, and each
//! response is a prompt of its own: it is compared with the bank alone. For each line on standard input all novelties are measured
//! once, and `{"seconds", "buffers", "nearest", "similarities"}` is printed (buffers: the most bytes that they took); an empty one comes
//! first, when all is ready.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its results, and why there are none")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::time::Instant;

use bytemuck::{Pod, cast_slice_mut};
use tauscore::device::Device;
use tauscore::nn::{Embeddings, Precision, Rows};
use tauscore::stages::novelty::{Against, Bank, NOBODY, Novelty, novelty};

/// The responses' rows, and those of the bank behind them.
struct Input {
    embeddings: Embeddings,
    responses: usize,
}

impl Input {
    fn read(paths: &[&String], width: usize, precision: Precision) -> Result<Self, Box<dyn Error>> {
        let (rows, sizes) = match precision {
            Precision::Exact => numbers(paths).map(|(numbers, sizes)| (Rows::Exact(numbers), sizes))?,
            Precision::F32 => numbers(paths).map(|(numbers, sizes)| (Rows::F32(numbers), sizes))?,
        };
        if width == 0 || sizes.iter().any(|size| !size.is_multiple_of(width)) {
            return Err("a file does not hold whole rows".into());
        }
        Ok(Self { embeddings: Embeddings { width, rows }, responses: sizes[0] / width })
    }

    /// Of the first `responses`, whose nearest one is asked for.
    fn novelty(&self, device: &Device, responses: usize) -> tauscore::Result<Vec<Novelty>> {
        let miners: Vec<u32> = (0..responses as u32).collect();
        let bank: Vec<u32> = (self.responses as u32..self.embeddings.count() as u32).collect();
        let arrivals = match bank.is_empty() {
            true => vec![miners.clone()],
            false => miners.iter().map(|response| vec![*response]).collect(),
        };
        let bank = Bank { rows: &bank, miners: &vec![NOBODY; bank.len()] };
        novelty(device, &self.embeddings, &miners, &miners, &arrivals, bank, (Against::Earlier, 1))
    }
}

/// The numbers of all files, one after the other in memory that is taken once, and how many each has.
fn numbers<T: Pod>(paths: &[&String]) -> Result<(Vec<T>, Vec<usize>), Box<dyn Error>> {
    let (mut all, mut sizes) = (Vec::new(), Vec::new());
    for path in paths {
        let mut file = std::fs::File::open(path).map_err(|error| format!("{path}: {error}"))?;
        let (start, size) = (all.len(), file.metadata()?.len() as usize / size_of::<T>());
        all.reserve_exact(size);
        all.resize(start + size, T::zeroed());
        std::io::Read::read_exact(&mut file, cast_slice_mut(&mut all[start..]))?;
        sizes.push(size);
    }
    Ok((all, sizes))
}

fn main() -> Result<(), Box<dyn Error>> {
    // cargo adds an option of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let [rows, width, precision, bank @ ..] = arguments.as_slice() else {
        eprintln!("left out: ROWS WIDTH PRECISION are needed, which benches/peers/novelty.py gives");
        return Ok(());
    };
    let paths: Vec<&String> = std::iter::once(rows).chain(bank).collect();
    let input = Input::read(&paths, width.parse()?, precision.parse()?)?;
    input.novelty(&Device::cpu(), input.responses.min(1))?; // what a process takes once
    println!();
    for line in stdin().lock().lines() {
        line?;
        let device = Device::cpu();
        let began = Instant::now();
        let novelties = input.novelty(&device, input.responses)?;
        let seconds = began.elapsed().as_secs_f64();
        let nearest: Vec<_> = novelties.iter().map(|novelty| novelty.nearest.map(|nearest| nearest.index)).collect();
        let similarities: Vec<_> =
            novelties.iter().map(|novelty| novelty.nearest.map(|nearest| nearest.similarity)).collect();
        println!(
            "{}",
            serde_json::json!({
                "seconds": seconds, "buffers": device.memory().most, "nearest": nearest, "similarities": similarities,
            })
        );
    }
    Ok(())
}
