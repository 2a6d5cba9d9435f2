//! What each two answers share: the weights of their common shingles. Shader: `shaders/copies/shared.wgsl`.
#![deny(clippy::float_arithmetic)]

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Params {
    pub pairs: u32,
}

/// Bindings: `starts [answers + 1]`, `shingles` (the lists of all answers end to end, each ascending), `weights` (by shingle),
/// `pairs [pairs][2]`, `sums [pairs]`. Sums are modulo 2^32.
pub static KERNEL: Kernel = Kernel {
    name: "copies/shared",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/copies/shared.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: shared,
    parity: Parity::Exact,
    samples,
};

/// Workgroups for so many pairs.
pub(super) fn workgroups(pairs: usize) -> u64 {
    pairs.div_ceil(64) as u64
}

fn shared(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (starts, shingles, weights) = (args.read::<u32>(0), args.read::<u32>(1), args.read::<u32>(2));
    let (pairs, sums) = (args.read::<[u32; 2]>(3), args.write::<u32>(4));
    let list = |answer: u32| &shingles[starts[answer as usize] as usize..starts[answer as usize + 1] as usize];
    let count = params.pairs as usize;
    sums[..count].par_iter_mut().zip(&pairs[..count]).with_min_len(256).for_each(|(sum, [left, right])| {
        *sum = common(list(*left), list(*right), weights);
    });
}

fn common(left: &[u32], right: &[u32], weights: &[u32]) -> u32 {
    let (mut at, mut other, mut sum) = (0, 0, 0_u32);
    while let (Some(a), Some(b)) = (left.get(at), right.get(other)) {
        if a == b {
            sum = sum.wrapping_add(weights[*a as usize]);
        }
        // Without a branch, which nobody could foretell.
        at += usize::from(a <= b);
        other += usize::from(b <= a);
    }
    sum
}

fn samples() -> Vec<Sample> {
    let sample = |about, lengths: &[u32], known: u32, pairs: u32| {
        let mut noise = Noise::new(u64::from(known) * 31 + u64::from(pairs));
        let (mut starts, mut shingles) = (vec![0], Vec::new());
        for length in lengths {
            let mut list: Vec<u32> = (0..*length).map(|_| noise.below(known)).collect();
            list.sort_unstable();
            list.dedup();
            shingles.extend(list);
            starts.push(shingles.len() as u32);
        }
        // An adapter cannot bind nothing.
        shingles.push(0);
        let answers = lengths.len() as u32;
        let both: Vec<u32> = (0..2 * pairs).map(|_| noise.below(answers)).collect();
        let walked: u64 = both.iter().map(|answer| u64::from(lengths[*answer as usize])).sum();
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { pairs }).to_vec(),
            bindings: vec![
                Data::U32(starts),
                Data::U32(shingles),
                Data::U32((0..known).map(|_| 1 + noise.below(4096)).collect()),
                Data::U32(both),
                Data::U32(vec![7; pairs as usize]),
            ],
            workgroups: workgroups(pairs as usize),
            operations: 2 * walked,
            bytes: 4 * walked,
        }
    };
    vec![
        sample("one pair, of an answer with itself", &[3], 9, 1),
        sample("answers without a shingle", &[0, 5, 0, 7], 8, 65),
        sample("lists of all lengths", &[1, 300, 2, 64, 0, 1000, 17], 700, 200),
        sample("beyond 65,535 workgroups", &[2, 1, 3], 3, 64 * 65_537),
        sample("the answers to one prompt", &[300; 48], 5000, 1128),
    ]
}
