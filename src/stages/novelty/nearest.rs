//! A running list of the most similar candidates, folded in block by block. Shader: `shaders/novelty/nearest.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

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
    best_key.par_chunks_mut(length).zip(best_candidate.par_chunks_mut(length)).take(rows).enumerate().for_each(
        |(row, (best_key, best_candidate))| {
            let Query { start, end, owner } = queries[row];
            let (start, end) = (start.max(params.first), end.min(params.first + params.candidates));
            if start < end {
                let range = (start - params.first) as usize..(end - params.first) as usize;
                let similarities = &similarities[row * columns..][range.clone()];
                let block = Block { similarities, owners: &owners[range], first: start, floats: params.floats == 1 };
                vectorised(
                    #[inline(always)]
                    || block.fold(owner, best_key, best_candidate),
                );
            }
        },
    );
}

/// What one query may be compared with.
struct Block<'a> {
    similarities: &'a [i32],
    owners: &'a [u32],
    /// Index of the first candidate.
    first: u32,
    floats: bool,
}

impl Block<'_> {
    /// Candidates that are passed over together where none of them comes before the last one of the list.
    const CHUNK: usize = 64;

    #[inline(always)]
    fn fold(&self, owner: u32, best_key: &mut [i32], best_candidate: &mut [u32]) {
        let turn = if self.floats { i32::MAX } else { 0 };
        let key = |bits: &i32| bits ^ (bits >> 31 & turn);
        let last = best_key.len() - 1;
        let chunks = self.similarities.chunks(Self::CHUNK).zip(self.owners.chunks(Self::CHUNK));
        for ((similarities, owners), first) in chunks.zip((self.first..).step_by(Self::CHUNK)) {
            let largest = similarities.iter().map(key).fold(i32::MIN, i32::max);
            if !comes_first(largest, first, best_key[last], best_candidate[last]) {
                continue;
            }
            for ((similarity, its_owner), candidate) in similarities.iter().zip(owners).zip(first..) {
                if *its_owner != owner {
                    insert(best_key, best_candidate, key(similarity), candidate);
                }
            }
        }
    }
}

/// The bits of a float as an integer of the same order, and back: negative floats, which grow downwards, are turned round.
pub(super) fn turned(bits: i32) -> i32 {
    if bits < 0 { bits ^ i32::MAX } else { bits }
}

#[inline(always)]
fn comes_first(key: i32, candidate: u32, other_key: i32, other_candidate: u32) -> bool {
    if candidate == NOBODY || other_candidate == NOBODY {
        return candidate < other_candidate;
    }
    key > other_key || (key == other_key && candidate < other_candidate)
}

/// Puts a candidate into a list, which stays in order.
#[inline(always)]
fn insert(keys: &mut [i32], candidates: &mut [u32], mut key: i32, mut candidate: u32) {
    for (listed_key, listed_candidate) in keys.iter_mut().zip(candidates) {
        if comes_first(key, candidate, *listed_key, *listed_candidate) {
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
