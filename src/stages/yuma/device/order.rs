//! Marks the entries that liquid alpha does not see, those behind one with a larger column (YUMA §8.C). Shader:
//! `shaders/yuma/order.wgsl`.

use super::layout::{HIDDEN, HIDDEN_BOND, PRESENT, Params, Problem, Row, share};
use super::samples;
use crate::device::{Access, Args, Kernel, Parity};
use crate::fixed::I32F32;

/// Bindings: problems, rows, unsorted (indices of rows), pool, registered, consensus, weights and bonds (changed in place).
pub static KERNEL: Kernel = Kernel {
    name: "yuma/order",
    wgsl: wgsl!("shared/yuma_layout", "yuma/order"),
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
    cpu: order,
    parity: Parity::Exact,
    samples: || samples::of(&KERNEL),
};

fn order(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (problems, rows, unsorted) = (args.read::<Problem>(0), args.read::<Row>(1), args.read::<u32>(2));
    let (pool, registered, consensus) = (args.read::<u32>(3), args.read::<u64>(4), args.read::<I32F32>(5));
    let (weights, bonds) = (args.write::<u64>(6), args.write::<u32>(7));
    for &index in &unsorted[..params.count as usize] {
        let row = &rows[index as usize];
        let problem = &problems[row.problem as usize];
        let columns = problem.columns as usize;
        let first = problem.first_cell as usize + (index - problem.first_row) as usize * columns;
        let (weights, bonds) = (&mut weights[first..first + columns], &mut bonds[first..first + columns]);
        let consensus = &consensus[problem.first_uid as usize..][..columns];
        let registered = &registered[problem.first_registered as usize..][..columns];
        let entries = |start: u32, length: u32| {
            pool[start as usize..][..length as usize].iter().map(|word| (word & 0xffff) as usize)
        };

        // In between the extremes of the penalty rows are sorted anyway.
        if problem.penalty == I32F32::ZERO || problem.penalty == I32F32::ONE {
            let mut next = 0;
            for column in entries(row.weights, row.weights_length) {
                let cut = problem.penalty == I32F32::ONE && consensus[column] == I32F32::ZERO;
                let dropped = cut && share(weights[column]) > I32F32::ZERO;
                if weights[column] & PRESENT == 0 || dropped {
                    continue;
                }
                if column < next {
                    weights[column] |= HIDDEN;
                }
                next = next.max(column + 1);
            }
        }
        let mut next = 0;
        for column in entries(row.bonds, row.bonds_length) {
            // Columns outside the subnet count as registered at block 0.
            if registered.get(column).copied().unwrap_or(0) >= problem.before {
                continue;
            }
            if let Some(bond) = bonds.get_mut(column).filter(|_| column < next) {
                *bond |= HIDDEN_BOND;
            }
            next = next.max(column + 1);
        }
    }
}
