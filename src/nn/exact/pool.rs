//! From tokens to one unit row a sequence, in integers. Shader: `shaders/nn/exact/pool.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};

use super::arithmetic::unit;
use super::row::{self, data, pack_halves};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub sequences: u32,
    /// Numbers in a row, divided by four: at most 256.
    pub quads: u32,
}

/// Bindings: `hidden [tokens][width]`, `starts [sequences + 1]`, `embeddings [sequences][width]` (two numbers a word, Q15).
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/pool",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/shared/exact_row.wgsl"),
        include_str!("../../../shaders/nn/exact/pool.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: pool,
    parity: Parity::Exact,
    samples,
};

fn pool(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (hidden, starts, embeddings) = (args.read::<i32>(0), args.read::<u32>(1), args.write::<u32>(2));
    let width = 4 * params.quads as usize;
    let mut sum = vec![0_i32; width];
    let rows = embeddings.chunks_exact_mut(width / 2).zip(starts.windows(2));
    for (embedding, bounds) in rows.take(params.sequences as usize) {
        sum.fill(0);
        for token in hidden[bounds[0] as usize * width..bounds[1] as usize * width].chunks_exact(width) {
            for (sum, value) in sum.iter_mut().zip(token) {
                *sum = sum.wrapping_add(*value);
            }
        }
        let reciprocal = row::scale(&mut sum);
        let halves: Vec<i16> = sum.iter().map(|scaled| unit(*scaled, reciprocal)).collect();
        embedding.copy_from_slice(&pack_halves(&halves));
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, lengths: Vec<u32>, quads: u32, bits: u32| {
        let mut noise = Noise::new(u64::from(quads));
        let mut starts = vec![0];
        for length in &lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let size = (starts[lengths.len()] * 4 * quads) as usize;
        let hidden: Vec<i32> = (0..size).map(|_| (noise.bits() as i32) >> (32 - bits)).collect();
        let params = Params { sequences: lengths.len() as u32, quads };
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![data(&hidden), Data::U32(starts), Data::U32(vec![7; lengths.len() * 2 * quads as usize])],
            workgroups: lengths.len() as u64,
            operations: size as u64,
            bytes: 4 * size as u64,
        }
    };
    // Of 20 numbers 16 are the largest, and the squares add up to just above 2^34: the largest product that there is.
    let edge = |sign: i32| {
        let row: Vec<i32> = (0..20).map(|at| if at % 5 < 4 { sign * 32_767 } else { 512 }).collect();
        Sample {
            bindings: vec![data(&row), Data::U32(vec![0, 1]), Data::U32(vec![7; 10])],
            ..sample("", vec![1], 5, 1)
        }
    };
    vec![
        sample("one token of four numbers", vec![1], 1, 9),
        Sample { about: "products at the end of 32 bits", ..edge(1) },
        Sample { about: "products at the other end of 32 bits", ..edge(-1) },
        sample("lengths from 1 to 512 at the numbers' bound", vec![1, 2, 512, 7], 33, 21),
        sample("the widest row, single bits", vec![3, 1], 256, 1),
        sample("beyond 65,535 workgroups", vec![1; 66_000], 1, 16),
        sample("a batch of MiniLM", vec![64; 16], 96, 18),
    ]
}
