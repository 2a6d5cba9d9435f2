//! Softmax attention over packed sequences: every token attends to all tokens of its own sequence.
//! Shader: `shaders/nn/attention.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::gemm::{Strides, multiply};
use super::math::{exp, sum};
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tiles: u32,
    pub heads: u32,
    /// Factor on the scores, 1 / sqrt(width of a head).
    pub scale: f32,
}

/// Queries `[first, first + 64)` of the sequence that holds the tokens `[start, start + length)`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Tile {
    pub start: u32,
    pub length: u32,
    pub first: u32,
}

/// Constant: the width of a head. Bindings: `projected [tokens][query | key | value][heads][head]`, `tiles [tiles][3]` (a
/// `Tile` each, in the order of their tokens and covering them), `mixed [tokens][heads][head]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/attention",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/attention.wgsl")
    )),
    constants: &["HEAD"],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: attention,
    // exp of WGSL is off by up to 17 units in the last place on [-20, 0] and by more below; the rest are short sums.
    parity: Parity::Close { absolute: 2e-5, relative: 2e-5 },
    samples,
};

/// Queries of one tile.
const QUERIES: usize = 64;

/// The tiles of packed sequences, whose token ranges are `cu_seqlens`.
pub(crate) fn tiles(cu_seqlens: &[u32]) -> Vec<Tile> {
    let mut tiles = Vec::new();
    for bounds in cu_seqlens.windows(2) {
        let (start, length) = (bounds[0], bounds[1] - bounds[0]);
        tiles.extend((0..length).step_by(QUERIES).map(|first| Tile { start, length, first }));
    }
    tiles
}

fn attention(args: &mut Args<'_>) {
    let params: Params = args.params();
    let projected = args.read::<f32>(0);
    let tiles: &[Tile] = bytemuck::cast_slice(args.read::<u32>(1));
    let mut rest = args.write::<f32>(2);
    let tiles = &tiles[..params.tiles as usize];
    let heads = params.heads as usize;
    // The width of a head is a constant of the shader only; here the tiles tell the tokens, and those the width.
    let tokens = tiles.last().map_or(0, |tile| (tile.start + tile.length) as usize);
    if tokens == 0 {
        return;
    }
    let width = projected.len() / tokens / 3;

    let mut work = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let queries = QUERIES.min((tile.length - tile.first) as usize);
        let (mixed, after) = std::mem::take(&mut rest).split_at_mut(queries * width);
        rest = after;
        work.push((tile, queries, mixed));
    }
    work.into_par_iter().for_each(|(tile, queries, mixed)| {
        mix(projected, tile, queries, mixed, heads, width / heads, params.scale);
    });
}

/// One tile, all heads.
fn mix(projected: &[f32], tile: &Tile, queries: usize, mixed: &mut [f32], heads: usize, head: usize, scale: f32) {
    let width = heads * head;
    let length = tile.length as usize;
    let sequence = &projected[tile.start as usize * 3 * width..];
    let token = Strides { row: 3 * width, column: 1 };
    let across = Strides { row: 1, column: 3 * width };
    let mut scores = vec![0.0; queries * length];
    for h in 0..heads {
        let query = &sequence[tile.first as usize * 3 * width + h * head..];
        let (key, value) = (&sequence[width + h * head..], &sequence[2 * width + h * head..]);
        multiply(
            [length, queries, head],
            (key, token),
            (query, across),
            (&mut scores, Strides { row: 1, column: length }),
        );
        vectorised(
            #[inline(always)]
            || {
                for row in scores.chunks_exact_mut(length) {
                    softmax(row, scale);
                }
            },
        );
        multiply(
            [head, queries, length],
            (value, across),
            (&scores, Strides { row: 1, column: length }),
            (&mut mixed[h * head..], Strides { row: 1, column: width }),
        );
    }
}

/// softmax(scale * row), in place.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let mut largest = [f32::NEG_INFINITY; 16];
    for chunk in row.chunks(16) {
        for (largest, score) in largest.iter_mut().zip(chunk) {
            *largest = largest.max(*score);
        }
    }
    let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for score in &mut *row {
        *score = exp((*score - largest) * scale);
    }
    let inverse = 1.0 / sum(row, |weight| weight);
    for weight in row {
        *weight *= inverse;
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, lengths: &[u32], heads: u32, head: u32, scale: f32| {
        let mut cu_seqlens = vec![0];
        for length in lengths {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
        }
        let tokens = lengths.iter().sum::<u32>() as usize;
        let width = (heads * head) as usize;
        let tiles = tiles(&cu_seqlens);
        let pairs: u64 = lengths.iter().map(|length| u64::from(*length) * u64::from(*length)).sum();
        let params = Params { tiles: tiles.len() as u32, heads, scale: 1.0 / (head as f32).sqrt() };
        Sample {
            about,
            constants: vec![head],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                // Whole numbers where they are large: their scores are then exact and only exp is compared.
                Data::F32(
                    Noise::new(pairs)
                        .floats(tokens * 3 * width, scale)
                        .into_iter()
                        .map(|value| if scale > 8.0 { value.round() } else { value })
                        .collect(),
                ),
                Data::U32(bytemuck::cast_slice(&tiles).to_vec()),
                Data::F32(vec![f32::NAN; tokens * width]),
            ],
            workgroups: u64::from(params.tiles * heads),
            operations: 4 * pairs * width as u64,
            bytes: 16 * (tokens * width) as u64,
        }
    };
    vec![
        sample("one token", &[1], 1, 4, 1.0),
        sample("sequences below, at and above a tile", &[2, 63, 64, 65, 129], 2, 32, 1.0),
        sample("a head that is no multiple of four, peaked scores", &[40, 3], 3, 10, 6.0),
        sample("a wide head", &[70], 1, 128, 2.0),
        sample("huge scores: all weight on one key", &[33], 2, 64, 30.0),
        sample("a batch of MiniLM", &[64; 16], 12, 32, 1.0),
    ]
}
