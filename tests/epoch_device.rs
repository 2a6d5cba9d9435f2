//! The epoch on devices: the same bits as on the host and as the chain, on the CPU twins and on every adapter.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "helpers of tests may fail, and print, as tests do")]

mod common;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tauscore::device::{Call, Device, Kernel, Noise};
use tauscore::fixed::I32F32;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::device::{arithmetic, epochs};
use tauscore::stages::yuma::{ActivityCutoff, ConsensusMode, Epoch, Fields, Hyperparameters, State};

/// The CPU twins and every adapter.
fn executors() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(common::devices()).collect()
}

fn packed(path: &Path) -> Value {
    let file = std::fs::File::open(path).expect("the file can be opened");
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("JSON")
}

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| {
        let name = path.to_string_lossy();
        name.ends_with(".json.gz") && !name.ends_with("ops.json.gz")
    });
    paths.sort();
    paths
}

/// Every epoch of a recording: its name, its inputs, carried over as recorded, and what the chain stored.
fn recorded(path: &Path) -> Vec<(String, State, Value)> {
    fn merge(inputs: &mut Value, changes: &Map<String, Value>) {
        for (key, value) in changes {
            inputs[key] = value.clone();
        }
    }
    let case = packed(path);
    let mut inputs = json!({ "n": case["n"] });
    let mut epochs = Vec::new();
    for (index, epoch) in case["epochs"].as_array().expect("epochs").iter().enumerate() {
        merge(&mut inputs, epoch["in"].as_object().expect("inputs"));
        let state: State = serde_json::from_value(inputs.clone()).expect("a recording is a valid state");
        let chain = &epoch["chain"];
        epochs.push((format!("{} epoch {index}", case["name"]), state, chain.clone()));
        let carried = json!({
            "validator_permit": chain["new_validator_permit"],
            "bonds": chain["bonds"],
            "stored_consensus": chain["consensus"],
        });
        merge(&mut inputs, carried.as_object().expect("an object"));
    }
    epochs
}

/// Compares with the chain and with the host, all epochs in one call.
fn equal_to_chain(paths: &[PathBuf]) -> usize {
    let cases: Vec<_> = paths.iter().flat_map(|path| recorded(path)).collect();
    let states: Vec<State> = cases.iter().map(|(_, state, _)| state.clone()).collect();
    let right: Vec<Epoch> = states.iter().map(Epoch::new).collect();
    for device in executors() {
        let found = epochs(&device, &states).expect("the device does not fail");
        assert_eq!(found.len(), states.len(), "{}: an epoch for every state", device.name());
        let mut mismatching = 0;
        for (((name, _, chain), right), found) in cases.iter().zip(&right).zip(&found) {
            if found != right || serde_json::to_value(found).expect("JSON") != *chain {
                mismatching += 1;
                if mismatching <= 3 {
                    println!("{}: {name}: {}", device.name(), difference(found, right));
                }
            }
        }
        println!("{}: {} epochs, {mismatching} mismatching", device.name(), states.len());
        assert_eq!(mismatching, 0, "{}: of {} epochs", device.name(), states.len());
    }
    states.len()
}

fn difference(found: &Epoch, right: &Epoch) -> String {
    let [found, right] = [found, right].map(|epoch| serde_json::to_value(epoch).expect("JSON"));
    let fields = right.as_object().expect("an object").iter().filter(|(key, value)| found[key.as_str()] != **value);
    fields.map(|(key, value)| format!("{key}: {} where right is {value}\n", found[key])).collect()
}

#[test]
fn the_selection_of_recordings_on_every_device() {
    let folder = common::package().join("datasets/yuma");
    assert!(equal_to_chain(&recordings(&folder)) >= 224, "a selection of every family");
}

/// A fixed third of all recordings; all of them with `TAUSCORE_ALL_RECORDINGS=1`.
#[test]
fn a_third_of_all_recordings_on_every_device() {
    let all = std::env::var_os("TAUSCORE_ALL_RECORDINGS").is_some();
    let paths = recordings(&common::package().join("../shared/vectors/yuma/public"));
    let some: Vec<PathBuf> = paths.into_iter().step_by(if all { 1 } else { 3 }).collect();
    if some.is_empty() {
        eprintln!("SKIPPED: no full set of recordings beside the repository");
    }
    equal_to_chain(&some);
}

/// One operation on operands, on a device; see the kernel's cases for their layout.
fn operate(device: &Device, kernel: &'static Kernel, cases: &[[i64; 6]]) -> Vec<i64> {
    let uploaded = device.upload::<u64>(bytemuck::cast_slice(cases)).expect("room");
    let results = device.zeros::<u64>(cases.len()).expect("room");
    let count = (cases.len() as u32).to_ne_bytes();
    let bindings = [uploaded.all(), results.all()];
    let call =
        Call { constants: &[], params: &count, bindings: &bindings, workgroups: cases.len().div_ceil(64) as u64 };
    device.dispatch(kernel, &call).expect("the device does not fail");
    device.download(&results).expect("the device does not fail").into_iter().map(|bits| bits as i64).collect()
}

#[test]
fn recorded_operations_on_every_device() {
    fn signed(value: &Value) -> i64 {
        value.as_i64().or_else(|| value.as_str()?.parse().ok()).expect("a signed integer")
    }
    let operations = packed(&common::package().join("datasets/yuma/ops.json.gz"));
    let (mut cases, mut right) = (Vec::new(), Vec::new());
    // Operands a, b, c, slope; low and high; the operation.
    let mut push = |operands: [i64; 4], [low, high]: [i64; 2], operation: i64, result: i64| {
        let [a, b, c, slope] = operands;
        cases.push([a, b, c, slope, low | high << 32, operation]);
        right.push(result);
    };
    for (name, operation) in [("mul", 0), ("div", 1)] {
        for row in operations[name].as_array().expect("rows") {
            push([signed(&row[0]), signed(&row[1]), 0, 0], [0, 0], operation, signed(&row[2]));
        }
    }
    for row in operations["exp_safe"].as_array().expect("rows") {
        push([signed(&row[0]), 0, 0, 0], [0, 0], 2, signed(&row[1]));
    }
    for row in operations["alpha_sigmoid"].as_array().expect("rows") {
        let steepness = i16::try_from(signed(&row[5])).expect("16 bits");
        let slope = I32F32::from_i16(steepness).saturating_div(I32F32::from_i16(-100)).to_bits();
        let operands = [signed(&row[0]), signed(&row[1]), signed(&row[2]), slope];
        push(operands, [signed(&row[3]), signed(&row[4])], 10, signed(&row[6]));
    }
    assert!(cases.len() > 2400, "only {} operations", cases.len());
    for device in executors() {
        let found = operate(&device, &arithmetic::KERNEL, &cases);
        for ((case, found), right) in cases.iter().zip(found).zip(&right) {
            assert_eq!(found, *right, "{}: {case:?}", device.name());
        }
        println!("{}: {} recorded operations, 0 mismatching", device.name(), cases.len());
    }
}

/// A subnet with anything that a valid state may have; `wild` also what no chain can hold.
fn subnet(noise: &mut Noise, wild: bool) -> State {
    let n = [1, 2, 3, 5, 17, 64, 70][noise.below(7) as usize];
    let edge = |noise: &mut Noise| match noise.below(5) {
        0 => 0_u16,
        1 => u16::MAX,
        2 => 32_767,
        _ => noise.bits() as u16,
    };
    let matrix = |noise: &mut Noise, columns: u32| {
        let mut matrix = Csr::with_capacity(n, 0);
        let density = 1 + noise.below(4);
        for _ in 0..n {
            let mut row: Vec<u16> = (0..columns as u16).filter(|_| noise.below(density) == 0).collect();
            if noise.below(3) == 0 {
                row.clear();
            }
            for _ in 0..if noise.below(2) == 0 { row.len() / 2 } else { 0 } {
                let places = [noise.below(row.len() as u32), noise.below(row.len() as u32)];
                row.swap(places[0] as usize, places[1] as usize);
            }
            if wild && noise.below(8) == 0 && !row.is_empty() {
                row.push(row[0]);
            }
            for column in row {
                matrix.push(column, edge(noise));
            }
            matrix.end_row();
        }
        matrix
    };
    let weights = matrix(noise, n as u32);
    let outside = n as u32 + noise.below(4);
    let bonds = matrix(noise, outside);
    let stake_levels = [2, 5, 1 << 31][noise.below(3) as usize];
    let mode = noise.below(3);
    let large = |noise: &mut Noise| u64::from(noise.bits()) << 32 | u64::from(noise.bits());
    State::new(Fields {
        block: 1000,
        last_mechanism_step_block: [0, 950, 899][noise.below(3) as usize],
        rao_emission: large(noise) >> noise.below(64),
        hyper: Hyperparameters {
            tempo: 100,
            activity_cutoff: ActivityCutoff::Blocks([1, 50, 5000][noise.below(3) as usize]),
            max_allowed_validators: edge(noise) % 80,
            kappa: edge(noise),
            bonds_penalty: edge(noise),
            bonds_moving_average: if wild && noise.below(4) == 0 {
                large(noise)
            } else {
                noise.below(1_000_001).into()
            },
            yuma3: mode > 0,
            liquid_alpha: mode > 1,
            alpha_low: edge(noise),
            alpha_high: edge(noise),
            alpha_sigmoid_steepness: edge(noise) as i16,
            liquid_alpha_consensus_mode: [ConsensusMode::Auto, ConsensusMode::Previous, ConsensusMode::Current]
                [noise.below(3) as usize],
            stake_threshold: u64::from(noise.below(2)),
            owner_uid: (noise.below(2) == 0).then(|| noise.below(n as u32) as u16),
            ..Hyperparameters::default()
        },
        stake: (0..n)
            .map(|_| if wild && noise.below(9) == 0 { u64::MAX } else { noise.below(stake_levels).into() })
            .collect(),
        validator_permit: (0..n).map(|_| noise.below(3) > 0).collect(),
        last_update: (0..n - noise.below(2) as usize).map(|_| 900 + u64::from(noise.below(100))).collect(),
        block_at_registration: (0..n)
            .map(|_| if noise.below(3) > 0 { 0 } else { 880 + u64::from(noise.below(100)) })
            .collect(),
        weights,
        bonds,
        stored_consensus: (0..noise.below(2 * n as u32)).map(|_| edge(noise)).collect(),
        commit_block: (noise.below(2) == 0).then(|| {
            (0..n)
                .map(|_| match noise.below(3) {
                    0 => Some(850 + u64::from(noise.below(100))),
                    1 => Some(u64::MAX),
                    _ => None,
                })
                .collect()
        }),
        ..Fields::default()
    })
    .expect("a valid state")
}

fn equal_to_host(states: &[State]) {
    let right: Vec<Epoch> = states.iter().map(Epoch::new).collect();
    for device in executors() {
        let found = epochs(&device, states).expect("the device does not fail");
        for (index, (found, right)) in found.iter().zip(&right).enumerate() {
            assert!(found == right, "{}: state {index}: {}", device.name(), difference(found, right));
        }
        println!("{}: {} random epochs, 0 mismatching", device.name(), states.len());
    }
}

#[test]
fn random_batches_on_every_device() {
    let mut noise = Noise::new(7);
    let states: Vec<State> = (0..1500).map(|_| subnet(&mut noise, false)).collect();
    equal_to_host(&states);
}

#[test]
fn states_that_no_chain_holds_are_computed_too() {
    let mut noise = Noise::new(8);
    let mut states: Vec<State> = (0..300).map(|_| subnet(&mut noise, true)).collect();
    states.push(State::new(Fields::default()).expect("an empty subnet is a subnet"));
    equal_to_host(&states);
    equal_to_host(&[]);
}

/// What-ifs: neighbours in a batch share rows, and one submission is not enough for all.
#[test]
fn what_ifs_that_share_rows_on_every_device() {
    let mut noise = Noise::new(9);
    let base = subnet(&mut noise, false);
    let states: Vec<State> = (0..200_u16)
        .map(|index| {
            let mut fields = base.clone().into_fields();
            let n = fields.stake.len();
            match index % 4 {
                0 => {
                    fields.weights.set_row(
                        usize::from(index) % n,
                        &[(0, index), ((n - 1) as u16, 65_535)][..1 + usize::from(n > 1)],
                    );
                }
                1 => fields.hyper.kappa = index * 300,
                2 => fields.stake[usize::from(index) % n] += 1000,
                _ => fields.block_at_registration[usize::from(index) % n] = 960,
            }
            State::new(fields).expect("a valid state")
        })
        .collect();
    equal_to_host(&states);
}
