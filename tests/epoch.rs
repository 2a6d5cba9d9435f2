//! The epoch: against the chain's own recordings bit for bit, and its laws.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

mod common;

use std::path::PathBuf;

use common::recordings::{all, recorded, same_raw, selection};
use tauscore::stages::yuma::cases::{Case, Options};
use tauscore::stages::yuma::{Epoch, State};

/// Each epoch computed from the one before as computed here.
fn chained(paths: &[PathBuf]) -> usize {
    let mut checked = 0;
    for path in paths {
        for case in Case::read(path).expect("a recording can be read") {
            for outcome in case.run(Options { raw: false, check: true }) {
                let outcome = outcome.expect("a recording is a valid state");
                let mismatches = outcome.mismatches.expect("a recording has results");
                assert!(mismatches.is_empty(), "{} epoch {}: {mismatches:?}", case.name, outcome.index);
                checked += 1;
            }
        }
    }
    checked
}

/// Each epoch computed from the one before as recorded, and compared here, key by key in both directions.
fn overlaid(paths: &[PathBuf]) -> usize {
    let mut checked = 0;
    for recorded in paths.iter().flat_map(|path| recorded(path)) {
        let (state, place) = (&recorded.state, &recorded.name);
        let result = Epoch::with_raw(state);
        assert_eq!(serde_json::to_value(&result).expect("JSON"), recorded.chain, "{place}: chain");
        same_raw(&serde_json::to_value(&result.raw).expect("JSON"), &recorded.raw, place);
        assert_eq!(Epoch::new(state), Epoch { raw: None, ..result }, "{place}: keeping raw changes nothing");

        let written = serde_json::to_value(state).expect("JSON");
        let again: State = serde_json::from_value(written).expect("what is written can be read");
        assert_eq!(again, *state, "{place}: the state read back");
        checked += 1;
    }
    checked
}

#[test]
fn selected_recordings_chained() {
    let checked = chained(&selection());
    assert!(checked >= 224, "only {checked} epochs in the selection");
}

#[test]
fn selected_recordings_overlaid() {
    let checked = overlaid(&selection());
    assert!(checked >= 224, "only {checked} epochs in the selection");
}

#[test]
fn all_recordings_chained() {
    let paths = all();
    let checked = chained(&paths);
    println!("{} files, {checked} epochs chained, 0 mismatching", paths.len());
}

#[test]
fn all_recordings_overlaid() {
    let paths = all();
    let checked = overlaid(&paths);
    println!("{} files, {checked} epochs overlaid, 0 mismatching", paths.len());
}
