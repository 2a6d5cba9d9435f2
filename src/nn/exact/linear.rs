//! Linear layers in integers: inputs of 14 bits times weights of 8, scaled back to Q15; bias and GELU follow.
//! Shader: `shaders/nn/exact/linear.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::arithmetic::{GELU_ENTRIES, gelu, multiply_shift};
use super::row::{self, data};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::products::{self, BLOCK, COLUMNS, Matrix, Panel, Panels, Sums, multiply_rows, panels};

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

/// Bindings: `quantised [rows][depth][upper | lower]`, `steps [rows]`, `weights [panels][depth][32 columns]` (four bytes a word, as
/// `pack_weights` lays them), `columns [columns]` (a `Column` each), `gelu [514]`, `out [rows][columns]`.
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

/// Weights `[columns][inputs]` as the device holds them, in words of four bytes.
pub(crate) fn pack_weights(weights: &[i8], columns: usize, inputs: usize) -> Vec<u32> {
    products::pack(weights, columns, inputs).iter().flat_map(|panel| row::pack_bytes(panel)).collect()
}

fn linear(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (quantised, steps) = (args.read::<[u32; 2]>(0), args.read::<u32>(1));
    let (weights, columns) = (args.read::<Panel<i8>>(2), args.read::<Column>(3));
    let table: Option<&[i32; GELU_ENTRIES]> = (params.gelu == 1).then(|| args.read(4).first_chunk()).flatten();
    let out = args.write::<i32>(5);
    let (rows, outputs, depth) = (params.rows as usize, 4 * params.quads as usize, params.depth as usize);
    let matrix = Matrix { outputs, depth, panels: Panels::Bytes(&weights[..panels(outputs) * depth]) };
    let scales: Vec<Scales> = columns[..outputs].chunks(COLUMNS).map(Scales::new).collect();
    let table = table.map(Gelu::new);
    // A thread of the pool takes its own batch, and others are busy with theirs; what another thread asks for, all of them share.
    let share = rayon::current_thread_index().map_or(rows.div_ceil(rayon::current_num_threads()), |_| rows);
    let block = share.next_multiple_of(12).clamp(24, BLOCK);
    let blocks = out[..rows * outputs].par_chunks_mut(block * outputs).zip(steps.par_chunks(block));
    blocks.zip(quantised.par_chunks(block * depth)).for_each(|((out, steps), quantised)| {
        multiply_rows(
            #[inline(always)]
            |row, first, line| join(&quantised[row * depth + first..][..line.len()], line),
            matrix,
            out,
            #[inline(always)]
            |row, panel, sums, out| scales[panel].apply(sums, steps[row], out),
        );
        if let Some(table) = &table {
            vectorised(
                #[inline(always)]
                || table.apply(out),
            );
        }
    });
}

/// Upper and lower parts as one number again.
#[inline(always)]
fn join(quantised: &[[u32; 2]], inputs: &mut [[i16; 4]]) {
    for (four, [high, low]) in inputs.iter_mut().zip(quantised) {
        for ((input, high), low) in four.iter_mut().zip(high.to_le_bytes()).zip(low.to_le_bytes()) {
            *input = 128 * i16::from(high as i8) + i16::from(low as i8);
        }
    }
}

/// What the [`Column`]s of a panel hold, each kind side by side; beyond the last column, nothing.
struct Scales {
    steps: [u32; COLUMNS],
    bias: [i32; COLUMNS],
    /// One less than the bits that are dropped.
    shifts: [u64; COLUMNS],
    /// The largest step.
    largest: u32,
}

impl Scales {
    fn new(columns: &[Column]) -> Self {
        let mut scales = Self { steps: [0; COLUMNS], bias: [0; COLUMNS], shifts: [0; COLUMNS], largest: 0 };
        for (at, column) in columns.iter().enumerate() {
            (scales.steps[at], scales.bias[at]) = (column.step, column.bias);
            scales.shifts[at] = u64::from(column.shift.saturating_sub(1));
            scales.largest = scales.largest.max(column.step);
        }
        scales
    }

    /// From sums to outputs, of a row with this step.
    #[inline(always)]
    fn apply(&self, sums: &Sums, step: u32, out: &mut Sums) {
        let columns = self.steps.iter().zip(&self.bias).zip(&self.shifts);
        if step.checked_mul(self.largest).is_some_and(|largest| largest < 1 << 31) {
            // So it is with any checked model, and a product of two signed numbers is one instruction where that of a signed and an unsigned
            // one is several. It is rounded as `multiply_shift` does, in two shifts.
            for ((out, sum), ((by, bias), shift)) in out.iter_mut().zip(sums).zip(columns) {
                let product = i64::from(*sum) * i64::from((step * by) as i32);
                *out = ((((product >> shift) + 1) >> 1) as i32).wrapping_add(*bias);
            }
        } else {
            for ((out, sum), ((by, bias), shift)) in out.iter_mut().zip(sums).zip(columns) {
                *out = multiply_shift(*sum, step.wrapping_mul(*by), *shift as u32 + 1).wrapping_add(*bias);
            }
        }
    }
}

/// GELU by its table: where each entry and the rise to the next one fit a word together, one look finds both.
enum Gelu<'a> {
    Pairs(Box<[i32; GELU_ENTRIES - 1]>),
    Plain(&'a [i32; GELU_ENTRIES]),
}

impl<'a> Gelu<'a> {
    fn new(table: &'a [i32; GELU_ENTRIES]) -> Self {
        let mut pairs = Box::new([0; GELU_ENTRIES - 1]);
        for (pair, two) in pairs.iter_mut().zip(table.windows(2)) {
            let (Ok(entry), Ok(rise)) = (i16::try_from(two[0]), i16::try_from(two[1].wrapping_sub(two[0]))) else {
                return Self::Plain(table);
            };
            *pair = i32::from(rise) << 16 | i32::from(entry as u16);
        }
        Self::Pairs(pairs)
    }

    #[inline(always)]
    fn apply(&self, numbers: &mut [i32]) {
        match self {
            Self::Pairs(pairs) => {
                for value in numbers {
                    *value = gelu(*value, |entry| (i32::from(pairs[entry] as i16), pairs[entry] >> 16));
                }
            }
            Self::Plain(table) => {
                for value in numbers {
                    *value = gelu(*value, |entry| (table[entry], table[entry + 1].wrapping_sub(table[entry])));
                }
            }
        }
    }
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
                Data::U32(pack_weights(&weights, outputs as usize, inputs as usize)),
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
