//! Lays validators' entries out by column, leaves out what does not count, and normalises the weights (YUMA §5 and §8.3).
//! Shader: `shaders/yuma/rows.wgsl`.

use rayon::prelude::*;

use super::layout::{PRESENT, Params, Problem, Row, marked, pieces};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;

/// Bindings: problems, rows, pool, registered, weights `[rows][columns]` of each problem, bonds (the same).
pub static KERNEL: Kernel = Kernel {
    name: "yuma/rows",
    wgsl: wgsl!("shared/reduce_wide", "shared/yuma_layout", "yuma/rows"),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    cpu: rows,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn rows(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (problems, rows) = (args.read::<Problem>(0), &args.read::<Row>(1)[..params.count as usize]);
    let (pool, registered) = (args.read::<u32>(2), args.read::<u64>(3));
    let columns = |row: &Row| problems[row.problem as usize].columns as usize;
    let weights = pieces(args.write::<u64>(4), rows.iter().map(columns));
    let bonds = pieces(args.write::<u32>(5), rows.iter().map(columns));
    rows.par_iter().zip(weights).zip(bonds).for_each(|((row, weights), bonds)| {
        let problem = &problems[row.problem as usize];
        let registered = &registered[problem.first_registered as usize..][..weights.len()];
        let entries = |start: u32, length: u32| {
            pool[start as usize..][..length as usize].iter().map(|word| ((word & 0xffff) as usize, word >> 16))
        };
        let counts = |&(column, _): &(usize, u32)| {
            (column != row.uid as usize || row.own != 0) && registered[column] < row.limit
        };
        weights.fill(0);
        bonds.fill(0);
        let submitted = entries(row.weights, row.weights_length).filter(counts);
        let sum: I32F32 = submitted.clone().map(|(_, value)| I32F32::from_u16(value as u16)).sum();
        for (column, value) in submitted {
            weights[column] = PRESENT | marked(I32F32::from_u16(value as u16).safe_div(sum));
        }
        for (column, value) in entries(row.bonds, row.bonds_length) {
            if registered.get(column).is_some_and(|registered| *registered < problem.before) {
                bonds[column] = value;
            }
        }
    });
}
