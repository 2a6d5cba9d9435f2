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
/// (Q15), `tiles [tiles][3]` (a `Tile` each, in the order of their tokens and covering them), `mixed [tokens][heads][head]` (Q15).
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

/// Numbers that are taken at once: a register of 512 bits.
const LANES: usize = 16;

/// One head of a sequence, ready to be multiplied.
#[derive(Default)]
struct Workspace {
    /// `[tokens][head]`.
    queries: Vec<i16>,
    query_steps: Vec<u32>,
    /// A matrix with a column for each key; there are whole panels of them.
    keys: Vec<Panel<i16>>,
    key_steps: Vec<u32>,
    /// A matrix with an input for each key.
    values: Vec<Panel<i16>>,
    /// `[ROWS][keys]`.
    scores: Vec<i32>,
    weights: Vec<i16>,
    /// `[ROWS][head]`.
    sums: Vec<i32>,
}

/// One sequence, all heads.
#[inline(always)]
fn mix(projected: &[i32], mixed: &mut [i32], heads: usize, head: usize, workspace: &mut Workspace) {
    let width = heads * head;
    let length = mixed.len() / width;
    let columns = panels(length) * COLUMNS;
    workspace.begin(length, columns, head);
    let Workspace { queries, query_steps, keys, key_steps, values, scores, weights, sums } = workspace;
    for h in 0..heads {
        for (token, row) in projected.chunks_exact(3 * width).enumerate() {
            let [query, key, value] = [0, 1, 2].map(|part| &row[part * width + h * head..][..head]);
            let step = Step::of_8(largest(query));
            query_steps[token] = step.size;
            for (to, number) in queries[token * head..].iter_mut().zip(query) {
                *to = step.count(*number) as i16;
            }
            let step = Step::of_8(largest(key));
            key_steps[token] = step.size;
            let panels = &mut keys[token / COLUMNS * (head / 4)..][..head / 4];
            for (panel, quad) in panels.iter_mut().zip(key.as_chunks::<4>().0) {
                let column = &mut panel[4 * (token % COLUMNS)..][..4];
                column.copy_from_slice(&quad.map(|number| step.count(number) as i16));
            }
            for (index, numbers) in value.chunks(COLUMNS).enumerate() {
                let panel = &mut values[index * (columns / 4) + token / 4];
                for (column, number) in panel.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                    column[token % 4] = round_shift(*number, 6) as i16;
                }
            }
        }
        let keys = Matrix { outputs: columns, depth: head / 4, panels: Panels::Halves(keys) };
        let values = Matrix { outputs: head, depth: columns / 4, panels: Panels::Halves(values) };
        for first in (0..length).step_by(ROWS) {
            let rows = ROWS.min(length - first);
            let (scores, weights) = (&mut scores[..rows * columns], &mut weights[..rows * columns]);
            multiply(&queries[first * head..][..rows * head], keys, scores);
            let all = scores.chunks_exact_mut(columns).zip(weights.chunks_exact_mut(columns));
            for ((scores, weights), query_step) in all.zip(&query_steps[first..]) {
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
    /// Makes room for a sequence of so many tokens. What lies beyond its last key is 0.
    fn begin(&mut self, length: usize, columns: usize, head: usize) {
        fn zeros<T: Copy + Zeroable>(room: &mut Vec<T>, size: usize) {
            room.clear();
            room.resize(size, T::zeroed());
        }
        zeros(&mut self.queries, length * head);
        zeros(&mut self.query_steps, length);
        zeros(&mut self.keys, columns / COLUMNS * (head / 4));
        zeros(&mut self.key_steps, columns);
        zeros(&mut self.values, panels(head) * (columns / 4));
        zeros(&mut self.scores, ROWS * columns);
        zeros(&mut self.weights, ROWS * columns);
        zeros(&mut self.sums, ROWS * head);
    }
}

/// Turns a query's products with all keys into the keys' weights, Q15; the first `length` keys count. `scores` is used up.
#[inline(always)]
fn weigh(scores: &mut [i32], weights: &mut [i16], query_step: u32, key_steps: &[u32], length: usize) {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let counts = |vector: usize, lane: usize| vector * LANES + lane < length;

    let mut most = [i32::MIN; LANES];
    for (vector, (scores, steps)) in scores.iter_mut().zip(key_steps.as_chunks().0).enumerate() {
        let steps: &[u32; LANES] = steps;
        for lane in 0..LANES {
            scores[lane] = score(scores[lane], query_step, steps[lane]);
            most[lane] = most[lane].max(if counts(vector, lane) { scores[lane] } else { i32::MIN });
        }
    }
    let most = most.iter().fold(i32::MIN, |most, score| most.max(*score));

    let mut totals = [0; LANES];
    for (vector, scores) in scores.iter_mut().enumerate() {
        for lane in 0..LANES {
            let power = exp2(most.wrapping_sub(scores[lane]) as u32);
            let power = if counts(vector, lane) { power } else { 0 };
            totals[lane] += power;
            scores[lane] = power as i32;
        }
    }
    let share = Share::new(totals.iter().sum());

    for (weights, powers) in weights.as_chunks_mut::<LANES>().0.iter_mut().zip(&*scores) {
        for (weight, power) in weights.iter_mut().zip(powers) {
            *weight = share.of(*power as u32) as i16;
        }
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
