//! Linear layers in integers: inputs of 14 bits times weights of 8, scaled back to Q15; bias and GELU follow.
//! Shader: `shaders/nn/exact/linear.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::arithmetic::{GELU_ENTRIES, gelu, multiply_shift};
use super::row::{self, data, pack_bytes};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::int8::{PackedWeights, multiply};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    /// Outputs, divided by four.
    pub quads: u32,
    /// Inputs, divided by four.
    pub depth: u32,
    /// 1 if GELU follows.
    pub gelu: u32,
}

/// How the sums of one column become its output.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Column {
    /// The factor, beside the row's step.
    pub step: u32,
    /// Added last, Q15.
    pub bias: i32,
    /// Bits dropped from the product, 1 to 63.
    pub shift: u32,
}

/// Bindings: `quantised [rows][depth][upper | lower]`, `steps [rows]`, `weights [columns][inputs]` (four bytes a word),
/// `columns [columns]` (a `Column` each), `gelu [514]`, `out [rows][columns]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/linear",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/nn/exact/linear.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: linear,
    parity: Parity::Exact,
    samples,
};

/// Workgroups for `rows` of `columns`.
pub(crate) fn workgroups(rows: usize, columns: usize) -> u64 {
    rows.div_ceil(64) as u64 * columns.div_ceil(64) as u64
}

/// Rows that one thread multiplies together.
const BLOCK: usize = 64;

fn linear(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (quantised, steps) = (args.read::<[u32; 2]>(0), args.read::<u32>(1));
    let (weights, columns) = (args.read::<i8>(2), args.read::<Column>(3));
    let table: Option<&[i32; GELU_ENTRIES]> = (params.gelu == 1).then(|| args.read(4).first_chunk()).flatten();
    let out = args.write::<i32>(5);
    let (rows, outputs, depth) = (params.rows as usize, 4 * params.quads as usize, params.depth as usize);
    let weights = PackedWeights::from_rows(weights, outputs, 4 * depth);
    let blocks = out[..rows * outputs].par_chunks_mut(BLOCK * outputs).zip(steps.par_chunks(BLOCK));
    blocks.zip(quantised.par_chunks(BLOCK * depth)).for_each(|((out, steps), quantised)| {
        let count = out.len() / outputs;
        let mut inputs = vec![0; count * 4 * depth];
        vectorised(
            #[inline(always)]
            || {
                for (four, [high, low]) in inputs.chunks_exact_mut(4).zip(quantised) {
                    for ((input, high), low) in four.iter_mut().zip(high.to_le_bytes()).zip(low.to_le_bytes()) {
                        *input = 128 * i16::from(high as i8) + i16::from(low as i8);
                    }
                }
            },
        );
        multiply(&inputs, count, &weights, out);
        vectorised(
            #[inline(always)]
            || {
                for (row, step) in out.chunks_exact_mut(outputs).zip(steps) {
                    for (value, column) in row.iter_mut().zip(columns) {
                        *value = multiply_shift(*value, step.wrapping_mul(column.step), column.shift)
                            .wrapping_add(column.bias);
                    }
                    if let Some(table) = table {
                        for value in row {
                            *value = gelu(*value, table);
                        }
                    }
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about: &'static str, [rows, outputs, inputs]: [u32; 3], bits: u32, gelu: u32| {
        let mut noise = Noise::new(u64::from(rows * 31 + outputs));
        let count = |a: u32, b: u32| a as usize * b as usize;
        // Rows come again after so many, no multiple of a tile's.
        let distinct = rows.min(4099);
        let mut quantised = vec![[0; 2]; count(distinct, inputs) / 4];
        let mut steps = vec![0; distinct as usize];
        for (row, step) in quantised.chunks_exact_mut(inputs as usize / 4).zip(&mut steps) {
            let numbers: Vec<i32> = (0..inputs).map(|_| (noise.bits() as i32) >> (32 - bits)).collect();
            *step = row::quantise(&numbers, row);
        }
        let weights: Vec<i8> = (0..count(outputs, inputs)).map(|_| (noise.below(255) as i32 - 127) as i8).collect();
        let columns: Vec<Column> = (0..outputs)
            .map(|column| Column {
                step: 1 + noise.below(32_767),
                bias: (noise.bits() as i32) >> 14,
                shift: if about.contains("shift") { 1 + column % 63 } else { 23 },
            })
            .collect();
        let table: Vec<i32> = (0..GELU_ENTRIES as i32).map(|at| (289 - at).max(0) * 11 + at % 3).collect();
        let params = Params { rows, quads: outputs / 4, depth: inputs / 4, gelu };
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::Cycled(quantised.concat(), count(rows, inputs) / 2),
                Data::Cycled(steps, rows as usize),
                Data::U32(pack_bytes(&weights)),
                Data::U32(bytemuck::cast_slice(&columns).to_vec()),
                data(&table),
                Data::Cycled(vec![7], count(rows, outputs)),
            ],
            workgroups: workgroups(rows as usize, outputs as usize),
            operations: 2 * u64::from(rows) * u64::from(outputs) * u64::from(inputs),
            bytes: (2 * count(rows, inputs) + count(outputs, inputs) + 4 * count(rows, outputs)) as u64,
        }
    };
    vec![
        sample("one row, four columns, four inputs", [1, 4, 4], 10, 0),
        sample("sizes beside the tiles, GELU", [67, 132, 36], 18, 1),
        sample("every shift", [70, 252, 28], 16, 0),
        sample("a deep sum at the numbers' bound", [5, 8, 4096], 27, 0),
        sample("GELU far out", [9, 64, 64], 30, 1),
        sample("beyond 65,535 workgroups", [64 * 65_537, 4, 4], 14, 0),
        sample("a feed-forward layer of MiniLM", [1024, 1536, 384], 18, 1),
    ]
}
