//! LayerNorm of the word's row plus the position's row, in integers. Shader: `shaders/nn/exact/embed.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::row::{self, Norm, data, pack_halves, pack_norm, unpack_halves};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tokens: u32,
    /// Numbers in a row, divided by four: at most 256.
    pub quads: u32,
    /// The rows `[first, first + rows)` of the word table are bound.
    pub first: u32,
    pub rows: u32,
}

/// Bindings: `ids [tokens]`, `positions [tokens]`, `words [rows][width]` and `places [positions][width]` (two numbers a word, Q14),
/// `norm [quads][gain | bias]`, `hidden [tokens][width]` (Q15), `quantised [tokens][quads][upper | lower]`, `steps [tokens]`.
/// A token whose id lies outside the bound rows is left alone, so that a table larger than a binding goes in parts.
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/embed",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/shared/exact_row.wgsl"),
        include_str!("../../../shaders/shared/exact_norm.wgsl"),
        include_str!("../../../shaders/nn/exact/embed.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
        Access::Write,
    ],
    cpu: embed,
    parity: Parity::Exact,
    samples,
};

/// Rows that one thread takes.
const BLOCK: usize = 16;

fn embed(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (ids, positions) = (args.read::<u32>(0), args.read::<u32>(1));
    let (words, places, norm) = (args.read::<u32>(2), args.read::<u32>(3), args.read::<[i32; 8]>(4));
    let (hidden, quantised, steps) = (args.write::<i32>(5), args.write::<[u32; 2]>(6), args.write::<u32>(7));
    let (tokens, quads) = (params.tokens as usize, params.quads as usize);
    let norm = Norm::new(&norm[..quads]);
    let blocks = hidden[..tokens * 4 * quads].par_chunks_mut(BLOCK * 4 * quads);
    let blocks = blocks.zip(quantised.par_chunks_mut(BLOCK * quads)).zip(steps.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, ((hidden, quantised), steps))| {
        vectorised(
            #[inline(always)]
            || {
                let rows = hidden.chunks_exact_mut(4 * quads).zip(quantised.chunks_exact_mut(quads)).zip(steps);
                for (row, ((hidden, quantised), step)) in rows.enumerate() {
                    let token = block * BLOCK + row;
                    let Some(id) = ids[token].checked_sub(params.first).filter(|id| *id < params.rows) else {
                        continue;
                    };
                    let word = &words[id as usize * 2 * quads..][..2 * quads];
                    let place = &places[positions[token] as usize * 2 * quads..][..2 * quads];
                    for ((two, word), place) in hidden.as_chunks_mut::<2>().0.iter_mut().zip(word).zip(place) {
                        let (word, place) = (unpack_halves(*word), unpack_halves(*place));
                        *two = [0, 1].map(|half| i32::from(word[half]) + i32::from(place[half]));
                    }
                    row::normalise(hidden, &norm);
                    *step = row::quantise(hidden, quantised);
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, tokens: u32, quads: u32, first: u32, rows: u32, bits: u32| {
        let mut noise = Noise::new(u64::from(tokens));
        let width = 4 * quads as usize;
        let table = |noise: &mut Noise, rows: u32| {
            let numbers: Vec<i16> = (0..rows as usize * width).map(|_| (noise.bits() as i16) >> (16 - bits)).collect();
            Data::U32(pack_halves(&numbers))
        };
        let gain: Vec<i32> = (0..width).map(|_| (noise.bits() as i32) >> 9).collect();
        let bias: Vec<i32> = (0..width).map(|_| (noise.bits() as i32) >> 14).collect();
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { tokens, quads, first, rows }).to_vec(),
            bindings: vec![
                Data::U32((0..tokens).map(|_| noise.below(rows + first)).collect()),
                Data::U32((0..tokens).map(|token| token % 7).collect()),
                table(&mut noise, rows),
                table(&mut noise, 7),
                data(&pack_norm(&gain, &bias)),
                Data::U32(vec![7; tokens as usize * width]),
                Data::U32(vec![7; tokens as usize * width / 2]),
                Data::U32(vec![7; tokens as usize]),
            ],
            workgroups: u64::from(tokens),
            operations: 30 * u64::from(tokens) * width as u64,
            bytes: 10 * u64::from(tokens) * width as u64,
        }
    };
    vec![
        sample("one token of four numbers", 1, 1, 0, 3, 12),
        sample("the widest row, half of the ids outside the bound rows", 65, 256, 50, 50, 16),
        sample("beyond 65,535 workgroups, tiny numbers and rows of zeros", 65_600, 1, 0, 11, 1),
        sample("a batch of MiniLM", 1024, 96, 0, 1000, 11),
    ]
}
