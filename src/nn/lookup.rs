//! Token embeddings out of a packed table. Shader: `shaders/nn/lookup.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::linear::noise;
use super::packed::Format;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tokens: u32,
    pub width: u32,
    /// The rows `[first, first + rows)` of the table are bound.
    pub first: u32,
    pub rows: u32,
    /// A [`Format`].
    pub format: u32,
}

/// Bindings: `ids [tokens]`, `weights [rows]` (packed rows of `width`), `hidden [tokens][width]`. A token whose id lies outside the
/// bound rows is left alone, so that a table larger than a binding goes in parts.
pub static KERNEL: Kernel = Kernel {
    name: "nn/lookup",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/packed.wgsl"),
        include_str!("../../shaders/nn/lookup.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: lookup,
    // A product that is exact and a sum: nothing to round in two ways but halves too small for some devices.
    parity: Parity::Close { absolute: 1e-7, relative: 1e-7 },
    samples,
};

/// Workgroups for `tokens` rows of `width`.
pub(crate) fn workgroups(tokens: usize, width: usize) -> u64 {
    (tokens as u64 * width as u64).div_ceil(64)
}

fn lookup(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (ids, weights, hidden) = (args.read::<u32>(0), args.read::<u32>(1), args.write::<f32>(2));
    let format = Format::from_code(params.format);
    let width = params.width as usize;
    let words = format.words(width);
    for (id, row) in ids.iter().zip(hidden.chunks_exact_mut(width)).take(params.tokens as usize) {
        if let Some(at) = id.checked_sub(params.first).filter(|at| *at < params.rows) {
            format.expand::<1>(weights[at as usize * words..][..words].as_chunks().0, row.as_chunks_mut().0);
        }
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, format: Format, tokens: u32, width: u32, first: u32, rows: u32| {
        let mut random = Noise::new(u64::from(tokens));
        let ids = (0..tokens).map(|_| random.below(rows + first)).collect();
        let params = Params { tokens, width, first, rows, format: format as u32 };
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::U32(ids),
                Data::U32(noise(format, &mut random, rows as usize, width as usize, 1.0)),
                Data::F32(random.floats((tokens * width) as usize, 1.0)),
            ],
            workgroups: workgroups(tokens as usize, width as usize),
            operations: 2 * u64::from(tokens * width),
            bytes: u64::from(tokens) * (4 * width as u64 + 4 * format.words(width as usize) as u64),
        }
    };
    vec![
        sample("one token of one number", Format::F32, 1, 1, 0, 3),
        sample("half of the ids outside the bound rows", Format::F32, 65, 33, 50, 50),
        sample("halves", Format::F16, 7, 34, 0, 9),
        sample("brain halves", Format::Bf16, 7, 34, 0, 9),
        sample("nibbles", Format::Q4, 20, 96, 3, 20),
        sample("beyond 65,535 workgroups", Format::Q8, 33_000, 160, 0, 11),
        sample("a batch of SmolLM2", Format::Q8, 1024, 576, 0, 1000),
    ]
}
