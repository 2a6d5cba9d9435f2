//! Softmax attention over packed sequences: every token attends to all tokens of its own sequence, or in causal models to itself and
//! those before it. Sequences may share a prefix, which then stands in the batch once. Shader: `shaders/nn/attention.wgsl`.

use std::ops::Range;

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
    /// Heads of queries.
    pub heads: u32,
    /// Heads of keys and of values: each serves `heads / shared_heads` of queries (Ainslie et al. 2023, GQA).
    pub shared_heads: u32,
    /// 1 if a token sees only itself and what stands before it.
    pub causal: u32,
    /// Factor on the scores, 1 / sqrt(width of a head).
    pub scale: f32,
}

/// Queries `[first, first + 64)` of the sequence whose own tokens are `[start, start + length)`. Before them stand those of its prefix,
/// `[prefix_start, prefix_start + prefix_length)`, wherever in the batch.
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Tile {
    pub start: u32,
    pub length: u32,
    pub first: u32,
    pub prefix_start: u32,
    pub prefix_length: u32,
}

/// Constant: the width of a head. Bindings: `projected [tokens][query | key | value][their heads][head]`, `tiles [tiles][5]` (a
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
        let tile = Tile { start, length, ..Tile::default() };
        tiles.extend((0..length).step_by(QUERIES).map(|first| Tile { first, ..tile }));
    }
    tiles
}

fn attention(args: &mut Args<'_>) {
    let params: Params = args.params();
    let projected = args.read::<f32>(0);
    let tiles: &[Tile] = bytemuck::cast_slice(args.read::<u32>(1));
    let mut rest = args.write::<f32>(2);
    let tiles = &tiles[..params.tiles as usize];
    // The width of a head is a constant of the shader only; here the tiles tell the tokens, and those the width.
    let tokens = tiles.last().map_or(0, |tile| (tile.start + tile.length) as usize);
    if tokens == 0 {
        return;
    }
    let (heads, shared_heads) = (params.heads as usize, params.shared_heads as usize);
    let pitch = projected.len() / tokens;
    let sizes = Sizes { heads, shared_heads, head: pitch / (heads + 2 * shared_heads), pitch };

    let mut work = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let queries = QUERIES.min((tile.length - tile.first) as usize);
        let (mixed, after) = std::mem::take(&mut rest).split_at_mut(queries * heads * sizes.head);
        rest = after;
        work.push((tile, mixed));
    }
    work.into_par_iter().for_each_init(Workspace::default, |workspace, (tile, mixed)| {
        workspace.mix(projected, tile, mixed, sizes, params.causal == 1, params.scale);
    });
}

#[derive(Clone, Copy)]
struct Sizes {
    heads: usize,
    shared_heads: usize,
    head: usize,
    /// Numbers in a row of `projected`.
    pitch: usize,
}

/// Keys that are taken at once. Tiles and parts of keys are always whole, with zeros for what is missing, so that the bits of a
/// query depend neither on which queries stand beside it nor on where its prefix lies.
const KEYS: usize = 64;

/// One shared head of a tile.
#[derive(Default)]
struct Workspace {
    /// `[QUERIES][head]`, heads of one number made two.
    queries: Vec<f32>,
    /// `[keys][head]`, as are the values; whole parts of [`KEYS`].
    keys: Vec<f32>,
    values: Vec<f32>,
    /// `[QUERIES][keys]`.
    scores: Vec<f32>,
    /// `[QUERIES][head]`, of one part of the keys.
    products: Vec<f32>,
}

impl Workspace {
    /// One tile, all heads.
    fn mix(&mut self, projected: &[f32], tile: &Tile, mixed: &mut [f32], sizes: Sizes, causal: bool, scale: f32) {
        let Sizes { heads, shared_heads, head, pitch } = sizes;
        let width = heads * head;
        // One column would take another path through the crate: make it two.
        let held = head.max(2);
        let (start, prefix) =
            (tile.start as usize, tile.prefix_start as usize..(tile.prefix_start + tile.prefix_length) as usize);
        let (first, queries) = (tile.first as usize, mixed.len() / width);
        let own = if causal { first + queries } else { tile.length as usize };
        let seen = prefix.len() + own;
        let padded = seen.next_multiple_of(KEYS);
        self.scores.resize(QUERIES * padded, 0.0);
        self.products.resize(QUERIES * held, 0.0);
        for shared in 0..shared_heads {
            let tokens = || prefix.clone().chain(start..start + own);
            let at = |part: usize| (heads + part * shared_heads + shared) * head;
            gather(projected, pitch, tokens(), at(0)..at(0) + head, padded, &mut self.keys);
            gather(projected, pitch, tokens(), at(1)..at(1) + head, padded, &mut self.values);
            for h in shared * heads / shared_heads..(shared + 1) * heads / shared_heads {
                let tokens = start + first..start + first + queries;
                gather(projected, pitch, tokens, h * head..(h + 1) * head, QUERIES, &mut self.queries);
                multiply(
                    [padded, QUERIES, held],
                    (&self.keys, Strides { row: held, column: 1 }),
                    (&self.queries, Strides { row: 1, column: held }),
                    (&mut self.scores, Strides { row: 1, column: padded }),
                );
                vectorised(
                    #[inline(always)]
                    || {
                        for (query, row) in self.scores.chunks_exact_mut(padded).enumerate().take(queries) {
                            let (row, beyond) =
                                row.split_at_mut(if causal { prefix.len() + first + query + 1 } else { seen });
                            softmax(row, scale);
                            beyond.fill(0.0);
                        }
                    },
                );
                for part in (0..padded).step_by(KEYS) {
                    multiply(
                        [held, QUERIES, KEYS],
                        (&self.values[part * held..], Strides { row: 1, column: held }),
                        (&self.scores[part..], Strides { row: 1, column: padded }),
                        (&mut self.products, Strides { row: 1, column: held }),
                    );
                    for (mixed, products) in mixed.chunks_exact_mut(width).zip(self.products.chunks_exact(held)) {
                        let mixed = &mut mixed[h * head..][..head];
                        if part == 0 {
                            mixed.copy_from_slice(&products[..head]);
                        } else {
                            mixed.iter_mut().zip(products).for_each(|(mixed, product)| *mixed += product);
                        }
                    }
                }
            }
        }
    }
}

/// Brings `columns` of each of `tokens` together, at least two wide, and zeros until there are `rows`.
fn gather(
    projected: &[f32],
    pitch: usize,
    tokens: impl Iterator<Item = usize>,
    columns: Range<usize>,
    rows: usize,
    into: &mut Vec<f32>,
) {
    into.clear();
    let held = columns.len().max(2);
    for token in tokens {
        into.extend_from_slice(&projected[token * pitch..][columns.clone()]);
        into.resize(into.len().next_multiple_of(held), 0.0);
    }
    into.resize(rows * held, 0.0);
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
    let sample = |about, tiles: Vec<Tile>, [heads, shared_heads, head]: [u32; 3], causal: u32, scale: f32| {
        let tokens = tiles.last().map_or(0, |tile| tile.start + tile.length) as usize;
        let width = (heads * head) as usize;
        let pitch = ((heads + 2 * shared_heads) * head) as usize;
        // Queries times the keys that they see, about.
        let pairs: u64 = tiles
            .iter()
            .map(|tile| {
                let queries = u64::from((tile.length - tile.first).min(QUERIES as u32));
                let seen = if causal == 1 { tile.first + QUERIES as u32 / 2 } else { tile.length };
                queries * u64::from(tile.prefix_length + seen)
            })
            .sum();
        let params =
            Params { tiles: tiles.len() as u32, heads, shared_heads, causal, scale: 1.0 / (head as f32).sqrt() };
        Sample {
            about,
            constants: vec![head],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                // Whole numbers where they are large: their scores are then exact and only exp is compared.
                Data::F32(
                    Noise::new(pairs)
                        .floats(tokens * pitch, scale)
                        .into_iter()
                        .map(|value| if scale > 8.0 { value.round() } else { value })
                        .collect(),
                ),
                Data::U32(bytemuck::cast_slice(&tiles).to_vec()),
                Data::F32(vec![f32::NAN; tokens * width]),
            ],
            workgroups: u64::from(params.tiles * heads),
            operations: 4 * pairs * width as u64,
            bytes: 4 * (tokens * (pitch + width)) as u64,
        }
    };
    let alone = |lengths: &[u32]| {
        let mut cu_seqlens = vec![0];
        lengths.iter().for_each(|length| cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length));
        tiles(&cu_seqlens)
    };
    // A prefix, and sequences that go on from it.
    let branches = |prefix: u32, lengths: &[u32]| {
        let mut all = alone(&[&[prefix], lengths].concat());
        for tile in all.iter_mut().filter(|tile| tile.start >= prefix) {
            tile.prefix_length = prefix;
        }
        all
    };
    vec![
        sample("one token", alone(&[1]), [1, 1, 4], 0, 1.0),
        sample("sequences below, at and above a tile", alone(&[2, 63, 64, 65, 129]), [2, 2, 32], 0, 1.0),
        sample("a head that is no multiple of four, peaked scores", alone(&[40, 3]), [3, 3, 10], 0, 6.0),
        sample("a wide head", alone(&[70]), [1, 1, 128], 0, 2.0),
        sample("huge scores: all weight on one key", alone(&[33]), [2, 2, 64], 0, 30.0),
        sample("causal, shared heads", alone(&[1, 2, 64, 130]), [6, 2, 16], 1, 2.0),
        sample("causal, sequences that share a prefix", branches(67, &[1, 63, 65, 150]), [4, 1, 36], 1, 2.0),
        sample("a round of SmolLM2", branches(60, &[200; 4]), [9, 3, 64], 1, 1.0),
        sample("a batch of MiniLM", alone(&[64; 16]), [12, 12, 32], 0, 1.0),
    ]
}
