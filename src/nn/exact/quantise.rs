//! Inputs of a matrix product: a step for each row, and each number in steps, of 14 bits. Shader: `shaders/nn/exact/quantise.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::row::{self, data};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    /// Numbers in a row, divided by four.
    pub quads: u32,
}

/// Bindings: `x [rows][width]`, `quantised [rows][quads][upper | lower]`, `steps [rows]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/quantise",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/nn/exact/quantise.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Write, Access::Write],
    cpu: quantise,
    parity: Parity::Exact,
    samples,
};

/// Rows that one thread takes.
const BLOCK: usize = 16;

fn quantise(args: &mut Args<'_>) {
    let params: Params = args.params();
    let x = args.read::<i32>(0);
    let (quantised, steps) = (args.write::<[u32; 2]>(1), args.write::<u32>(2));
    let quads = params.quads as usize;
    let blocks = steps[..params.rows as usize].par_chunks_mut(BLOCK).zip(quantised.par_chunks_mut(BLOCK * quads));
    blocks.zip(x.par_chunks(BLOCK * 4 * quads)).for_each(|((steps, quantised), x)| {
        vectorised(
            #[inline(always)]
            || {
                let rows = x.chunks_exact(4 * quads).zip(quantised.chunks_exact_mut(quads)).zip(steps);
                for ((x, quantised), step) in rows {
                    *step = row::quantise(x, quantised);
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, quads: u32, bits: u32| {
        let mut noise = Noise::new(u64::from(rows) + 5);
        let size = (rows * 4 * quads) as usize;
        let x: Vec<i32> = (0..size).map(|_| (noise.bits() as i32) >> (32 - bits)).collect();
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, quads }).to_vec(),
            bindings: vec![data(&x), Data::U32(vec![7; size / 2]), Data::U32(vec![7; rows as usize])],
            workgroups: u64::from(rows),
            operations: 8 * size as u64,
            bytes: 10 * size as u64,
        }
    };
    vec![
        sample("four numbers", 1, 1, 8),
        sample("numbers below the limit: steps of one", 3, 65, 13),
        sample("numbers just above the limit", 30, 7, 14),
        sample("numbers at their bound", 70, 33, 30),
        sample("rows beyond 65,535 workgroups", 65_600, 1, 20),
        sample("the inner layer of a batch of MiniLM", 1024, 384, 20),
    ]
}
