//! The stake-weighted median of what validators give each miner, and what stake gives him under it (YUMA §6 and §7.3).
//! Shader: `shaders/yuma/consensus.wgsl`.

use rayon::prelude::*;

use super::layout::{Params, Problem, pieces, share};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;
use crate::stages::yuma::consensus::{Median, Vote};

/// Bindings: problems, tiles, stakes, weights, consensus and rank `[uids]`.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/consensus",
    wgsl: wgsl!("shared/yuma_layout", "yuma/consensus"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    cpu: consensus,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn consensus(args: &mut Args<'_>) {
    let problems = args.read::<Problem>(0);
    let (stakes, weights) = (args.read::<[I32F32; 2]>(2), args.read::<u64>(3));
    let lengths = || problems.iter().map(|problem| problem.columns as usize);
    let consensus = pieces(args.write::<I32F32>(4), lengths());
    let rank = pieces(args.write::<I32F32>(5), lengths());
    problems.par_iter().zip(consensus).zip(rank).for_each(|((problem, consensus), rank)| {
        let weights = &weights[problem.first_cell as usize..][..problem.cells()];
        let stakes = &stakes[problem.first_row as usize..][..problem.rows as usize];
        let voting: Vec<I32F32> = stakes.iter().map(|&[_, vote]| vote).collect();
        let (mut votes, mut median) = (Vec::with_capacity(stakes.len()), Median::default());
        for (column, (consensus, rank)) in consensus.iter_mut().zip(rank).enumerate() {
            let given = || weights.iter().skip(column).step_by(problem.columns as usize).map(|word| share(*word));
            votes.clear();
            let positive = given().zip(&voting).zip(0..).filter(|((score, vote), _)| *score.min(vote) > I32F32::ZERO);
            votes.extend(positive.map(|((score, _), row)| Vote::new(score, row)));
            let supported: I32F32 = votes.iter().map(|vote| vote.stake(&voting)).sum();
            let zeros = (votes.len() < problem.voters as usize).then(|| problem.votes.saturating_sub(supported));
            *consensus = median.weighted(&mut votes, &voting, zeros, problem.minority);
            *rank = given().zip(stakes).map(|(weight, [stake, _])| stake.saturating_mul(weight.min(*consensus))).sum();
        }
    });
}
