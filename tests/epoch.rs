//! The epoch: against the chain's own recordings bit for bit, and its laws.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tauscore::stages::yuma::cases::{Case, Options};
use tauscore::stages::yuma::{Epoch, State};

/// The recordings in the repository: a selection of every family.
fn selection() -> Vec<PathBuf> {
    recordings(&Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/yuma"))
}

/// All recordings, where they lie beside the repository; loudly none where they do not.
fn shared() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors/yuma/public");
    if !folder.is_dir() {
        // Past the test harness's capture: a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: no full set of recordings at {}", folder.display());
        return Vec::new();
    }
    recordings(&folder)
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".json.gz") && !name.ends_with("ops.json.gz")
    });
    paths.sort();
    paths
}

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
    for path in paths {
        let file = std::fs::File::open(path).expect("a recording can be opened");
        let recorded: Value = serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("JSON");
        let mut inputs = json!({ "n": recorded["n"] });
        for (index, epoch) in recorded["epochs"].as_array().expect("epochs").iter().enumerate() {
            let place = format!("{} epoch {index}", recorded["name"]);
            merge(&mut inputs, epoch["in"].as_object().expect("inputs"));
            let state: State = serde_json::from_value(inputs.clone()).expect("a recording is a valid state");
            let result = Epoch::with_raw(&state);
            assert_eq!(serde_json::to_value(&result).expect("JSON"), epoch["chain"], "{place}: chain");
            same_raw(&serde_json::to_value(&result.raw).expect("JSON"), &epoch["raw"], &place);
            assert_eq!(Epoch::new(&state), Epoch { raw: None, ..result }, "{place}: keeping raw changes nothing");

            let written = serde_json::to_value(&state).expect("JSON");
            let again: State = serde_json::from_value(written).expect("what is written can be read");
            assert_eq!(again, state, "{place}: the state read back");

            let chain = &epoch["chain"];
            merge(
                &mut inputs,
                json!({
                    "validator_permit": chain["new_validator_permit"],
                    "bonds": chain["bonds"],
                    "stored_consensus": chain["consensus"],
                })
                .as_object()
                .expect("an object"),
            );
            checked += 1;
        }
    }
    checked
}

fn merge(inputs: &mut Value, changes: &Map<String, Value>) {
    for (key, value) in changes {
        inputs[key] = value.clone();
    }
}

/// The same keys and values, except that a recorded matrix may leave out its entries and keep the sums.
fn same_raw(ours: &Value, recorded: &Value, place: &str) {
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(ours), keys(recorded), "{place}: keys of raw");
    for (key, expected) in recorded.as_object().expect("an object") {
        match expected.as_object() {
            Some(matrix) => {
                assert!(matrix.contains_key("xsum"), "{place}: {key} has no sum over places");
                for (part, expected) in matrix {
                    assert_eq!(&ours[key][part], expected, "{place}: raw {key}.{part}");
                }
            }
            None => assert_eq!(&ours[key], expected, "{place}: raw {key}"),
        }
    }
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
    let paths = shared();
    let checked = chained(&paths);
    println!("{} files, {checked} epochs chained, 0 mismatching", paths.len());
}

#[test]
fn all_recordings_overlaid() {
    let paths = shared();
    let checked = overlaid(&paths);
    println!("{} files, {checked} epochs overlaid, 0 mismatching", paths.len());
}
