//! Mechanisms: the split of the pot, and epochs together against values computed by hand.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use tauscore::Error;
use tauscore::stages::yuma::mechanism::{Aggregate, MAX_MECHANISMS, Subnet, split};
use tauscore::stages::yuma::{Epoch, State};

/// One validator and two miners; all weight of mechanism `mechid` goes to `miner`.
fn mechanism(mechid: usize, miner: u16, pot: u64) -> Value {
    json!({
        "netuid": 7, "mechid": mechid, "block": 1000, "rao_emission": pot.to_string(), "stake": [1000, 0, 0],
        "validator_permit": [1, 0, 0], "last_update": [990, 0, 0], "block_at_registration": [0, 0, 0],
        "hyper": {"activity_cutoff_blocks": 100}, "weights": {"i": [0], "j": [miner], "w": [65535]}
    })
}

fn subnet(states: &[Value], shares: Option<&[u16]>) -> Result<Subnet, Error> {
    let named = |(index, state): (usize, &Value)| {
        (format!("m{index}.json"), serde_json::from_value(state.clone()).expect("legal"))
    };
    Subnet::new(states.iter().enumerate().map(named).collect(), shares)
}

#[test]
fn a_pot_is_split_by_shares_or_evenly_and_the_first_takes_what_is_left() {
    for (pot, count, shares, parts) in [
        (25, 5, None, vec![5, 5, 5, 5, 5]),
        (10, 4, None, vec![4, 2, 2, 2]),
        (1_000_003, 2, Some(&[21_845, 43_690][..]), vec![333_335, 666_668]),
        (u64::MAX, 2, Some(&[1, 65_534]), vec![281_479_271_743_489, 18_446_462_594_437_808_126]),
        (65_534, 3, Some(&[1, 65_533, 1]), vec![2, 65_532, 0]),
        (9, 1, Some(&[65_535]), vec![9]),
        (0, 2, None, vec![0, 0]),
        // Not a list that could be set: as none.
        (9, 2, Some(&[65_535]), vec![5, 4]),
        (9, 2, Some(&[65_535, 0, 0]), vec![5, 4]),
        (9, 2, Some(&[65_535, 1]), vec![5, 4]),
        (9, 2, Some(&[1, 1]), vec![5, 4]),
        (9, 2, Some(&[]), vec![5, 4]),
        (9, 0, None, vec![]),
    ] {
        assert_eq!(split(pot, count, shares), parts, "{pot} over {count} by {shares:?}");
    }
}

#[test]
fn one_mechanism_changes_nothing() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/examples/subnet.json");
    let state = State::read(&file).expect("legal");
    let null = state.overlay(&json!({"hyper": {"epoch_consensus": "null"}})).expect("legal");
    let poor = state.overlay(&json!({"rao_emission": 0})).expect("legal");
    for state in [state, null, poor] {
        let together = Subnet::new(vec![("m0".into(), state.clone())], None).expect("a subnet").epoch();
        let epoch = Epoch::new(&state);
        let aggregate = Aggregate {
            active: epoch.active.clone(),
            stake_weight: epoch.stake_weight.clone(),
            consensus: epoch.consensus.clone(),
            dividends: epoch.dividends.clone(),
            validator_trust: epoch.validator_trust.clone(),
            new_validator_permit: epoch.new_validator_permit.clone(),
            server_emission: epoch.server_emission.clone(),
            validator_emission: epoch.validator_emission.clone(),
            emission: epoch.emission.clone(),
        };
        assert_eq!(together.aggregate, aggregate, "the epoch itself");
        assert_eq!(together.mechanisms, [epoch], "of the whole pot");
    }
}

#[test]
fn two_mechanisms_by_hand() {
    let states = [mechanism(0, 1, 1_000_003), mechanism(1, 2, 5)];
    let subnet = subnet(&states, Some(&[21_845, 43_690])).expect("a subnet");
    let pots: Vec<u64> = subnet.mechanisms().iter().map(|state| state.rao_emission).collect();
    assert_eq!(pots, [333_335, 666_668], "of the first one's pot");
    let epoch = subnet.epoch();
    assert_eq!(epoch.mechanisms[0].emission, [166_667, 166_667, 0], "half and half, floored");
    assert_eq!(epoch.mechanisms[1].emission, [333_334, 0, 333_334], "half and half");
    // acc = floor(acc + floor(x * floor(part * 2^64 / pot)) / 2^64), by integers without bounds.
    let right = Aggregate {
        active: vec![true, false, false],
        stake_weight: vec![65_534, 0, 0],
        consensus: vec![0, 21_845, 43_689],
        dividends: vec![65_534, 0, 0],
        validator_trust: vec![65_534, 0, 0],
        new_validator_permit: vec![true, false, false],
        server_emission: vec![0, 166_667, 333_334],
        validator_emission: vec![500_001, 0, 0],
        emission: vec![277_777, 55_555, 222_222],
    };
    assert_eq!(epoch.aggregate, right, "by shares");

    let mut idle = mechanism(1, 2, 5);
    idle["last_update"] = json!([0, 0, 1000]);
    let epoch = self::subnet(&[mechanism(0, 1, 1_000_003), idle], None).expect("a subnet").epoch();
    assert_eq!(epoch.aggregate.active, [true, false, true], "in any of them");
    assert_eq!(epoch.aggregate.consensus, [0, 32_767, 0], "no row counts in the second");
}

#[test]
fn without_a_pot_the_first_counts_in_full() {
    let epoch = subnet(&[mechanism(0, 1, 0), mechanism(1, 2, 9)], None).expect("a subnet").epoch();
    assert_eq!(epoch.aggregate.consensus, [0, 65_535, 0], "the first one's");
    assert_eq!(epoch.aggregate.emission, [0; 3], "of nothing");
}

#[test]
fn null_halves_are_split_apart() {
    for (pot, miners) in [(1_002, 501), (1_003, 502), (1, 1), (u64::MAX, (1 << 63))] {
        let state = |mechid| {
            let mut state = mechanism(mechid, 1, pot);
            state["hyper"] = json!({"epoch_consensus": "null"});
            state
        };
        let epoch = subnet(&[state(0), state(1), state(2), state(3)], None).expect("a subnet").epoch();
        assert_eq!(epoch.aggregate.server_emission, [0, miners, 0], "miners of {pot} over four mechanisms");
        assert_eq!(epoch.aggregate.validator_emission, [pot - miners, 0, 0], "validators of {pot}");
    }
}

#[test]
fn states_that_are_not_of_one_subnet_are_refused_by_name() {
    let changes = [
        ("mechid", json!(2), "mechid: 2, where mechanism 1 is expected"),
        ("netuid", json!(8), "netuid: 8, where mechanism 0 has 7"),
        ("block", json!(999), "block: 999, where mechanism 0 has 1000"),
        ("stake", json!([1001, 0, 0]), "stake: differs from mechanism 0's"),
        ("tao_stake", json!([1, 0, 0]), "tao_stake: differs from mechanism 0's"),
        ("validator_permit", json!([1, 1, 0]), "validator_permit: differs from mechanism 0's"),
        ("block_at_registration", json!([0, 1, 0]), "block_at_registration: differs from mechanism 0's"),
        ("hyper", json!({"epoch_consensus": "null"}), "hyper.epoch_consensus: null, where mechanism 0 has yuma"),
    ];
    for (key, value, problem) in changes {
        let mut other = mechanism(1, 2, 5);
        other[key] = value;
        let error = subnet(&[mechanism(0, 1, 5), other], None).expect_err(key);
        assert_eq!(error.to_string(), format!("m1.json: {problem}"), "{key}");
        assert!(error.remedy().is_some(), "{key}");
    }
    let mut smaller = mechanism(1, 1, 5);
    for key in ["stake", "validator_permit", "last_update", "block_at_registration"] {
        smaller[key].as_array_mut().expect("a list").pop();
    }
    let error = subnet(&[mechanism(0, 1, 5), smaller], None).expect_err("n").to_string();
    assert_eq!(error, "m1.json: n: 2, where mechanism 0 has 3", "n");
    assert!(subnet(&[], None).is_err(), "none");
    let many: Vec<Value> = (0..=MAX_MECHANISMS).map(|mechid| mechanism(mechid, 1, 5)).collect();
    assert!(subnet(&many, None).is_err() && subnet(&many[1..], None).is_err(), "too many, and not from 0");
    assert!(subnet(&many[..MAX_MECHANISMS], None).is_ok(), "as many as can be");
}

proptest! {
    #[test]
    fn parts_sum_to_the_pot(pot in any::<u64>(), count in 1_usize..17, first in any::<u16>()) {
        prop_assert_eq!(split(pot, count, None).into_iter().sum::<u64>(), pot);
        let shares = [first, u16::MAX - first];
        prop_assert_eq!(split(pot, 2, Some(&shares)).into_iter().sum::<u64>(), pot);
    }

    #[test]
    fn shares_stay_shares(pot in any::<u64>(), first in any::<u16>()) {
        let states = [mechanism(0, 1, pot), mechanism(1, 2, 0)];
        let epoch = subnet(&states, Some(&[first, u16::MAX - first])).expect("a subnet").epoch();
        prop_assert!(epoch.aggregate.dividends[0] >= 65_533, "two mechanisms lose two units at most");
        let earned = |parts: &[u64]| parts.iter().copied().map(u128::from).sum::<u128>();
        let paid = earned(&epoch.aggregate.server_emission) + earned(&epoch.aggregate.validator_emission);
        prop_assert!(paid <= u128::from(pot) && paid + 4 > u128::from(pot));
    }
}
