//! Token embeddings: the word's row plus the position's row. Shader: `shaders/nn/embed.wgsl`.

use bytemuck::{Pod, Zeroable};

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tokens: u32,
    pub width: u32,
    /// The rows `[first, first + rows)` of the word table are bound.
    pub first: u32,
    pub rows: u32,
}

/// Bindings: `ids [tokens]`, `positions [tokens]`, `words [rows][width]`, `places [positions][width]`,
/// `hidden [tokens][width]`.
/// A token whose id lies outside the bound rows is left alone, so that a table larger than a binding goes in parts.
pub static KERNEL: Kernel = Kernel {
    name: "nn/embed",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/embed.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: embed,
    // One addition, rounded alike everywhere.
    parity: Parity::Exact,
    samples,
};

/// Workgroups for `tokens` rows of `width`.
pub(crate) fn workgroups(tokens: usize, width: usize) -> u64 {
    (tokens as u64 * width as u64).div_ceil(64)
}

fn embed(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (ids, positions) = (args.read::<u32>(0), args.read::<u32>(1));
    let (words, places, hidden) = (args.read::<f32>(2), args.read::<f32>(3), args.write::<f32>(4));
    let width = params.width as usize;
    for (token, row) in hidden.chunks_exact_mut(width).take(params.tokens as usize).enumerate() {
        let Some(id) = ids[token].checked_sub(params.first).filter(|id| *id < params.rows) else { continue };
        let word = &words[id as usize * width..][..width];
        let place = &places[positions[token] as usize * width..][..width];
        for ((value, word), place) in row.iter_mut().zip(word).zip(place) {
            *value = word + place;
        }
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, tokens: u32, width: u32, first: u32, rows: u32| {
        let mut noise = Noise::new(u64::from(tokens));
        let ids = (0..tokens).map(|_| noise.below(rows + first)).collect();
        let positions = (0..tokens).map(|token| token % 7).collect();
        let params = Params { tokens, width, first, rows };
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::U32(ids),
                Data::U32(positions),
                Data::F32(noise.floats((rows * width) as usize, 1.0)),
                Data::F32(noise.floats((7 * width) as usize, 1.0)),
                Data::F32(noise.floats((tokens * width) as usize, 1.0)),
            ],
            workgroups: workgroups(tokens as usize, width as usize),
            operations: u64::from(tokens * width),
            bytes: u64::from(tokens * width) * 12,
        }
    };
    vec![
        sample("one token of one column", 1, 1, 0, 3),
        sample("odd sizes, half of the ids outside the bound rows", 65, 33, 50, 50),
        sample("beyond 65,535 workgroups", 33_000, 129, 0, 11),
        sample("a batch of MiniLM", 1024, 384, 0, 1000),
    ]
}
