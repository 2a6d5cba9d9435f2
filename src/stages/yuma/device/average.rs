//! Yuma3: old bonds moved towards the weights, each at its own rate where liquid alpha is in use, as stored, and normalised
//! (YUMA §8.B to §8.D). Shader: `shaders/yuma/average.wgsl`.

use rayon::prelude::*;

use super::bought;
use super::layout::{HIDDEN, HIDDEN_BOND, IN_USE, PRESENT, Params, Problem, SUBMITTED, YUMA3, pieces, share};
use super::purchase::column_sums;
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;
use crate::stages::yuma::liquid::LiquidAlpha;

/// Bindings: problems, tiles, consensus, references, weights, bonds, averages (columns normalised) and stored.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/average",
    wgsl: wgsl!("shared/yuma_layout", "shared/yuma_rate", "yuma/average"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    cpu: average,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn average(args: &mut Args<'_>) {
    let problems = args.read::<Problem>(0);
    let (consensus, references) = (args.read::<I32F32>(2), args.read::<u64>(3));
    let (weights, bonds) = (args.read::<u64>(4), args.read::<u32>(5));
    let averages = pieces(args.write::<I32F32>(6), problems.iter().map(Problem::cells));
    let stored = pieces(args.write::<u32>(7), problems.iter().map(Problem::cells));
    problems.par_iter().zip(averages).zip(stored).for_each(|((problem, averages), stored)| {
        if problem.flags & YUMA3 == 0 || averages.is_empty() {
            return;
        }
        let columns = problem.columns as usize;
        let uids = problem.first_uid as usize..problem.first_uid as usize + columns;
        let (consensus, references) = (&consensus[uids.clone()], &references[uids]);
        let weights = &weights[problem.first_cell as usize..][..averages.len()];
        let bonds = &bonds[problem.first_cell as usize..][..averages.len()];
        let moved = I32F32::ONE.saturating_sub(problem.kept);
        for (cell, average) in averages.iter_mut().enumerate() {
            let (limit, reference) = (consensus[cell % columns], references[cell % columns]);
            let new = bought(share(weights[cell]), limit, problem.penalty);
            let held = I32F32::from_proportion(bonds[cell] as u16);
            let mark;
            (*average, mark) = if reference & IN_USE != 0 {
                (liquid(problem, weights[cell], bonds[cell], limit, share(reference)), SUBMITTED)
            } else {
                (moved.saturating_mul(new).saturating_add(problem.kept.saturating_mul(held)), 0)
            };
            stored[cell] = if *average > I32F32::ZERO { (1 + u32::from(average.to_proportion())) | mark } else { 0 };
        }
        let sums = column_sums(averages, columns);
        for (cell, average) in averages.iter_mut().enumerate() {
            *average = average.safe_div(sums[cell % columns]);
        }
    });
}

/// A bond after the epoch under liquid alpha.
fn liquid(problem: &Problem, word: u64, bond: u32, limit: I32F32, reference: I32F32) -> I32F32 {
    let (given, held) = (share(word), I32F32::from_proportion(bond as u16));
    let weight = bought(given, limit, problem.penalty);
    // At a penalty of 1 a weight cut to nothing is no entry; in between a zero is none.
    let there = match problem.penalty {
        I32F32::ZERO => word & PRESENT != 0,
        I32F32::ONE => word & PRESENT != 0 && (given == I32F32::ZERO || limit != I32F32::ZERO),
        _ => weight != I32F32::ZERO,
    };
    if !there {
        return I32F32::ZERO;
    }
    let seen = |value: I32F32, hidden: bool| if hidden { I32F32::ZERO } else { value };
    let (weight_seen, bond_seen) = (seen(weight, word & HIDDEN != 0), seen(held, bond & HIDDEN_BOND != 0));
    let alpha = LiquidAlpha { low: problem.low, high: problem.high, slope: problem.slope };
    let rate = alpha.rate(reference, weight_seen, bond_seen);
    let kept = I32F32::ONE.saturating_sub(rate).saturating_mul(held);
    kept.saturating_add(rate.saturating_mul(weight).max(I32F32::ZERO)).min(I32F32::ONE)
}
