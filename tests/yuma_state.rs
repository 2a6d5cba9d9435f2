//! The state file: what is refused and where the error points, what is legal, and what is written.
#![expect(clippy::expect_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

use std::path::Path;

use serde_json::{Value, json};
use tauscore::Error;
use tauscore::stages::yuma::cases::Case;
use tauscore::stages::yuma::{ActivityCutoff, Epoch, Hyperparameters, State};

fn base() -> Value {
    json!({
        "n": 3,
        "netuid": 7,
        "hotkeys": ["a", "b", "c"],
        "block": 1000,
        "rao_emission": "1000000000",
        "stake": ["600", 400, "0"],
        "validator_permit": [1, true, 0],
        "last_update": [900, "900"],
        "block_at_registration": [0, 0, 0],
        "weights": { "i": [1, 0, 1], "j": [2, 2, 0], "w": [65535, "7", 1] },
        "bonds": { "i": [0], "j": [300], "b": [1] },
    })
}

fn with(path: &str, value: Value) -> Value {
    let mut state = base();
    let (folder, key) = path.rsplit_once('/').expect("a pointer");
    let parent = state.pointer_mut(folder).and_then(Value::as_object_mut).expect("an object");
    parent.insert(key.into(), value);
    state
}

/// The field and problem that a state is refused for, as read from a file.
fn refusal(state: &Value) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.json");
    std::fs::write(&path, state.to_string()).expect("written");
    match State::read(&path) {
        Err(Error::File { file, field, problem, remedy }) => {
            assert_eq!(Path::new(&file), path, "the file is named");
            assert!(!remedy.is_empty(), "{field}: no remedy");
            (field, problem)
        }
        other => panic!("{state}: {other:?}"),
    }
}

#[test]
fn refusals_name_the_field() {
    let many: Vec<u8> = vec![0; 65_536];
    let cases = [
        ("/n", json!(65_536), "n", "65536 is above 65535"),
        ("/n", json!(4), "stake", "3 values for n = 4"),
        ("/n", json!(-1), "n", "-1 is negative"),
        ("/stake", json!([1, -5, 0]), "stake[1]", "-5 is negative"),
        ("/stake", json!([1, "-5", 0]), "stake[1]", "-5 is negative"),
        ("/stake", json!([1, 1.5, 0]), "stake[1]", "\"1.5\" is not an integer"),
        ("/stake", json!([1, "x", 0]), "stake[1]", "\"x\" is not an integer"),
        ("/stake", json!([1, "", 0]), "stake[1]", "\"\" is not an integer"),
        ("/stake", json!([1, null, 0]), "stake[1]", "null where an integer is expected"),
        ("/stake", json!([1, "18446744073709551616", 0]), "stake[1]", "18446744073709551616 does not fit 64 bits"),
        ("/stake", json!(1), "stake", "a number where an array is expected"),
        ("/stake", json!([1, 2]), "stake", "2 values for n = 3"),
        ("/validator_permit", json!([1, 2, 0]), "validator_permit[1]", "2 is neither 0 nor 1"),
        ("/validator_permit", json!([1, 0]), "validator_permit", "2 values for n = 3"),
        ("/last_update", json!([1, 2, 3, 4]), "last_update", "4 values for n = 3"),
        ("/block_at_registration", json!([1, 2, 3, 4]), "block_at_registration", "4 values for n = 3"),
        ("/tao_stake", json!([1]), "tao_stake", "1 values for n = 3"),
        ("/commit_block", json!([null]), "commit_block", "1 values for n = 3"),
        ("/weights/i", json!([1, 3, 0]), "weights.i[1]", "uid 3 is not below n = 3"),
        ("/weights/j", json!([1, 0, 9]), "weights.j[2]", "uid 9 is not below n = 3"),
        ("/weights/j", json!([1, 0]), "weights", "i, j and w hold 3, 2 and 3 values"),
        ("/weights/w", json!([1, 0, 65_536]), "weights.w[2]", "65536 is above 65535"),
        ("/weights/v", json!([]), "weights.v", "unknown key"),
        ("/bonds/i", json!([3]), "bonds.i[0]", "uid 3 is not below n = 3"),
        ("/bonds", json!({ "i": [], "j": [] }), "bonds.b", "missing"),
        ("/hotkeys", json!(["a", "b", "a"]), "hotkeys[2]", "\"a\" is already that of uid 0"),
        ("/hotkeys", json!(["a", "b"]), "hotkeys", "2 values for n = 3"),
        ("/coldkeys", json!([1, 2, 3]), "coldkeys[0]", "a number where a string is expected"),
        ("/hyper", json!({ "kapa": 1 }), "hyper.kapa", "unknown key"),
        ("/hyper", json!({ "kappa": 65_536 }), "hyper.kappa", "65536 is above 65535"),
        ("/hyper", json!({ "owner_uid": 3 }), "hyper.owner_uid", "uid 3 is not below n = 3"),
        ("/hyper", json!({ "yuma3": "yes" }), "hyper.yuma3", "\"yes\" is neither 0 nor 1"),
        (
            "/hyper",
            json!({ "liquid_alpha_consensus_mode": "now" }),
            "hyper.liquid_alpha_consensus_mode",
            "\"now\" is not a mode",
        ),
        (
            "/hyper",
            json!({ "activity_cutoff_factor_milli": 13_889, "activity_cutoff_blocks": 7 }),
            "hyper.activity_cutoff_blocks",
            "7, where activity_cutoff_factor_milli and tempo give 5000",
        ),
        ("/wieghts", json!({}), "wieghts", "unknown key"),
    ];
    for (path, value, field, problem) in cases {
        assert_eq!(refusal(&with(path, value)), (field.to_owned(), problem.to_owned()), "{path}");
    }
    let mut large = with("/stake", json!(many));
    large.as_object_mut().expect("an object").remove("n");
    assert_eq!(refusal(&large), ("n".into(), "65536 is above 65535".into()), "n from the stakes");
    let mut lacking = base();
    lacking.as_object_mut().expect("an object").remove("weights");
    assert_eq!(refusal(&lacking), ("weights".into(), "missing".into()), "a key that is required");
    assert_eq!(refusal(&json!([])).0, "state", "not an object");
}

#[test]
fn a_state_reads_with_defaults_and_writes_itself() {
    let state: State = serde_json::from_value(base()).expect("legal");
    assert_eq!(state.hyper, Hyperparameters::default(), "a newly created subnet's parameters");
    assert_eq!(state.hyper.activity_cutoff_blocks(), 5000, "13889 thousandths of 360, floored");
    assert_eq!(state.weights.row(1).collect::<Vec<_>>(), [(2, 65_535), (0, 1)], "submission order within the row");
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["state.json", "state.json.gz"] {
        let path = folder.path().join(name);
        state.write(&path).expect("written");
        let first = std::fs::read(&path).expect("a file");
        assert_eq!(State::read(&path).expect("read back"), state, "{name}");
        state.write(&path).expect("written again");
        assert_eq!(std::fs::read(&path).expect("a file"), first, "{name}: the same bytes");
    }
}

#[test]
fn a_cutoff_in_blocks_alone_is_kept() {
    let state = with("/hyper", json!({ "tempo": 99, "activity_cutoff_blocks": 7 }));
    let state: State = serde_json::from_value(state).expect("legal");
    assert_eq!(state.hyper.activity_cutoff, ActivityCutoff::Blocks(7), "blocks");
    let again: State = serde_json::from_value(serde_json::to_value(&state).expect("JSON")).expect("legal");
    assert_eq!(again, state, "read back");
}

#[test]
fn an_epoch_of_another_subnet_is_not_carried_over() {
    let mut state: State = serde_json::from_value(base()).expect("legal");
    let mut epoch = Epoch::new(&state);
    state.advance(&epoch).expect("its own");
    epoch.new_validator_permit.pop();
    assert!(matches!(state.advance(&epoch), Err(Error::Usage { .. })), "of 2 uids into 3");
}

#[test]
fn errors_name_file_line_and_epoch() {
    let folder = tempfile::tempdir().expect("a folder");
    let read = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        let cases = Case::read(&path)?;
        cases.iter().flat_map(|case| case.run(Default::default())).try_for_each(|outcome| outcome.map(drop))
    };
    let message = |result: Result<(), Error>| result.expect_err("an error").to_string();
    let bad = with("/stake", json!([1, -5, 0]));

    let vectors =
        json!({ "n": 3, "epochs": [{ "in": base() }, { "in": { "weights": { "i": [5], "j": [0], "w": [1] } } }] });
    let shown = message(read("vectors.json", vectors.to_string()));
    assert!(shown.ends_with("vectors.json: epochs[1].in.weights.i[0]: uid 5 is not below n = 3"), "{shown}");

    let lines = format!("{}\n\n{}\n", json!({ "in": base() }), json!({ "in": bad }));
    let shown = message(read("lines.jsonl", lines));
    assert!(shown.ends_with("lines.jsonl:3: in.stake[1]: -5 is negative"), "{shown}");

    let shown = message(read("state.json", bad.to_string()));
    assert!(shown.ends_with("state.json: stake[1]: -5 is negative"), "{shown}");

    for text in
        ["", "{", "[1]", "{\"epochs\": 1}", "{\"epochs\": [{}]}", "{\"epochs\": [1]}", "nul", "{} {", "\u{1f}\u{8b}"]
    {
        let shown = message(read("broken.json", text.into()));
        assert!(shown.contains("broken.json"), "{text}: {shown}");
    }
    let absent = Case::read(&folder.path().join("absent.json")).expect_err("no such file").to_string();
    assert!(absent.contains("absent.json"), "{absent}");
}
