//! Known answers: does a device compute the integers that the exact encoder must give?
//!
//! They come in two kinds. Of each kernel's samples the small ones have the digest of what they must write
//! (`datasets/exact/self_test.json`); they take divisions, counts of leading zeros, shifts, packed products and barriers to their
//! limits, and name the kernel that is wrong. Of all-MiniLM-L6-v2 there are whole sequences (`datasets/reference/minilm_exact.json`),
//! computed outside this crate. So the CPU's twins are not believed either.
#![deny(clippy::float_arithmetic)]

use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ExactEncoder;
use crate::device::{Device, Kernel, Sample, parity};
use crate::progress::{Event, Listener};
use crate::{Error, KERNELS, Result};

/// What a kernel must write of one of its samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAnswer {
    /// The kernel's name.
    pub kernel: String,
    /// What the sample is there to show, which is its name.
    pub sample: String,
    /// The [`digest`] of the written bindings, one after the other.
    pub written: String,
}

/// A recorded sequence of all-MiniLM-L6-v2.
#[derive(Clone, Debug, Deserialize)]
pub struct Recorded {
    /// Token ids, special tokens included.
    pub ids: Vec<u32>,
    /// The embedding, `[384]`, Q15.
    pub embedding: Vec<i16>,
    /// The [`digest`] of the rows after the embeddings' norm and after each layer.
    pub hidden: Vec<String>,
}

/// How an encoder's integers differ from recorded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// How many integers of embeddings differ.
    pub integers: usize,
    /// The first difference and where it arises, or `None` if there is none.
    pub first: Option<String>,
}

/// The known answers of the exact encoder's kernels, those of one kernel side by side.
///
/// # Errors
/// [`Error::File`], which would be a bug in this crate.
pub fn known_answers() -> Result<Vec<KnownAnswer>> {
    let text = include_str!("../../../datasets/exact/self_test.json");
    parse("datasets/exact/self_test.json", text)
}

/// The recorded sequences of all-MiniLM-L6-v2.
///
/// # Errors
/// [`Error::File`], which would be a bug in this crate.
pub fn recorded() -> Result<Vec<Recorded>> {
    #[derive(Deserialize)]
    struct File {
        rows: Vec<Recorded>,
    }
    let text = include_str!("../../../datasets/reference/minilm_exact.json");
    parse("datasets/reference/minilm_exact.json", text).map(|file: File| file.rows)
}

/// What is in a file that this crate carries.
pub(crate) fn parse<T: DeserializeOwned>(file: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged(file, "JSON", error.to_string()))
}

fn damaged(file: &str, field: &str, problem: String) -> Error {
    let remedy = "this is a bug in tauscore: please report it".into();
    Error::File { file: file.into(), field: field.into(), problem, remedy }
}

/// The recordings' digest of 32-bit words, in hexadecimal: FNV's step over their bytes, the lowest first, from a start of its own.
pub fn digest(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    let hash =
        bytes.fold(0x1465_0fb0_739d_0383_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}

/// The [`digest`] of what `kernel` writes of `sample` on `device`.
///
/// # Errors
/// [`Error::Device`] if the device fails.
pub fn answer(device: &Device, kernel: &'static Kernel, sample: Sample) -> Result<String> {
    let written = parity::run(device, kernel, sample)?;
    Ok(digest(&written.into_iter().flat_map(|(_, words)| words).collect::<Vec<u32>>()))
}

/// Runs the kernels of the exact encoder on `device`, and compares what they write with the known answers.
///
/// # Errors
/// [`Error::SelfTest`] naming the first kernel that fails or writes anything else.
pub fn run(device: &Device) -> Result<()> {
    run_with(device, &known_answers()?)
}

/// As [`run`], with answers of the caller's.
///
/// # Errors
/// As [`run`]; [`Error::File`] if an answer is to a sample that does not exist.
pub fn run_with(device: &Device, answers: &[KnownAnswer]) -> Result<()> {
    for answers in answers.chunk_by(|one, next| one.kernel == next.kernel) {
        let kernel = KERNELS.iter().find(|kernel| kernel.name == answers[0].kernel);
        let mut samples = kernel.map_or_else(Vec::new, |kernel| (kernel.samples)());
        for known in answers {
            let place = samples.iter().position(|sample| sample.about == known.sample);
            let (Some(kernel), Some(place)) = (kernel, place) else {
                let problem = format!("there is no sample {:?}", known.sample);
                return Err(damaged("datasets/exact/self_test.json", &known.kernel, problem));
            };
            let problem = match answer(device, kernel, samples.swap_remove(place)) {
                Ok(written) if written == known.written => continue,
                Ok(_) => format!("it computes other numbers than it must ({})", known.sample),
                Err(Error::Device { problem, .. }) => format!("{problem} ({})", known.sample),
                Err(error) => return Err(error),
            };
            return Err(failed(device, kernel.name, problem));
        }
    }
    Ok(())
}

/// Holds an encoder of all-MiniLM-L6-v2 to the first recorded sequences, which are short.
pub(super) fn embed(encoder: &ExactEncoder) -> Result<()> {
    let rows = recorded()?;
    let differences = compare(encoder, &rows[..rows.len().min(3)], 0, &mut |_| {})?;
    differences.first.map_or(Ok(()), |problem| Err(failed(encoder.device(), "the encoder", problem)))
}

fn failed(device: &Device, kernel: &str, problem: String) -> Error {
    let remedy = if device.is_cpu() {
        "do not use this build on this machine, and please report it with the processor's name"
    } else {
        "use --device cpu, update the driver, and please report what `tauscore devices` and `tauscore doctor` say"
    };
    Error::SelfTest { device: device.name(), kernel: kernel.into(), problem, remedy: remedy.into() }
}

/// Sequences that are embedded together: several in a batch, few enough to see how far it is.
const TOGETHER: usize = 8;

/// Embeds `rows` by an encoder of all-MiniLM-L6-v2, and compares every integer. Sequences of at most `followed` tokens, and those
/// whose embedding is wrong, are compared layer by layer as well.
///
/// # Errors
/// As [`ExactEncoder::encode`].
pub fn compare(
    encoder: &ExactEncoder,
    rows: &[Recorded],
    followed: usize,
    listener: Listener<'_>,
) -> Result<Differences> {
    let stage = "recorded vectors";
    let began = Instant::now();
    listener(Event::Began { stage, total: rows.len() as u64, unit: "vectors" });
    let mut differences = Differences::default();
    for (at, together) in rows.chunks(TOGETHER).enumerate() {
        let sequences: Vec<&[u32]> = together.iter().map(|row| row.ids.as_slice()).collect();
        let found = encoder.encode(&sequences)?;
        for (index, (row, found)) in together.iter().zip(found.chunks_exact(encoder.width())).enumerate() {
            let done = at * TOGETHER + index;
            // A shorter row would be a model of another width.
            let integers = found.iter().zip(&row.embedding).filter(|(found, right)| found != right).count()
                + found.len().abs_diff(row.embedding.len());
            let mut place = None;
            if integers > 0 || row.ids.len() <= followed {
                let states = encoder.hidden_states(&row.ids)?;
                let digests = states.iter().map(|state| digest(bytemuck::cast_slice(state)));
                place = digests.zip(&row.hidden).position(|(found, right)| found != *right);
            }
            if differences.first.is_none() && (integers > 0 || place.is_some()) {
                let from = match place {
                    None => "behind the last layer".to_owned(),
                    Some(0) => "from the embeddings' norm on".to_owned(),
                    Some(layer) => format!("from layer {} on", layer - 1),
                };
                let tokens = row.ids.len();
                differences.first =
                    Some(format!("recorded sequence {done} of {tokens} tokens: {integers} integers differ, {from}"));
            }
            differences.integers += integers;
            listener(Event::Advanced { stage, done: done as u64 + 1 });
        }
    }
    listener(Event::Ended { stage, seconds: began.elapsed().as_secs_f64() });
    Ok(differences)
}
