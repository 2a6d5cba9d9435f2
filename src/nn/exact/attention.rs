//! Softmax attention in integers over packed sequences: every token attends to all tokens of its own sequence.
//! Shader: `shaders/nn/exact/attention.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::arithmetic::{Share, Step, exp2, largest, round_shift, score};
use super::row::data;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::attention::{Tile, tiles};

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
    work.into_par_iter().for_each(|(start, mixed)| {
        let projected = &projected[start * 3 * width..][..3 * mixed.len()];
        vectorised(
            #[inline(always)]
            || mix(projected, mixed, heads, width / heads),
        );
    });
}

/// One sequence, all heads.
#[inline(always)]
fn mix(projected: &[i32], mixed: &mut [i32], heads: usize, head: usize) {
    let width = heads * head;
    let length = mixed.len() / width;
    // [head][length]: many keys are multiplied by one number of a query at a time.
    let mut keys = vec![0_i32; head * length];
    let mut values = vec![0_i16; length * head];
    let mut key_steps = vec![0; length];
    let mut counts = vec![0_i32; head];
    let mut scores = vec![0_i32; length];
    let mut sums = vec![0_i32; head];
    for h in 0..heads {
        for (token, row) in projected.chunks_exact(3 * width).enumerate() {
            key_steps[token] = quantise(&row[width + h * head..][..head], &mut counts);
            for (keys, count) in keys.chunks_exact_mut(length).zip(&counts) {
                keys[token] = *count;
            }
            for (to, value) in values[token * head..].iter_mut().zip(&row[2 * width + h * head..][..head]) {
                *to = round_shift(*value, 6) as i16;
            }
        }
        for (token, row) in projected.chunks_exact(3 * width).enumerate() {
            let query_step = quantise(&row[h * head..][..head], &mut counts);
            scores.fill(0);
            for (keys, count) in keys.chunks_exact(length).zip(&counts) {
                for (sum, key) in scores.iter_mut().zip(keys) {
                    *sum += count * key;
                }
            }
            for (to, step) in scores.iter_mut().zip(&key_steps) {
                *to = score(*to, query_step, *step);
            }
            let largest = scores.iter().fold(i32::MIN, |largest, score| largest.max(*score));
            let mut total = 0;
            for score in &mut scores {
                let power = exp2(largest.wrapping_sub(*score) as u32);
                total += power;
                *score = power as i32;
            }
            let share = Share::new(total);
            sums.fill(0);
            for (power, value) in scores.iter().zip(values.chunks_exact(head)) {
                let weight = share.of(*power as u32);
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = sum.wrapping_add(weight * i32::from(*value));
                }
            }
            for (to, sum) in mixed[token * width + h * head..].iter_mut().zip(&sums) {
                *to = round_shift(*sum, 9);
            }
        }
    }
}

/// One head's numbers in steps; returns the step.
#[inline(always)]
fn quantise(numbers: &[i32], to: &mut [i32]) -> u32 {
    let step = Step::of_8(largest(numbers));
    for (to, number) in to.iter_mut().zip(numbers) {
        *to = step.count(*number);
    }
    step.size
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
