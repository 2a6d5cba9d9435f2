//! Inputs of the epoch's kernels: batches of made-up subnets, carried by the twins to where the kernel stands.

use super::layout::Packer;
use super::{Buffers, Step};
use crate::device::{Call, Data, Device, Kernel, Noise, Sample};
use crate::fixed::I32F32;
use crate::matrix::Csr;
use crate::stages::yuma::{ActivityCutoff, ConsensusMode, Fields, Hyperparameters, State};

/// The samples of one of the kernels; none if a step fails, which it does not on the CPU.
pub(super) fn of(kernel: &'static Kernel) -> Vec<Sample> {
    let mut noise = Noise::new(2962);
    // Every batch mixes Yuma2, Yuma3 and liquid alpha.
    let mut subnets = |sizes: &[[usize; 2]], levels: u32| -> Vec<State> {
        let indexed = sizes.iter().enumerate();
        indexed.filter_map(|(index, [n, rows])| subnet(&mut noise, index, *n, *rows, levels)).collect()
    };
    let batches = [
        ("one uid", subnets(&[[1, 1]; 3], 65_536)),
        ("odd sizes, all settings", subnets(&[[3, 2], [7, 7], [33, 5], [90, 31], [2, 1], [65, 9]].repeat(9), 65_536)),
        ("beyond a workgroup", subnets(&[[131, 67], [257, 3], [129, 129]], 65_536)),
        ("ties and zeros", subnets(&[[40, 20]; 18], 3)),
        ("beyond 65,535 workgroups", subnets(&[[2, 1]; 65_600], 100)),
        ("what-ifs of 64 x 256", subnets(&[[256, 64]; 24], 65_536)),
    ];
    batches.iter().filter_map(|(about, states)| sample(kernel, about, states)).collect()
}

fn sample(kernel: &'static Kernel, about: &'static str, states: &[State]) -> Option<Sample> {
    let mut packer = Packer::default();
    for state in states {
        packer.push(state);
    }
    let device = Device::cpu();
    let buffers = Buffers::new(&device, &packer.batch).ok()?;
    for Step { kernel: next, count, workgroups, bindings } in buffers.steps() {
        let params = bytemuck::bytes_of(&count).to_vec();
        if std::ptr::eq(next, kernel) {
            let contents: Vec<Vec<u32>> = bindings.iter().filter_map(|buffer| device.download(buffer).ok()).collect();
            return Some(Sample {
                about,
                constants: vec![],
                params,
                workgroups,
                operations: packer.batch.cells as u64,
                bytes: contents.iter().map(|words| 4 * words.len() as u64).sum(),
                bindings: contents.into_iter().map(Data::U32).collect(),
            });
        }
        let bound: Vec<_> = bindings.iter().map(|buffer| buffer.all()).collect();
        device.dispatch(next, &Call { constants: &[], params: &params, bindings: &bound, workgroups }).ok()?;
    }
    None
}

/// A subnet of `n` uids of which the last `rows` are validators; settings change with `index`.
fn subnet(noise: &mut Noise, index: usize, n: usize, rows: usize, levels: u32) -> Option<State> {
    let pick = |choices: [u16; 4]| choices[(index / 3) % 4];
    let (yuma3, liquid_alpha) = (!index.is_multiple_of(3), index % 3 == 2);
    let mut matrix = |spare: usize| {
        let mut matrix = Csr::with_capacity(n, n * rows);
        for uid in 0..n {
            if uid + rows >= n {
                let mut columns: Vec<u16> = (0..(n + spare) as u16).filter(|_| n < 3 || noise.below(3) > 0).collect();
                if index.is_multiple_of(2) && columns.len() > 2 {
                    let length = columns.len();
                    for _ in 0..3 {
                        columns.swap(noise.below(length as u32) as usize, noise.below(length as u32) as usize);
                    }
                }
                for column in columns {
                    let value = noise.below(levels);
                    matrix.push(column, (if levels < 65_536 { value * (65_535 / levels) } else { value }) as u16);
                }
            }
            matrix.end_row();
        }
        matrix
    };
    let (weights, bonds) = (matrix(0), matrix(2));
    let kappa = pick([32_767, 0, 65_535, 20_000]);
    let mut stake: Vec<u64> = (0..n).map(|_| if levels < 65_536 { 1 } else { 1 + u64::from(noise.bits()) }).collect();
    if let (true, [others @ .., minority, majority]) =
        (levels < 65_536 && !index.is_multiple_of(2), stake.as_mut_slice())
    {
        // Two voters, of whom the one has exactly what a weight may miss.
        others.fill(0);
        *majority = I32F32::from_proportion(kappa).to_bits().unsigned_abs();
        *minority = (1 << 32) - *majority;
    }
    let fields = Fields {
        block: 10_000,
        last_mechanism_step_block: 9_600,
        rao_emission: u64::from(noise.bits()) << (index % 33),
        hyper: Hyperparameters {
            kappa,
            bonds_penalty: [65_535, 0, 32_768, 1, 65_534][(index / 3) % 5],
            bonds_moving_average: [900_000, 0, 1_000_000, 999_999][(index / 6) % 4],
            yuma3,
            liquid_alpha,
            alpha_sigmoid_steepness: [1000, -200, 0, 32_767][(index / 9) % 4],
            liquid_alpha_consensus_mode: if index % 4 == 1 { ConsensusMode::Current } else { ConsensusMode::Previous },
            activity_cutoff: ActivityCutoff::Blocks(5000),
            owner_uid: Some((n - 1) as u16),
            ..Hyperparameters::default()
        },
        stake,
        validator_permit: (0..n).map(|uid| uid + rows >= n).collect(),
        last_update: (0..n).map(|uid| if uid % 11 == 10 { 4000 } else { 9_900 }).collect(),
        // Some at the very block from which on weights, or bonds, do not count.
        block_at_registration: (0..n).map(|uid| [100, 9_950, 9_601, 9_900, 100][(uid % 13).min(4)]).collect(),
        weights,
        bonds,
        stored_consensus: (0..n).map(|_| noise.below(65_536) as u16).collect(),
        ..Fields::default()
    };
    State::new(fields).ok()
}
