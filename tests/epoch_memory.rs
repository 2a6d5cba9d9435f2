//! How much memory an epoch takes. The only test of its binary, so that nothing else is counted.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

mod common;

use tauscore::device::Noise;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::{Epoch, Fields, Hyperparameters, State};

const VALIDATORS: usize = 1024;
const UIDS: usize = 4096;
const LIMIT_MB: u64 = 200;

/// The most memory that this process has held so far, in MB; `None` where the system does not tell.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024 / 1_000_000)
}

/// Rows of the validators with a tenth of all columns, ascending.
fn tenth(noise: &mut Noise) -> Csr<u16> {
    let mut matrix = Csr::with_capacity(UIDS, VALIDATORS * UIDS / 9);
    for row in 0..UIDS {
        for column in 0..UIDS as u16 {
            if row < VALIDATORS && noise.below(10) == 0 {
                matrix.push(column, 1 + noise.below(65_535) as u16);
            }
        }
        matrix.end_row();
    }
    matrix
}

/// A subnet with all of its entries in use: everybody active, everything registered long ago, a majority that can be had.
fn subnet(yuma3: bool, liquid_alpha: bool) -> State {
    let mut noise = Noise::new(13);
    let hyper = Hyperparameters {
        yuma3,
        liquid_alpha,
        max_allowed_validators: VALIDATORS as u16,
        kappa: 4000,
        ..Hyperparameters::default()
    };
    State::new(Fields {
        block: 10_000,
        last_mechanism_step_block: 9640,
        rao_emission: 148_000_000_000,
        hyper,
        stake: (0..UIDS).map(|uid| if uid < VALIDATORS { 1_000_000 + uid as u64 } else { 0 }).collect(),
        validator_permit: (0..UIDS).map(|uid| uid < VALIDATORS).collect(),
        last_update: vec![9900; UIDS],
        block_at_registration: vec![0; UIDS],
        weights: tenth(&mut noise),
        bonds: tenth(&mut noise),
        ..Fields::default()
    })
    .expect("a valid state")
}

#[test]
fn an_epoch_of_a_large_subnet_takes_little_memory() {
    for (name, yuma3, liquid_alpha) in
        [("Yuma2", false, false), ("Yuma3", true, false), ("Yuma3 with liquid alpha", true, true)]
    {
        let state = subnet(yuma3, liquid_alpha);
        let epoch = Epoch::new(&state);
        assert!(epoch.bonds.len() > 350_000, "{name}: only {} bonds are left", epoch.bonds.len());
        let Some(peak) = peak_mb() else {
            common::skip("no /proc/self/status on this system, the epoch's memory was not measured");
            return;
        };
        println!("{name}: {} weights and {} bonds, a peak of {peak} MB", state.weights.len(), state.bonds.len());
        assert!(peak < LIMIT_MB, "{name}: a peak of {peak} MB, where {LIMIT_MB} are allowed");
    }
}
