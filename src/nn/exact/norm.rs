//! LayerNorm of a sum in integers, as it is and as inputs of the next matrix product. Shader: `shaders/nn/exact/norm.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::row::{self, Norm, data, pack_norm};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    /// Numbers in a row, divided by four: at most 256.
    pub quads: u32,
}

/// Bindings: `x [rows][width]`, `residual [rows][width]`, `norm [quads][gain | bias]`, `hidden [rows][width]`,
/// `quantised [rows][quads][upper | lower]`, `steps [rows]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/norm",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/shared/exact_row.wgsl"),
        include_str!("../../../shaders/shared/exact_norm.wgsl"),
        include_str!("../../../shaders/nn/exact/norm.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    cpu: norm,
    parity: Parity::Exact,
    samples,
};

/// Rows that one thread takes.
const BLOCK: usize = 16;

fn norm(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, residual, norm) = (args.read::<i32>(0), args.read::<i32>(1), args.read::<[i32; 8]>(2));
    let (hidden, quantised, steps) = (args.write::<i32>(3), args.write::<[u32; 2]>(4), args.write::<u32>(5));
    let (rows, quads) = (params.rows as usize, params.quads as usize);
    let width = 4 * quads;
    let norm = Norm::new(&norm[..quads]);
    let blocks = hidden[..rows * width].par_chunks_mut(BLOCK * width);
    let blocks = blocks.zip(quantised.par_chunks_mut(BLOCK * quads)).zip(steps.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, ((hidden, quantised), steps))| {
        let start = block * BLOCK * width;
        vectorised(
            #[inline(always)]
            || {
                let rows = hidden.chunks_exact_mut(width).zip(quantised.chunks_exact_mut(quads)).zip(steps);
                for (row, ((hidden, quantised), step)) in rows.enumerate() {
                    let at = start + row * width;
                    for ((sum, x), residual) in hidden.iter_mut().zip(&x[at..]).zip(&residual[at..]) {
                        *sum = x.wrapping_add(*residual);
                    }
                    row::normalise(hidden, &norm);
                    *step = row::quantise(hidden, quantised);
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, quads: u32, bits: u32, gain_bits: u32| {
        let mut noise = Noise::new(u64::from(rows) + 17);
        let width = 4 * quads as usize;
        let numbers = |noise: &mut Noise, count: usize, bits: u32| -> Vec<i32> {
            (0..count).map(|_| (noise.bits() as i32) >> (32 - bits)).collect()
        };
        let size = rows as usize * width;
        let mut x = numbers(&mut noise, size, bits);
        let mut residual = numbers(&mut noise, size, bits);
        // The second row, where there is one, is one number over and over.
        for at in width..size.min(2 * width) {
            (x[at], residual[at]) = (5, -9);
        }
        let (gain, bias) = (numbers(&mut noise, width, gain_bits), numbers(&mut noise, width, 18));
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, quads }).to_vec(),
            bindings: vec![
                data(&x),
                data(&residual),
                data(&pack_norm(&gain, &bias)),
                Data::U32(vec![7; size]),
                Data::U32(vec![7; size / 2]),
                Data::U32(vec![7; rows as usize]),
            ],
            workgroups: u64::from(rows),
            operations: 30 * size as u64,
            bytes: 14 * size as u64,
        }
    };
    vec![
        sample("four numbers", 1, 1, 5, 20),
        sample("a row without variance, numbers at their bound", 9, 33, 27, 22),
        sample("any bits at all: sums wrap", 40, 50, 32, 32),
        sample("single bits: the sum of squares just above its least", 64, 96, 1, 22),
        sample("the widest row", 9, 256, 20, 22),
        sample("rows beyond 65,535 workgroups", 65_600, 1, 16, 20),
        sample("a batch of MiniLM", 1024, 96, 18, 22),
    ]
}
