//! Validator trust, what is left of a row under consensus (YUMA §7.2), and what its bonds earn from incentive (§8.A.e, §8.B.d and
//! e). Shader: `shaders/yuma/earnings.wgsl`.

use rayon::prelude::*;

use super::layout::{Params, Problem, Row, YUMA3, pieces, share};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;

/// Bindings: problems, rows, stakes, consensus, incentive, weights, averages, validators (trust, earnings).
pub static KERNEL: Kernel = Kernel {
    name: "yuma/earnings",
    wgsl: wgsl!("shared/reduce_wide", "shared/yuma_layout", "yuma/earnings"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
    ],
    cpu: earnings,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn earnings(args: &mut Args<'_>) {
    let (problems, rows, stakes) = (args.read::<Problem>(0), args.read::<Row>(1), args.read::<[I32F32; 2]>(2));
    let (consensus, incentive) = (args.read::<I32F32>(3), args.read::<I32F32>(4));
    let (weights, averages) = (args.read::<u64>(5), args.read::<I32F32>(6));
    let validators = pieces(args.write::<[I32F32; 2]>(7), problems.iter().map(|problem| problem.columns as usize));
    problems.par_iter().zip(validators).for_each(|(problem, validators)| {
        let columns = problem.columns as usize;
        let uids = problem.first_uid as usize..problem.first_uid as usize + columns;
        let (consensus, incentive) = (&consensus[uids.clone()], &incentive[uids]);
        for index in 0..problem.rows as usize {
            let cells =
                problem.first_cell as usize + index * columns..problem.first_cell as usize + (index + 1) * columns;
            let index = problem.first_row as usize + index;
            let left = weights[cells.clone()].iter().zip(consensus).map(|(weight, limit)| share(*weight).min(*limit));
            let earned = averages[cells].iter().zip(incentive).map(|(bond, share)| bond.saturating_mul(*share));
            let (trust, mut earnings): (I32F32, I32F32) = (left.sum(), earned.sum());
            if problem.flags & YUMA3 != 0 {
                earnings = earnings.checked_mul(stakes[index][0]).unwrap_or(I32F32::ZERO);
            }
            validators[rows[index].uid as usize] = [trust, earnings];
        }
    });
}
