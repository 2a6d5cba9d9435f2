//! A running list of the most similar candidates, folded in block by block. Shader: `shaders/novelty/nearest.wgsl`.

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
}

/// Candidates `[start, end)` may be compared with, save those of the same owner.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Query {
    pub start: u32,
    pub end: u32,
    pub owner: u32,
}

/// Constant: the length of the list. Bindings: `similarities [queries][candidates]`, `queries [queries][3]` (a `Query` each),
/// `owners [candidates]`, `best_similarity and best_candidate [queries][length]`.
///
/// Order is total: higher similarity first, then the lower candidate index.
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
    // Comparisons and moves only.
    parity: Parity::Exact,
    samples,
};

fn nearest(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (similarities, owners) = (args.read::<f32>(0), args.read::<u32>(2));
    let queries: &[Query] = bytemuck::cast_slice(args.read::<u32>(1));
    let (best_similarity, best_candidate) = (args.write::<f32>(3), args.write::<u32>(4));
    let (rows, columns) = (params.queries as usize, params.candidates as usize);
    if rows == 0 {
        return;
    }
    let length = best_similarity.len() / rows;
    best_similarity.par_chunks_mut(length).zip(best_candidate.par_chunks_mut(length)).take(rows).enumerate().for_each(
        |(row, (best_similarity, best_candidate))| {
            let query = queries[row];
            let start = query.start.max(params.first);
            let end = query.end.min(params.first + params.candidates);
            for candidate in start..end {
                let column = (candidate - params.first) as usize;
                if owners[column] != query.owner {
                    insert(best_similarity, best_candidate, similarities[row * columns + column], candidate);
                }
            }
        },
    );
}

/// Puts a candidate into a list, which stays in order.
fn insert(similarities: &mut [f32], candidates: &mut [u32], mut similarity: f32, mut candidate: u32) {
    for (listed_similarity, listed_candidate) in similarities.iter_mut().zip(candidates) {
        let comes_first = if *listed_candidate == NOBODY {
            candidate != NOBODY
        } else {
            similarity > *listed_similarity || (similarity == *listed_similarity && candidate < *listed_candidate)
        };
        if comes_first {
            std::mem::swap(listed_similarity, &mut similarity);
            std::mem::swap(listed_candidate, &mut candidate);
        }
        if candidate == NOBODY {
            return;
        }
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, queries: u32, candidates: u32, length: u32, levels: u32| {
        let mut noise = Noise::new(u64::from(queries * 7 + candidates));
        let first = 5;
        // Few levels make many ties.
        let similarities =
            (0..queries * candidates).map(|_| noise.below(levels) as f32 / levels as f32 - 0.25).collect();
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
            params: bytemuck::bytes_of(&Params { queries, candidates, first }).to_vec(),
            bindings: vec![
                Data::F32(similarities),
                Data::U32(asked),
                Data::U32(owners),
                Data::F32((0..size).map(|index| if held(index) { 0.5 } else { 0.0 }).collect()),
                Data::U32((0..size).map(|index| if held(index) { 1 } else { NOBODY }).collect()),
            ],
            workgroups: u64::from(queries),
            operations: u64::from(queries * candidates),
            bytes: 4 * u64::from(queries * candidates),
        }
    };
    vec![
        sample("one query, one candidate", 1, 1, 1, 8),
        sample("ties everywhere: the lower index wins", 9, 200, 3, 2),
        sample("fewer candidates than the list is long", 5, 4, LONGEST as u32, 100),
        sample("beyond 65,535 workgroups", 65_600, 3, 1, 16),
        sample("a block of a round", 1024, 1024, 4, 1 << 20),
    ]
}
