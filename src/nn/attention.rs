//! Softmax attention over packed sequences: every token attends to all tokens of its own sequence, or in causal models to itself and
//! those before it. Sequences may share a prefix, which then stands in the batch once. Shader: `shaders/nn/attention.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::floats::{COLUMNS, Line, ROWS, expand, multiply};
use super::math::{exp, largest, sum};
use super::packed::Format;
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

/// One shared head of a tile. Its rows are its queries, of each all heads that it serves side by side; keys are those of the prefix,
/// then the sequence's own. Every sum runs over them in that order, so that the bits of a query depend neither on which queries
/// stand beside it nor on where its prefix lies.
#[derive(Default)]
struct Workspace {
    /// `[keys][head]`.
    keys: Vec<f32>,
    /// Keys in panels of [`COLUMNS`] of them: `[panels][head]`.
    key_panels: Vec<Line>,
    /// Values in panels of [`COLUMNS`] of their numbers: `[panels][keys]`.
    value_panels: Vec<Line>,
    /// `[rows][keys]`, whole panels of them.
    scores: Vec<f32>,
    /// `[rows][head]`: what is mixed.
    mixed: Vec<f32>,
}

impl Workspace {
    /// One tile, all heads.
    fn mix(&mut self, projected: &[f32], tile: &Tile, mixed: &mut [f32], sizes: Sizes, causal: bool, scale: f32) {
        let Sizes { heads, shared_heads, head, pitch } = sizes;
        let (width, served) = (heads * head, heads / shared_heads);
        let (start, prefix) =
            (tile.start as usize, tile.prefix_start as usize..(tile.prefix_start + tile.prefix_length) as usize);
        let (first, queries) = (tile.first as usize, mixed.len() / width);
        let own = if causal { first + queries } else { tile.length as usize };
        let seen = prefix.len() + own;
        let padded = seen.next_multiple_of(COLUMNS);
        // Keys that the queries up to that of `row` see.
        let sees = |row: usize| if causal { (prefix.len() + first + row / served + 1).min(seen) } else { seen };
        let rows = queries * served;
        self.key_panels.resize(padded / COLUMNS * head, [0.0; COLUMNS]);
        self.value_panels.resize(head.div_ceil(COLUMNS) * padded, [0.0; COLUMNS]);
        self.scores.resize(rows * padded, 0.0);
        self.mixed.resize(rows * head, 0.0);
        for shared in 0..shared_heads {
            let tokens = || prefix.clone().chain(start..start + own);
            let row = |token: usize, at: usize, size: usize| &projected[token * pitch + at..][..size];
            self.keys.clear();
            tokens().for_each(|token| self.keys.extend_from_slice(row(token, (heads + shared) * head, head)));
            let parts = bytemuck::cast_slice(&self.keys).chunks(COLUMNS * head);
            self.key_panels
                .chunks_exact_mut(head)
                .zip(parts)
                .for_each(|(panel, keys)| expand(Format::F32, keys, panel));
            for (panel, column) in self.value_panels.chunks_exact_mut(padded).zip((0..head).step_by(COLUMNS)) {
                let size = COLUMNS.min(head - column);
                for (line, token) in panel.iter_mut().zip(tokens()) {
                    let at = (heads + shared_heads + shared) * head + column;
                    line[..size].copy_from_slice(row(token, at, size));
                }
            }

            // The first of the heads that it serves.
            let at = shared * served * head;
            let query = |row: usize| &projected[(start + first + row / served) * pitch..][at + row % served * head..];
            for (index, scores) in self.scores.chunks_mut(ROWS * padded).enumerate() {
                let seen = sees(index * ROWS + ROWS - 1).next_multiple_of(COLUMNS);
                multiply(|row| query(index * ROWS + row), &self.key_panels, head, scores, padded, 0..seen);
            }
            vectorised(
                #[inline(always)]
                || {
                    for (index, scores) in self.scores.chunks_exact_mut(padded).enumerate() {
                        let (seen, beyond) = scores.split_at_mut(sees(index));
                        softmax(seen, scale);
                        beyond.fill(0.0);
                    }
                },
            );
            for (index, mixed) in self.mixed.chunks_mut(ROWS * head).enumerate() {
                let seen = sees(index * ROWS + ROWS - 1);
                let weights = |row: usize| &self.scores[(index * ROWS + row) * padded..];
                for (panel, at) in self.value_panels.chunks_exact(padded).zip((0..head).step_by(COLUMNS)) {
                    multiply(weights, &panel[..seen], seen, mixed, head, at..head.min(at + COLUMNS));
                }
            }
            for (mixed, heads) in mixed.chunks_exact_mut(width).zip(self.mixed.chunks_exact(served * head)) {
                mixed[at..][..served * head].copy_from_slice(heads);
            }
        }
    }
}

/// softmax(scale * row), in place.
#[inline(always)]
fn softmax(row: &mut [f32], scale: f32) {
    let largest = largest(row, f32::NEG_INFINITY);
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
