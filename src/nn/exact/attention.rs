//! Softmax attention in integers over packed sequences: every token attends to all tokens of its own sequence.
//! Shader: `shaders/nn/exact/attention.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::arithmetic::{Share, Step, exp2, largest, round_shift, score};
use super::row::data;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::attention::{Tile, tiles};
use crate::nn::products::{COLUMNS, Matrix, Panel, Panels, multiply, panels};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub tiles: u32,
    pub heads: u32,
}

/// The widest head: products of queries and keys stay below 2^21.
pub const WIDEST_HEAD: usize = 128;

/// Constant: the width of a head, a multiple of four up to [`WIDEST_HEAD`]. Bindings: `projected [tokens][query | key | value][heads][head]`
/// (Q15), `tiles [tiles][5]` (a `Tile` each, in the order of their tokens and covering them, without prefixes), `mixed [tokens][heads][head]` (Q15).
pub static KERNEL: Kernel = Kernel {
    name: "nn/exact/attention",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/exact.wgsl"),
        include_str!("../../../shaders/nn/exact/attention.wgsl")
    )),
    constants: &["HEAD"],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: attention,
    parity: Parity::Exact,
    samples,
};

fn attention(args: &mut Args<'_>) {
    let params: Params = args.params();
    let projected = args.read::<i32>(0);
    let tiles: &[Tile] = bytemuck::cast_slice(args.read::<u32>(1));
    let tiles = &tiles[..params.tiles as usize];
    let mut rest = args.write::<i32>(2);
    let heads = params.heads as usize;
    // The width of a head is a constant of the shader only; here the tiles tell the tokens, and those the width.
    let tokens = tiles.last().map_or(0, |tile| (tile.start + tile.length) as usize);
    if tokens == 0 {
        return;
    }
    let width = projected.len() / tokens / 3;

    // Whole sequences: their keys and values are prepared once.
    let mut work = Vec::new();
    for tile in tiles.iter().filter(|tile| tile.first == 0) {
        let (mixed, after) = std::mem::take(&mut rest).split_at_mut(tile.length as usize * width);
        rest = after;
        work.push((tile.start as usize, mixed));
    }
    work.into_par_iter().for_each_init(Workspace::default, |workspace, (start, mixed)| {
        let projected = &projected[start * 3 * width..][..3 * mixed.len()];
        vectorised(
            #[inline(always)]
            || mix(projected, mixed, heads, width / heads, workspace),
        );
    });
}

/// Queries whose scores are held at a time.
const ROWS: usize = 48;

/// A sequence, ready to be multiplied.
#[derive(Default)]
struct Workspace {
    /// `[heads][tokens][head]`.
    queries: Vec<i16>,
    /// `[heads][tokens]`.
    query_steps: Vec<u32>,
    /// For each head a matrix with a column for each key; there are whole panels of them.
    keys: Vec<Panel<i16>>,
    /// `[heads][keys]`.
    key_steps: Vec<u32>,
    /// For each head a matrix with an input for each key.
    values: Vec<Panel<i16>>,
    /// `[ROWS][keys]`.
    scores: Vec<i32>,
    weights: Vec<i16>,
    /// `[ROWS][head]`.
    sums: Vec<i32>,
    /// A token's queries or keys, `[heads][head]`, and four tokens' values.
    row: Vec<i16>,
    four: Vec<i16>,
}

/// One sequence, all heads.
#[inline(always)]
fn mix(projected: &[i32], mixed: &mut [i32], heads: usize, head: usize, workspace: &mut Workspace) {
    let width = heads * head;
    let length = mixed.len() / width;
    let columns = panels(length) * COLUMNS;
    workspace.begin(length, columns, heads, head);
    match head {
        // A width that is known makes whole vectors of a head.
        32 => workspace.prepare::<32>(projected, length, heads, 32),
        64 => workspace.prepare::<64>(projected, length, heads, 64),
        _ => workspace.prepare::<0>(projected, length, heads, head),
    }
    let Workspace { queries, query_steps, keys, key_steps, values, scores, weights, sums, .. } = workspace;
    let depths = [columns / COLUMNS * (head / 4), panels(head) * (columns / 4)];
    for h in 0..heads {
        let keys = Panels::Halves(&keys[h * depths[0]..][..depths[0]]);
        let keys = Matrix { outputs: columns, depth: head / 4, panels: keys };
        let values = Panels::Halves(&values[h * depths[1]..][..depths[1]]);
        let values = Matrix { outputs: head, depth: columns / 4, panels: values };
        let key_steps = &key_steps[h * columns..][..columns];
        for first in (0..length).step_by(ROWS) {
            let rows = ROWS.min(length - first);
            let (scores, weights) = (&mut scores[..rows * columns], &mut weights[..rows * columns]);
            multiply(&queries[(h * length + first) * head..][..rows * head], keys, scores);
            let all = scores.chunks_exact_mut(columns).zip(weights.chunks_exact_mut(columns));
            for ((scores, weights), query_step) in all.zip(&query_steps[h * length + first..]) {
                weigh(scores, weights, *query_step, key_steps, length);
            }
            let sums = &mut sums[..rows * head];
            multiply(weights, values, sums);
            for (row, sums) in sums.chunks_exact(head).enumerate() {
                for (to, sum) in mixed[(first + row) * width + h * head..].iter_mut().zip(sums) {
                    *to = round_shift(*sum, 9);
                }
            }
        }
    }
}

impl Workspace {
    /// Makes room for a sequence of so many tokens. What lies beyond its last key is 0; what is written before it is read stays as it is.
    fn begin(&mut self, length: usize, columns: usize, heads: usize, head: usize) {
        fn zeros<T: Copy + Zeroable>(room: &mut Vec<T>, size: usize) {
            room.clear();
            room.resize(size, T::zeroed());
        }
        self.queries.resize(heads * length * head, 0);
        self.query_steps.resize(heads * length, 0);
        zeros(&mut self.keys, heads * columns / COLUMNS * (head / 4));
        zeros(&mut self.key_steps, heads * columns);
        zeros(&mut self.values, heads * panels(head) * (columns / 4));
        self.scores.resize(ROWS * columns, 0);
        self.weights.resize(ROWS * columns, 0);
        self.sums.resize(ROWS * head, 0);
        self.row.resize(heads * head, 0);
        self.four.resize(4 * heads * head, 0);
    }

    /// Brings queries, keys and values to 8, 8 and 16 bits and to their places, token by token as they lie. `HEAD` is the width of a
    /// head, or 0 where only `head` tells it.
    #[inline(always)]
    fn prepare<const HEAD: usize>(&mut self, projected: &[i32], length: usize, heads: usize, head: usize) {
        let head = if HEAD == 0 { head } else { HEAD };
        let width = heads * head;
        let columns = panels(length) * COLUMNS;
        let (of_keys, of_values) = (columns / COLUMNS * (head / 4), panels(head) * (columns / 4));
        let Self { queries, query_steps, keys, key_steps, values, row, four, .. } = self;
        for (token, projected) in projected.chunks_exact(3 * width).enumerate() {
            let (query, rest) = projected.split_at(width);
            let (key, value) = rest.split_at(width);

            count(query, head, row, |h, step| query_steps[h * length + token] = step);
            for (h, counts) in row.chunks_exact(head).enumerate() {
                queries[(h * length + token) * head..][..head].copy_from_slice(counts);
            }

            count(key, head, row, |h, step| key_steps[h * columns + token] = step);
            for (h, counts) in row.chunks_exact(head).enumerate() {
                let panels = &mut keys[h * of_keys + token / COLUMNS * (head / 4)..][..head / 4];
                for (panel, quad) in panels.iter_mut().zip(counts.as_chunks::<4>().0) {
                    panel[4 * (token % COLUMNS)..][..4].copy_from_slice(quad);
                }
            }

            // Values stand in quads of four tokens.
            let last = token + 1 == length;
            if token % 4 == 0 && token + 4 > length {
                four.fill(0);
            }
            for (to, number) in four[token % 4 * width..][..width].iter_mut().zip(value) {
                *to = round_shift(*number, 6) as i16;
            }
            if token % 4 == 3 || last {
                let [a, b, c, d] = [0, 1, 2, 3].map(|row| &four[row * width..][..width]);
                for h in 0..heads {
                    for (chunk, at) in (h * head..(h + 1) * head).step_by(COLUMNS).enumerate() {
                        let at = at..(at + COLUMNS).min((h + 1) * head);
                        let panel = &mut values[h * of_values + chunk * (columns / 4) + token / 4];
                        let numbers = a[at.clone()].iter().zip(&b[at.clone()]).zip(c[at.clone()].iter().zip(&d[at]));
                        for (quad, ((a, b), (c, d))) in panel.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                            *quad = [*a, *b, *c, *d];
                        }
                    }
                }
            }
        }
    }
}

/// Numbers of each head in steps of 8 bits; `tell` gets a head and its step.
#[inline(always)]
fn count(numbers: &[i32], head: usize, counts: &mut [i16], mut tell: impl FnMut(usize, u32)) {
    for (h, (counts, numbers)) in counts.chunks_exact_mut(head).zip(numbers.chunks_exact(head)).enumerate() {
        let step = Step::of_8(largest(numbers));
        tell(h, step.size);
        for (count, number) in counts.iter_mut().zip(numbers) {
            *count = step.count(*number) as i16;
        }
    }
}

/// Turns a query's products with all keys into the keys' weights, Q15; the first `length` keys count. `scores` is used up.
#[inline(always)]
fn weigh(scores: &mut [i32], weights: &mut [i16], query_step: u32, key_steps: &[u32], length: usize) {
    for (value, step) in scores.iter_mut().zip(key_steps) {
        *value = score(*value, query_step, *step);
    }
    let most = scores[..length].iter().fold(i32::MIN, |most, score| *score.max(&most));

    for (weight, score) in weights.iter_mut().zip(scores) {
        *weight = exp2(most.wrapping_sub(*score) as u32) as i16;
    }
    // The last panel may have columns without a key.
    weights[length..].fill(0);
    let share = Share::new(weights.iter().fold(0, |total, weight| total + u32::from(*weight as u16)));

    for weight in weights {
        *weight = share.of((*weight as u16).into()) as i16;
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, lengths: &[u32], heads: u32, head: u32, bits: u32| {
        let mut cu_seqlens = vec![0];
        for length in lengths {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
        }
        let tokens = lengths.iter().sum::<u32>() as usize;
        let width = (heads * head) as usize;
        let tiles = tiles(&cu_seqlens);
        let pairs: u64 = lengths.iter().map(|length| u64::from(*length) * u64::from(*length)).sum();
        let mut noise = Noise::new(pairs);
        let projected: Vec<i32> = (0..tokens * 3 * width)
            .map(|at| {
                // Values stay below 64, as a checked model's do.
                let bits = if at / width % 3 == 2 { bits.clamp(16, 22) } else { bits };
                (noise.bits() as i32) >> (32 - bits)
            })
            .collect();
        let params = Params { tiles: tiles.len() as u32, heads };
        Sample {
            about,
            constants: vec![head],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                data(&projected),
                Data::U32(bytemuck::cast_slice(&tiles).to_vec()),
                Data::U32(vec![7; tokens * width]),
            ],
            workgroups: u64::from(params.tiles * heads),
            operations: 4 * pairs * width as u64,
            bytes: 16 * (tokens * width) as u64,
        }
    };
    vec![
        sample("one token", &[1], 1, 4, 16),
        sample("sequences below, at and above a tile", &[2, 63, 64, 65, 129], 2, 32, 16),
        sample("the longest sequence", &[512], 1, 32, 17),
        sample("a head that is no power of two, peaked scores", &[40, 3, 70], 3, 12, 19),
        sample("heads of 64: half as many keys at a time", &[33, 70, 32], 2, 64, 16),
        sample("the widest head", &[70], 1, 128, 16),
        sample("queries and keys at their bound: scores of 2^29", &[33, 130], 2, 32, 21),
        sample("tiny numbers: many keys alike", &[100], 2, 32, 4),
        sample("a batch of MiniLM", &[64; 16], 12, 32, 16),
    ]
}
