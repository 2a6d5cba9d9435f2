//! The chain's own epochs, as recorded: in `datasets/yuma` a selection, beside the repository all.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tauscore::stages::yuma::State;

use super::{package, skip};

/// A JSON file packed with gzip.
pub fn packed(path: &Path) -> Value {
    let file = std::fs::File::open(path).expect("the file can be opened");
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("JSON")
}

/// The recordings in the repository: a selection of every family.
pub fn selection() -> Vec<PathBuf> {
    files(&package().join("datasets/yuma"))
}

/// All recordings, where they lie beside the repository; loudly none where they do not.
pub fn all() -> Vec<PathBuf> {
    let folder = package().join("../shared/vectors/yuma/public");
    if !folder.is_dir() {
        skip(&format!("no full set of recordings at {}", folder.display()));
        return Vec::new();
    }
    files(&folder)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder can be read");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".json.gz") && !name.ends_with("ops.json.gz")
    });
    paths.sort();
    paths
}

/// One recorded epoch.
pub struct Recorded {
    /// The case and the epoch's number in it.
    pub name: String,
    /// What went in.
    pub state: State,
    /// What the chain stored.
    pub chain: Value,
    /// Every intermediate result.
    pub raw: Value,
}

/// Every epoch of a recording, its inputs carried over from the one before as recorded.
pub fn recorded(path: &Path) -> Vec<Recorded> {
    let case = packed(path);
    let mut inputs = json!({ "n": case["n"] });
    let mut epochs = Vec::new();
    for (index, epoch) in case["epochs"].as_array().expect("epochs").iter().enumerate() {
        merge(&mut inputs, epoch["in"].as_object().expect("inputs"));
        let state: State = serde_json::from_value(inputs.clone()).expect("a recording is a valid state");
        let (chain, raw) = (epoch["chain"].clone(), epoch["raw"].clone());
        let carried = json!({
            "validator_permit": chain["new_validator_permit"],
            "bonds": chain["bonds"],
            "stored_consensus": chain["consensus"],
        });
        merge(&mut inputs, carried.as_object().expect("an object"));
        epochs.push(Recorded { name: format!("{} epoch {index}", case["name"]), state, chain, raw });
    }
    epochs
}

fn merge(inputs: &mut Value, changes: &Map<String, Value>) {
    for (key, value) in changes {
        inputs[key] = value.clone();
    }
}

/// The same keys and values, except that a recorded matrix may leave out its entries and keep the sums.
pub fn same_raw(ours: &Value, recorded: &Value, place: &str) {
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
