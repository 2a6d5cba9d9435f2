//! The epoch against the oracle, bit for bit, on subnets that no recording has; and the oracle against the recordings.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

mod common;
mod oracle;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::difference;
use common::recordings::{all, recorded, same_raw, selection};
use common::subnets::{Limits, later, random, row};
use tauscore::device::{Device, Noise};
use tauscore::fixed::I32F32;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::device::epochs;
use tauscore::stages::yuma::what_if::WhatIf;
use tauscore::stages::yuma::{Epoch, State};

/// How many epochs the oracle gives as the chain does, every stored number and every intermediate result.
fn reproduced(paths: &[PathBuf]) -> usize {
    let mut checked = 0;
    for recorded in paths.iter().flat_map(|path| recorded(path)) {
        let found = oracle::epoch(&recorded.state);
        assert_eq!(serde_json::to_value(&found).expect("JSON"), recorded.chain, "{}: chain", recorded.name);
        same_raw(&serde_json::to_value(&found.raw).expect("JSON"), &recorded.raw, &recorded.name);
        checked += 1;
    }
    checked
}

#[test]
fn the_oracle_gives_what_the_selected_recordings_say() {
    let checked = reproduced(&selection());
    assert!(checked >= 224, "only {checked} epochs in the selection");
}

#[test]
fn the_oracle_gives_what_all_recordings_say() {
    println!("{} epochs, 0 mismatching", reproduced(&all()));
}

/// Compares every bit, the stored order of bonds included; returns the epoch.
fn equal_to_oracle(state: &State, place: &str) -> Epoch {
    let (found, right) = (Epoch::with_raw(state), oracle::epoch(state));
    let written = || serde_json::to_string(state).expect("JSON");
    assert!(found == right, "{place}:\n{}state: {}", difference(&found, &right), written());
    assert!(Epoch::new(state) == Epoch { raw: None, ..right }, "{place}: keeping raw changes the epoch");
    found
}

/// Which parts of the epoch had something to do.
fn reached(state: &State, epoch: &Epoch) -> [(&'static str, bool); 8] {
    let raw = epoch.raw.as_ref().expect("raw was asked for");
    let any = |values: &[I32F32]| values.iter().any(|value| *value != I32F32::ZERO);
    let ascending = |row| epoch.bonds.row(row).map(|entry| entry.0).is_sorted();
    let reference = raw.consensus_for_liquid_alpha.as_ref();
    [
        ("consensus", any(&raw.consensus)),
        ("clipping", raw.clipped_weights != raw.weights_norm),
        ("dividends", any(&raw.dividends)),
        ("emission by stake alone", !any(&raw.incentive) && !any(&raw.dividends) && any(&raw.stake_norm)),
        ("liquid alpha", raw.alphas.is_some()),
        ("the previous consensus", reference.is_some_and(|reference| *reference != raw.consensus)),
        ("a penalty in between", !matches!(state.hyper.bonds_penalty, 0 | u16::MAX)),
        ("bonds out of order", !(0..state.n()).all(ascending)),
    ]
}

#[test]
fn subnets_followed_over_epochs_are_as_the_oracle_says() {
    let mut noise = Noise::new(10);
    let mut times = BTreeMap::new();
    for subnet in 0..1000 {
        let n = 1 + noise.below(40) as usize;
        let mut state = random(&mut noise, n, Limits::Chain);
        for index in 0..4 {
            let epoch = equal_to_oracle(&state, &format!("subnet {subnet} epoch {index}"));
            for (part, reached) in reached(&state, &epoch) {
                *times.entry(part).or_insert(0) += usize::from(reached);
            }
            state = later(&mut noise, &state, &epoch);
        }
    }
    println!("of 4000 epochs: {times:?}");
    // A generator that leaves a part of the epoch idle would prove nothing about it.
    assert!(times.values().all(|&times| times > 200), "of 4000 epochs: {times:?}");
}

#[test]
fn subnets_at_the_limits_of_their_types_are_as_the_oracle_says() {
    let mut noise = Noise::new(11);
    for subnet in 0..2000 {
        let n = 1 + noise.below(20) as usize;
        let state = random(&mut noise, n, Limits::Types);
        equal_to_oracle(&state, &format!("subnet {subnet}"));
    }
}

#[test]
fn the_twins_of_the_kernels_are_as_the_oracle_says() {
    let mut noise = Noise::new(12);
    for limits in [Limits::Chain, Limits::Types] {
        let states: Vec<State> = (0..300)
            .map(|_| {
                let n = 1 + noise.below(40) as usize;
                random(&mut noise, n, limits)
            })
            .collect();
        let found = epochs(&Device::cpu(), &states).expect("the twins do not fail");
        assert_eq!(found.len(), states.len(), "an epoch for every state");
        for (index, (found, state)) in found.iter().zip(&states).enumerate() {
            let right = Epoch { raw: None, ..oracle::epoch(state) };
            assert!(*found == right, "{limits:?}, state {index}:\n{}", difference(found, &right));
        }
    }
}

#[test]
fn what_if_answers_are_epochs() {
    let mut noise = Noise::new(13);
    for subnet in 0..600 {
        let limits = if noise.below(4) == 0 { Limits::Types } else { Limits::Chain };
        let n = 1 + noise.below(40);
        let base = random(&mut noise, n as usize, limits);
        let validator = noise.below(n) as u16;
        let base = if noise.below(2) == 0 { base.with_submitted(validator, &[]).expect("no weights") } else { base };
        let what_if = WhatIf::new(&base, validator).expect("a neuron of the subnet");
        for question in 0..6 {
            // Also what the row's neighbours say, so that scores meet the ends of a miner's range.
            let row = match noise.below(4) {
                0 => base.weights.row(noise.below(n) as usize).collect(),
                1 => vec![],
                _ => {
                    let sparsity = 1 + noise.below(3);
                    row(&mut noise, n, sparsity, limits)
                }
            };
            let found = what_if.epoch(&row).expect("uids below n");
            let state = base.with_row(validator, &row).expect("uids below n");
            let right = Epoch { raw: None, bonds: Csr::empty(n as usize), ..oracle::epoch(&state) };
            let place = format!("{limits:?}, subnet {subnet}, question {question}");
            assert!(found == right, "{place}:\n{}", difference(&found, &right));
        }
        assert!(what_if.epoch(&[(n as u16, 1)]).is_err(), "subnet {subnet}: a weight on nobody");
    }
}
