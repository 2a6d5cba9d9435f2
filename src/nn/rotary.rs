//! Rotary positions: turns each pair of neighbours in queries and keys by its position's angle, in place (Su et al. 2021, RoFormer,
//! section 3.4). Shader: `shaders/nn/rotary.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tokens: u32,
    /// Heads at the front of a row that are turned.
    pub heads: u32,
    /// Pairs in a head.
    pub pairs: u32,
    /// Numbers in a row.
    pub pitch: u32,
}

/// Bindings: `positions [tokens]`, `turns [positions][pairs][cosine | sine]`, `projected [tokens][pitch]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/rotary",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/rotary.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: rotary,
    // Two products and a sum, fused or not.
    parity: Parity::Close { absolute: 1e-6, relative: 1e-6 },
    samples,
};

/// Workgroups for `tokens` rows with so many pairs to turn.
pub(crate) fn workgroups(tokens: usize, pairs: usize) -> u64 {
    (tokens as u64 * pairs as u64).div_ceil(64)
}

/// Cosine and sine of the angle of each pair at each position below `positions`: position / base^(2 pair / (2 pairs)), in f64, rounded
/// once.
pub(crate) fn turns(positions: usize, pairs: usize, base: f64) -> Vec<[f32; 2]> {
    let rates: Vec<f64> = (0..pairs).map(|pair| base.powf(-(pair as f64) / pairs as f64)).collect();
    let turn = |position: usize, rate: &f64| {
        let (sine, cosine) = (position as f64 * rate).sin_cos();
        [cosine as f32, sine as f32]
    };
    (0..positions).flat_map(|position| rates.iter().map(move |rate| turn(position, rate))).collect()
}

fn rotary(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (positions, turns) = (args.read::<u32>(0), args.read::<[f32; 2]>(1));
    let projected = args.write::<f32>(2);
    let (tokens, pairs, pitch) = (params.tokens as usize, params.pairs as usize, params.pitch as usize);
    let rows = projected[..tokens * pitch].par_chunks_exact_mut(pitch).zip(positions);
    rows.with_min_len(16).for_each(|(row, position)| {
        let turns = &turns[*position as usize * pairs..][..pairs];
        vectorised(
            #[inline(always)]
            || {
                for head in row.chunks_exact_mut(2 * pairs).take(params.heads as usize) {
                    for (pair, turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                        let ([x, y], [cosine, sine]) = (*pair, *turn);
                        *pair = [x * cosine - y * sine, x * sine + y * cosine];
                    }
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, tokens: u32, heads: u32, pairs: u32, rest: u32| {
        let mut noise = Noise::new(u64::from(tokens) + 3);
        let pitch = 2 * heads * pairs + rest;
        let positions = tokens.min(300);
        let turns = turns(positions as usize, pairs as usize, 1e4).concat();
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { tokens, heads, pairs, pitch }).to_vec(),
            bindings: vec![
                Data::U32((0..tokens).map(|_| noise.below(positions)).collect()),
                Data::F32(turns),
                Data::F32(noise.floats((tokens * pitch) as usize, 4.0)),
            ],
            workgroups: workgroups(tokens as usize, (heads * pairs) as usize),
            operations: 6 * u64::from(tokens * heads * pairs),
            bytes: 16 * u64::from(tokens * heads * pairs),
        }
    };
    vec![
        sample("one pair", 1, 1, 1, 0),
        sample("odd sizes, with values that stay", 37, 3, 5, 7),
        sample("beyond 65,535 workgroups", 66_000, 4, 16, 0),
        sample("a batch of SmolLM2", 1024, 12, 32, 192),
    ]
}
