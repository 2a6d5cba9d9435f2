//! Yuma2: old bonds normalised, moved towards what stake buys, normalised again, and as stored (YUMA §8.A). Shader:
//! `shaders/yuma/purchase.wgsl`.

use rayon::prelude::*;

use super::bought;
use super::layout::{Params, Problem, YUMA3, pieces, share};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;

/// Bindings: problems, tiles, stakes, consensus, weights, bonds, averages (columns normalised) and stored.
pub static KERNEL: Kernel = Kernel {
    name: "yuma/purchase",
    wgsl: wgsl!("shared/yuma_layout", "yuma/purchase"),
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
    cpu: purchase,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn purchase(args: &mut Args<'_>) {
    let problems = args.read::<Problem>(0);
    let (stakes, consensus) = (args.read::<[I32F32; 2]>(2), args.read::<I32F32>(3));
    let (weights, bonds) = (args.read::<u64>(4), args.read::<u32>(5));
    let averages = pieces(args.write::<I32F32>(6), problems.iter().map(Problem::cells));
    let stored = pieces(args.write::<u32>(7), problems.iter().map(Problem::cells));
    problems.par_iter().zip(averages).zip(stored).for_each(|((problem, averages), stored)| {
        if problem.flags & YUMA3 != 0 || averages.is_empty() {
            return;
        }
        let columns = problem.columns as usize;
        let consensus = &consensus[problem.first_uid as usize..][..columns];
        let stakes = &stakes[problem.first_row as usize..][..problem.rows as usize];
        let weights = &weights[problem.first_cell as usize..][..averages.len()];
        let old: Vec<I32F32> = bonds[problem.first_cell as usize..][..averages.len()]
            .iter()
            .map(|bond| I32F32::from_u16(*bond as u16))
            .collect();
        let old_sums = column_sums(&old, columns);

        for (cell, average) in averages.iter_mut().enumerate() {
            let weight = bought(share(weights[cell]), consensus[cell % columns], problem.penalty);
            *average = weight.saturating_mul(stakes[cell / columns][0]);
        }
        let sums = column_sums(averages, columns);
        let moved = I32F32::ONE.saturating_sub(problem.kept);
        for (cell, average) in averages.iter_mut().enumerate() {
            let new = moved.saturating_mul(average.safe_div(sums[cell % columns]));
            let held = problem.kept.saturating_mul(old[cell].safe_div(old_sums[cell % columns]));
            *average = new.saturating_add(held);
            stored[cell] = u32::from(*average > I32F32::ZERO);
        }
        let sums = column_sums(averages, columns);
        let mut largest = vec![I32F32::ZERO; columns];
        for (cell, average) in averages.iter_mut().enumerate() {
            *average = average.safe_div(sums[cell % columns]);
            largest[cell % columns] = largest[cell % columns].max(*average);
        }
        for (cell, stored) in stored.iter_mut().enumerate().filter(|(_, stored)| **stored != 0) {
            *stored = 1 + u32::from(averages[cell].safe_div(largest[cell % columns]).to_proportion());
        }
    });
}

/// The sum of every column.
pub(super) fn column_sums(values: &[I32F32], columns: usize) -> Vec<I32F32> {
    let mut sums = vec![I32F32::ZERO; columns];
    for row in values.chunks_exact(columns) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum = sum.wrapping_add(*value);
        }
    }
    sums
}
