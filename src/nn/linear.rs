//! Linear layers over packed weights: x times the transposed matrix. Shader: `shaders/nn/linear.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::floats::{COLUMNS, ROWS, expand, multiply, with_panels};
use super::packed::Format;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub columns: u32,
    pub depth: u32,
    /// A [`Format`].
    pub format: u32,
    /// Numbers in a row of `out`.
    pub pitch: u32,
    /// The first number of it that is written.
    pub first: u32,
}

/// Bindings: `x [rows][depth]`, `weights [columns]` (packed rows of `depth`), `out [rows][pitch]`, of which the columns
/// `[first, first + columns)` are written.
pub static KERNEL: Kernel = Kernel {
    name: "nn/linear",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/packed.wgsl"),
        include_str!("../../shaders/shared/tile.wgsl"),
        include_str!("../../shaders/shared/tile_packed.wgsl"),
        include_str!("../../shaders/nn/linear.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: linear,
    // Sums of up to a few thousand products in two orders, fused or not.
    parity: Parity::Close { absolute: 2e-5, relative: 1e-5 },
    samples,
};

/// Workgroups for `rows` of `columns`.
pub(crate) fn workgroups(rows: usize, columns: usize) -> u64 {
    rows.div_ceil(64) as u64 * columns.div_ceil(64) as u64
}

/// Numbers that are expanded at once, at most: 768 KiB of panels stay in a second-level cache while a block's rows go by.
const STRIP: usize = 192 << 10;

/// Rows that one thread multiplies with each strip, at most: enough for its expansion to be worth it.
const BLOCK: usize = 86 * ROWS;

fn linear(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, weights) = (args.read::<f32>(0), args.read::<u32>(1));
    let out = args.write::<f32>(2);
    let (rows, columns, depth) = (params.rows as usize, params.columns as usize, params.depth as usize);
    let (pitch, first) = (params.pitch as usize, params.first as usize);
    let format = Format::from_code(params.format);
    let words = format.words(depth);
    let strip = (STRIP / (COLUMNS * depth)).max(1) * COLUMNS;
    // All threads have the same work.
    let blocks = rows.div_ceil(BLOCK).next_multiple_of(rayon::current_num_threads());
    let block = rows.div_ceil(blocks).next_multiple_of(ROWS);
    let blocks = out[..rows * pitch].par_chunks_mut(block * pitch).zip(x[..rows * depth].par_chunks(block * depth));
    blocks.for_each(|(out, x)| {
        with_panels(|panels| {
            for (index, weights) in weights[..columns * words].chunks(strip * words).enumerate() {
                let (present, at) = (weights.len() / words, first + index * strip);
                panels.resize(present.div_ceil(COLUMNS) * depth, [0.0; COLUMNS]);
                for (panel, part) in panels.chunks_exact_mut(depth).zip(weights.chunks(COLUMNS * words)) {
                    expand(format, part, panel);
                }
                multiply(|row| &x[row * depth..], panels, depth, out, pitch, at..at + present);
            }
        });
    });
}

/// Random packed rows, for samples.
pub(super) fn noise(format: Format, noise: &mut Noise, rows: usize, columns: usize, scale: f32) -> Vec<u32> {
    let halves = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    let mut words = Vec::with_capacity(rows * format.words(columns));
    for _ in 0..rows * columns / format.group() {
        match format {
            Format::F32 => words.push((noise.float() * scale).to_bits()),
            Format::F16 => {
                let [low, high] = [0; 2].map(|_| half::f16::from_f32(noise.float() * scale).to_bits());
                words.push(halves(low, high));
            }
            Format::Bf16 => {
                let [low, high] = [0; 2].map(|_| half::bf16::from_f32(noise.float() * scale).to_bits());
                words.push(halves(low, high));
            }
            Format::Q8 => {
                words.push((noise.float() * scale / 127.0).to_bits());
                words.extend((0..8).map(|_| noise.bits()));
            }
            Format::Q4 => {
                let step = noise.float() * scale / 15.0;
                let [step, least] = [step, step * -8.0].map(|value| half::f16::from_f32(value).to_bits());
                words.push(halves(step, least));
                words.extend((0..4).map(|_| noise.bits()));
            }
        }
    }
    words
}

fn samples() -> Vec<Sample> {
    let sample = |about, format: Format, [rows, columns, depth]: [u32; 3], [pitch, first]: [u32; 2]| {
        let mut random = Noise::new(u64::from(rows * 31 + columns));
        let params = Params { rows, columns, depth, format: format as u32, pitch, first };
        let count = |a: u32, b: u32| a as usize * b as usize;
        // Sums of the size that a model's are.
        let scale = 4.0 / (depth as f32).sqrt().max(4.0);
        let weights = noise(format, &mut random, columns as usize, depth as usize, 1.0);
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            operations: 2 * u64::from(rows) * u64::from(columns) * u64::from(depth),
            bytes: 4 * (count(rows, depth) + weights.len() + count(rows, columns)) as u64,
            bindings: vec![
                Data::F32(random.floats(count(rows, depth), scale)),
                Data::U32(weights),
                // What is not written stays as it is.
                Data::F32(vec![0.5; count(rows, pitch)]),
            ],
            workgroups: workgroups(rows as usize, columns as usize),
        }
    };
    vec![
        sample("one by one by one", Format::F32, [1, 1, 1], [1, 0]),
        sample("odd everywhere, beside other columns", Format::F32, [67, 131, 33], [140, 5]),
        sample("halves", Format::F16, [65, 66, 46], [66, 0]),
        sample("brain halves", Format::Bf16, [66, 65, 18], [70, 5]),
        sample("bytes", Format::Q8, [70, 67, 96], [67, 0]),
        sample("nibbles", Format::Q4, [3, 300, 160], [300, 0]),
        sample("a deep sum", Format::Q8, [5, 7, 4096], [7, 0]),
        sample("beyond 65,535 workgroups", Format::F32, [64 * 65_537, 1, 1], [1, 0]),
        sample("the first feed-forward layers of SmolLM2", Format::Q4, [1024, 3072, 576], [3072, 0]),
    ]
}
