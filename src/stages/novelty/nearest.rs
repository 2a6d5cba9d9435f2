//! A running list of the most similar candidates, folded in block by block. Shader: `shaders/novelty/nearest.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// Stands where the list is shorter than asked for.
pub const NOBODY: u32 = u32::MAX;

/// The longest list: what fits the workgroup memory of the floor device.
pub const LONGEST: usize = 16;

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Params {
    pub queries: u32,
    /// Candidates in this block, and the index of the first of them.
    pub candidates: u32,
    pub first: u32,
    /// 1 if the similarities are floats.
    pub floats: u32,
}

/// Candidates `[start, end)` may be compared with, save those of the same owner.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Query {
    pub start: u32,
    pub end: u32,
    pub owner: u32,
}

/// Constant: the length of the list. Bindings: `similarities [queries][candidates]` (integers, or the bits of floats),
/// `queries [queries][3]` (a `Query` each), `owners [candidates]`, `best_key and best_candidate [queries][length]`.
///
/// A key is the similarity itself, or the bits of a float put in order. Order is total: higher key first, then the lower
/// candidate index.
pub static KERNEL: Kernel = Kernel {
    name: "novelty/nearest",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/novelty/nearest.wgsl")
    )),
    constants: &["NEAREST"],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    cpu: nearest,
    parity: Parity::Exact,
    samples,
};

fn nearest(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (similarities, owners) = (args.read::<i32>(0), args.read::<u32>(2));
    let queries: &[Query] = bytemuck::cast_slice(args.read::<u32>(1));
    let (best_key, best_candidate) = (args.write::<i32>(3), args.write::<u32>(4));
    let (rows, columns) = (params.queries as usize, params.candidates as usize);
    if rows == 0 {
        return;
    }
    let length = best_key.len() / rows;
    let key = |bits: i32| if params.floats == 1 { turned(bits) } else { bits };
    best_key.par_chunks_mut(length).zip(best_candidate.par_chunks_mut(length)).take(rows).enumerate().for_each(
        |(row, (best_key, best_candidate))| {
            let query = queries[row];
            let start = query.start.max(params.first);
            let end = query.end.min(params.first + params.candidates);
            for candidate in start..end {
                let column = (candidate - params.first) as usize;
                if owners[column] != query.owner {
                    insert(best_key, best_candidate, key(similarities[row * columns + column]), candidate);
                }
            }
        },
    );
}

/// The bits of a float as an integer of the same order, and back: negative floats, which grow downwards, are turned round.
pub(super) fn turned(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

/// Puts a candidate into a list, which stays in order.
fn insert(keys: &mut [i32], candidates: &mut [u32], mut key: i32, mut candidate: u32) {
    for (listed_key, listed_candidate) in keys.iter_mut().zip(candidates) {
        let comes_first = if *listed_candidate == NOBODY {
            candidate != NOBODY
        } else {
            key > *listed_key || (key == *listed_key && candidate < *listed_candidate)
        };
        if comes_first {
            std::mem::swap(listed_key, &mut key);
            std::mem::swap(listed_candidate, &mut candidate);
        }
        if candidate == NOBODY {
            return;
        }
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, queries: u32, candidates: u32, length: u32, levels: u32, floats: u32| {
        let mut noise = Noise::new(u64::from(queries * 7 + candidates));
        let first = 5;
        // Few levels make many ties. They are spread over all of the 32 bits, so that some are negative, whatever they stand for.
        let similarities = (0..queries * candidates).map(|_| noise.below(levels) * (u32::MAX / levels)).collect();
        let asked = (0..queries)
            .flat_map(|row| [row % 3, if row % 5 == 4 { 0 } else { first + noise.below(candidates + 3) }, row % 4])
            .collect();
        let owners = (0..candidates).map(|_| noise.below(4)).collect();
        // The list already holds an earlier block's candidate for every other query.
        let size = (queries * length) as usize;
        let held = |index: usize| index.is_multiple_of(2 * length as usize);
        Sample {
            about,
            constants: vec![length],
            params: bytemuck::bytes_of(&Params { queries, candidates, first, floats }).to_vec(),
            bindings: vec![
                Data::U32(similarities),
                Data::U32(asked),
                Data::U32(owners),
                Data::U32((0..size).map(|index| if held(index) { 1 << 29 } else { 0 }).collect()),
                Data::U32((0..size).map(|index| if held(index) { 1 } else { NOBODY }).collect()),
            ],
            workgroups: u64::from(queries),
            operations: u64::from(queries * candidates),
            bytes: 4 * u64::from(queries * candidates),
        }
    };
    vec![
        sample("one query, one candidate", 1, 1, 1, 8, 0),
        sample("ties everywhere: the lower index wins", 9, 200, 3, 3, 0),
        sample("ties everywhere, among floats", 9, 200, 3, 3, 1),
        sample("fewer candidates than the list is long", 5, 4, LONGEST as u32, 100, 0),
        sample("long lists of floats, the negative ones in order too", 7, 300, LONGEST as u32, 1000, 1),
        sample("beyond 65,535 workgroups", 65_600, 3, 1, 16, 0),
        sample("a block of a round", 1024, 1024, 4, 1 << 20, 0),
    ]
}
