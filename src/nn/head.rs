//! The head of a language model, fused with what its loss needs: of the logits of a scored row only their maximum, the sum of their
//! exponentials and the target's own are kept, split by split of the vocabulary. Shader: `shaders/nn/head.wgsl`.
//!
//! What follows, [`surprise`](super::surprise), makes the loss of it. Logits of 2,048 rows of SmolLM2 would be 403 MB; here they are a
//! tile at a time.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::floats::{COLUMNS, ROWS, expand, multiply};
use super::linear::noise;
use super::math::{exp, largest, sum};
use super::packed::Format;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    /// Scored rows.
    pub rows: u32,
    /// The words `[first, first + words)` of the vocabulary are bound; `first` is a multiple of [`SPLIT`].
    pub first: u32,
    pub words: u32,
    pub depth: u32,
    /// A [`Format`].
    pub format: u32,
    /// [`splits`] of the whole vocabulary.
    pub splits: u32,
}

/// What is scored: the row of hidden numbers that foretells a token, and that token.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Scored {
    pub row: u32,
    pub target: u32,
}

/// What is kept of the logits of one row and one split.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Partial {
    pub largest: f32,
    /// Of e^(logit - largest).
    pub sum: f32,
    /// The target's logit; 0 where it is in another split.
    pub wanted: f32,
}

impl Partial {
    /// Of no logit at all.
    pub(super) const NONE: Self = Self { largest: -3.0e38, sum: 0.0, wanted: 0.0 };
}

/// Bindings: `x [tokens][depth]`, `scored [rows]` (a `Scored` each), `weights [words]` (packed rows of `depth`),
/// `partials [rows][splits]` (a `Partial` each), of which the bound words' splits are written.
pub static KERNEL: Kernel = Kernel {
    name: "nn/head",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/packed.wgsl"),
        include_str!("../../shaders/shared/tile.wgsl"),
        include_str!("../../shaders/shared/tile_packed.wgsl"),
        include_str!("../../shaders/nn/head.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: head,
    // Logits as of nn/linear, then a sum of up to 2,048 exponentials of which each is off by what its logit is.
    parity: Parity::Close { absolute: 4e-5, relative: 4e-5 },
    samples,
};

/// Words of a split.
pub(crate) const SPLIT: usize = 2048;

/// Splits of a vocabulary of so many words.
pub fn splits(vocabulary: usize) -> usize {
    vocabulary.div_ceil(SPLIT)
}

/// Workgroups for `rows` and so many bound words.
pub(crate) fn workgroups(rows: usize, words: usize) -> u64 {
    rows.div_ceil(64) as u64 * splits(words) as u64
}

/// Rows and words of which logits are held at a time.
const BLOCK: usize = 16 * ROWS;
const WORDS: usize = 4 * COLUMNS;

fn head(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, scored, weights) = (args.read::<f32>(0), args.read::<Scored>(1), args.read::<u32>(2));
    let partials = args.write::<Partial>(3);
    let (rows, words, depth) = (params.rows as usize, params.words as usize, params.depth as usize);
    let scored = &scored[..rows];
    let format = Format::from_code(params.format);
    let row_words = format.words(depth);
    // A split is one thread's: each of its weights is expanded once.
    let found: Vec<Vec<Partial>> = weights[..words * row_words]
        .par_chunks(SPLIT * row_words)
        .enumerate()
        .map_init(Default::default, |(panels, logits): &mut (Vec<_>, Vec<f32>), (split, weights)| {
            let mut partials = vec![Partial::NONE; rows];
            let mut at = params.first + (split * SPLIT) as u32;
            panels.resize(WORDS / COLUMNS * depth, [0.0; COLUMNS]);
            logits.resize(BLOCK * WORDS, 0.0);
            for part in weights.chunks(WORDS * row_words) {
                for (panel, part) in panels.chunks_exact_mut(depth).zip(part.chunks(COLUMNS * row_words)) {
                    expand(format, part, panel);
                }
                let present = part.len() / row_words;
                for (partials, scored) in partials.chunks_mut(BLOCK).zip(scored.chunks(BLOCK)) {
                    let row = |row: usize| &x[scored[row].row as usize * depth..];
                    multiply(row, panels, depth, &mut logits[..scored.len() * WORDS], WORDS, 0..present);
                    vectorised(
                        #[inline(always)]
                        || {
                            let rows = partials.iter_mut().zip(scored).zip(logits.as_chunks::<WORDS>().0);
                            for ((partial, scored), logits) in rows {
                                take(partial, &logits[..present], scored.target.wrapping_sub(at));
                            }
                        },
                    );
                }
                at += present as u32;
            }
            partials
        })
        .collect();
    let (splits, first) = (params.splits as usize, params.first as usize / SPLIT);
    for (split, found) in found.iter().enumerate() {
        for (row, partial) in found.iter().enumerate() {
            partials[row * splits + first + split] = *partial;
        }
    }
}

/// Takes some logits into `partial`; `wanted` is the target's place among them, if it is there.
#[inline(always)]
fn take(partial: &mut Partial, logits: &[f32], wanted: u32) {
    let largest = largest(logits, partial.largest);
    partial.sum = partial.sum * exp(partial.largest - largest) + sum(logits, |logit| exp(logit - largest));
    partial.largest = largest;
    if let Some(logit) = logits.get(wanted as usize) {
        partial.wanted = *logit;
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, format: Format, [tokens, rows, vocabulary, depth]: [u32; 4], part: [u32; 2]| {
        let mut random = Noise::new(u64::from(rows * 37 + vocabulary));
        let [first, words] = part;
        let splits = splits(vocabulary as usize);
        let params = Params { rows, first, words, depth, format: format as u32, splits: splits as u32 };
        let scored: Vec<u32> = (0..rows).flat_map(|_| [random.below(tokens), random.below(vocabulary)]).collect();
        // Logits spread over about -10 to 10.
        let scale = 12.0 / (depth as f32).sqrt();
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::F32(random.floats((tokens * depth) as usize, scale)),
                Data::U32(scored),
                Data::U32(noise(format, &mut random, words as usize, depth as usize, 1.0)),
                // What is of other parts of the vocabulary stays as it is.
                Data::F32(vec![0.25; rows as usize * splits * 3]),
            ],
            workgroups: workgroups(rows as usize, words as usize),
            operations: 2 * u64::from(rows) * u64::from(words) * u64::from(depth),
            bytes: 4 * (u64::from(rows) * u64::from(depth) + u64::from(words) * format.words(depth as usize) as u64),
        }
    };
    vec![
        sample("one row, one word", Format::F32, [1, 1, 1, 1], [0, 1]),
        sample("words beside the tiles, rows in any order", Format::F32, [50, 70, 333, 33], [0, 333]),
        sample("the last part of a table in parts", Format::Q8, [9, 20, 4100, 64], [2048, 2052]),
        sample("nibbles", Format::Q4, [9, 66, 130, 96], [0, 130]),
        sample("the head of SmolLM2", Format::Q8, [64, 64, 49_152, 576], [0, 49_152]),
    ]
}
