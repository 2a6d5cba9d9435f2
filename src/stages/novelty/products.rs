//! Similarities of all pairs in integers: products of rows of signed numbers of 16 bits. Shader: `shaders/novelty/products.wgsl`.
#![deny(clippy::float_arithmetic)]

use std::borrow::Cow;

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};
use crate::nn::products::{Matrix, Panels, multiply, pack};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Params {
    pub queries: u32,
    pub candidates: u32,
    /// Words in a row, two numbers each.
    pub words: u32,
}

/// Bindings: `queries [queries][words]`, `candidates [candidates][words]` (two numbers a word), `products [queries][candidates]`.
///
/// Sums are modulo 2^32; those of unit rows fit.
pub static KERNEL: Kernel = Kernel {
    name: "novelty/products",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/novelty/products.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: products,
    parity: Parity::Exact,
    samples,
};

/// Workgroups for so many pairs.
pub(super) fn workgroups(queries: usize, candidates: usize) -> u64 {
    queries.div_ceil(64) as u64 * candidates.div_ceil(64) as u64
}

/// Queries that one thread takes together.
const BLOCK: usize = 96;

fn products(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (queries, candidates, products) = (args.read::<i16>(0), args.read::<i16>(1), args.write::<i32>(2));
    let (rows, columns, width) = (params.queries as usize, params.candidates as usize, 2 * params.words as usize);
    if rows == 0 || columns == 0 || width == 0 {
        return;
    }
    let (queries, candidates) = (quads(&queries[..rows * width], width), quads(&candidates[..columns * width], width));
    let inputs = width.next_multiple_of(4);
    let panels = pack(&candidates, columns, inputs);
    let matrix = Matrix { outputs: columns, depth: inputs / 4, panels: Panels::Halves(&panels) };
    let blocks = products[..rows * columns].par_chunks_mut(BLOCK * columns).zip(queries.par_chunks(BLOCK * inputs));
    blocks.for_each(|(products, queries)| multiply(queries, matrix, products));
}

/// The rows, with zeros up to a multiple of four numbers each.
fn quads(rows: &[i16], width: usize) -> Cow<'_, [i16]> {
    if width.is_multiple_of(4) {
        return Cow::Borrowed(rows);
    }
    let padded = |row: &[i16]| row.iter().copied().chain([0, 0]).collect::<Vec<_>>();
    Cow::Owned(rows.chunks_exact(width).flat_map(padded).collect())
}

fn samples() -> Vec<Sample> {
    let sample = |about, [queries, candidates, words]: [u32; 3], bits: u32| {
        let mut noise = Noise::new(u64::from(queries * 31 + candidates));
        // Two numbers of so many bits, the upper one and the lower one.
        let mut number = || ((noise.bits() as i32) >> (32 - bits)) as u16;
        let mut rows = |count: u32| -> Vec<u32> {
            (0..count * words).map(|_| u32::from(number()) << 16 | u32::from(number())).collect()
        };
        let (x, y) = (rows(queries), rows(candidates));
        let products = vec![7; (queries * candidates) as usize];
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { queries, candidates, words }).to_vec(),
            bytes: 4 * (x.len() + y.len() + products.len()) as u64,
            bindings: vec![Data::U32(x), Data::U32(y), Data::U32(products)],
            workgroups: workgroups(queries as usize, candidates as usize),
            operations: 4 * u64::from(queries) * u64::from(candidates) * u64::from(words),
        }
    };
    vec![
        sample("one by one, one word", [1, 1, 1], 16),
        sample("one candidate, one query over a tile", [65, 1, 9], 16),
        sample("odd everywhere, sums that wrap around", [67, 131, 129], 16),
        sample("beyond 65,535 workgroups", [64 * 65_537, 1, 1], 16),
        sample("a block of a round", [1024, 1024, 192], 12),
    ]
}
