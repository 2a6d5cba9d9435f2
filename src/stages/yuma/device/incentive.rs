//! Incentive, rank over the sum of all (YUMA §7.4), and the consensus that liquid alpha compares with (§8.4). Shader:
//! `shaders/yuma/incentive.wgsl`.

use rayon::prelude::*;

use super::layout::{IN_USE, LIQUID, PREVIOUS, Params, Problem, marked, pieces};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;

/// Bindings: problems, previous, consensus, rank, incentive, references and validators (trust, earnings) `[uids]`.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/incentive",
    wgsl: wgsl!("shared/reduce_wide", "shared/yuma_layout", "yuma/incentive"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    cpu: incentive,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn incentive(args: &mut Args<'_>) {
    let problems = args.read::<Problem>(0);
    let (previous, consensus, rank) = (args.read::<u32>(1), args.read::<I32F32>(2), args.read::<I32F32>(3));
    let lengths = || problems.iter().map(|problem| problem.columns as usize);
    let incentive = pieces(args.write::<I32F32>(4), lengths());
    let references = pieces(args.write::<u64>(5), lengths());
    let validators = pieces(args.write::<[I32F32; 2]>(6), lengths());
    problems.par_iter().zip(incentive).zip(references).zip(validators).for_each(
        |(((problem, incentive), references), validators)| {
            let uids = problem.first_uid as usize..(problem.first_uid + problem.columns) as usize;
            let consensus = &consensus[uids.clone()];
            incentive.copy_from_slice(&rank[uids]);
            I32F32::normalize(incentive);
            let any = consensus.iter().any(|consensus| *consensus != I32F32::ZERO);
            let mark = if problem.flags & LIQUID != 0 && any { IN_USE } else { 0 };
            for (reference, consensus) in references.iter_mut().zip(consensus) {
                *reference = marked(*consensus) | mark;
            }
            if problem.flags & PREVIOUS != 0 {
                let previous = &previous[problem.first_previous as usize..];
                for (reference, previous) in references.iter_mut().zip(previous) {
                    *reference = marked(I32F32::from_proportion(*previous as u16)) | mark;
                }
            }
            validators.fill([I32F32::ZERO; 2]);
        },
    );
}
