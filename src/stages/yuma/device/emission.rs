//! Dividends, the shares of the pot, and everything as the chain stores it (YUMA §8.A.e, §9 and §10). Shader:
//! `shaders/yuma/emission.wgsl`.

use rayon::prelude::*;

use super::layout::{Outcome, Params, Problem, pieces};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;
use crate::stages::yuma::epoch::{Shares, shares};

/// Bindings: problems, fallback, consensus, incentive, validators (trust, earnings), outcomes `[uids]`.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/emission",
    wgsl: wgsl!("shared/reduce_wide", "shared/yuma_layout", "yuma/emission"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: emission,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn emission(args: &mut Args<'_>) {
    let problems = args.read::<Problem>(0);
    let (fallback, consensus) = (args.read::<I32F32>(1), args.read::<I32F32>(2));
    let (incentive, validators) = (args.read::<I32F32>(3), args.read::<[I32F32; 2]>(4));
    let outcomes = pieces(args.write::<Outcome>(5), problems.iter().map(|problem| problem.columns as usize));
    problems.par_iter().zip(outcomes).for_each(|(problem, outcomes)| {
        let uids = problem.first_uid as usize..(problem.first_uid + problem.columns) as usize;
        let (incentive, validators) = (&incentive[uids.clone()], &validators[uids.clone()]);
        let mut dividends: Vec<I32F32> = validators.iter().map(|[_, earnings]| *earnings).collect();
        I32F32::normalize(&mut dividends);
        let Shares { server, validator, combined } = shares(incentive, &dividends, &fallback[uids.clone()]);
        for (uid, outcome) in outcomes.iter_mut().enumerate() {
            let pair =
                |low: I32F32, high: I32F32| u32::from(low.to_proportion()) | u32::from(high.to_proportion()) << 16;
            *outcome = Outcome {
                server: server[uid].of_rao(problem.rao),
                validator: validator[uid].of_rao(problem.rao),
                combined: combined[uid].of_rao(problem.rao),
                miner: pair(consensus[uids.start + uid], incentive[uid]),
                voter: pair(dividends[uid], validators[uid][0]),
            };
        }
    });
}
