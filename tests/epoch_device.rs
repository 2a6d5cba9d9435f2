//! The epoch on devices: the same bits as on the host and as the chain, on the CPU twins and on every adapter.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "helpers of tests may fail, and print, as tests do")]

mod common;

use std::path::PathBuf;

use common::difference;
use common::recordings::{Recorded, all, packed, recorded, selection};
use common::subnets::{Limits, random};
use serde_json::Value;
use tauscore::device::{Call, Device, Kernel, Noise};
use tauscore::fixed::I32F32;
use tauscore::stages::yuma::device::{arithmetic, epochs};
use tauscore::stages::yuma::{Epoch, Fields, State};

/// The CPU twins, and every adapter in every variant.
fn executors() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(common::variants()).collect()
}

/// Compares with the chain and with the host, all epochs in one call.
fn equal_to_chain(paths: &[PathBuf]) -> usize {
    let cases: Vec<Recorded> = paths.iter().flat_map(|path| recorded(path)).collect();
    let states: Vec<State> = cases.iter().map(|case| case.state.clone()).collect();
    let right: Vec<Epoch> = states.iter().map(Epoch::new).collect();
    for device in executors() {
        let found = epochs(&device, &states).expect("the device does not fail");
        assert_eq!(found.len(), states.len(), "{}: an epoch for every state", device.name());
        let mut mismatching = 0;
        for ((Recorded { name, chain, .. }, right), found) in cases.iter().zip(&right).zip(&found) {
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

#[test]
fn the_selection_of_recordings_on_every_device() {
    assert!(equal_to_chain(&selection()) >= 224, "a selection of every family");
}

/// A fixed third of all recordings; all of them with `TAUSCORE_ALL_RECORDINGS=1`.
#[test]
fn a_third_of_all_recordings_on_every_device() {
    let every = if std::env::var_os("TAUSCORE_ALL_RECORDINGS").is_some() { 1 } else { 3 };
    let some: Vec<PathBuf> = all().into_iter().step_by(every).collect();
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

/// A random subnet, from one uid to more than a workgroup has.
fn subnet(noise: &mut Noise, limits: Limits) -> State {
    let n = [1, 2, 3, 5, 17, 64, 70][noise.below(7) as usize];
    random(noise, n, limits)
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
    let states: Vec<State> = (0..1500).map(|_| subnet(&mut noise, Limits::Chain)).collect();
    equal_to_host(&states);
}

#[test]
fn states_that_no_chain_holds_are_computed_too() {
    let mut noise = Noise::new(8);
    let mut states: Vec<State> = (0..300).map(|_| subnet(&mut noise, Limits::Types)).collect();
    states.push(State::new(Fields::default()).expect("an empty subnet is a subnet"));
    equal_to_host(&states);
    equal_to_host(&[]);
}

/// What-ifs: neighbours in a batch share rows, and one submission is not enough for all.
#[test]
fn what_ifs_that_share_rows_on_every_device() {
    let mut noise = Noise::new(9);
    let base = random(&mut noise, 64, Limits::Chain);
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
                _ => {
                    fields.block_at_registration.resize(n, 0);
                    fields.block_at_registration[usize::from(index) % n] = 960;
                }
            }
            State::new(fields).expect("a valid state")
        })
        .collect();
    equal_to_host(&states);
}
