//! The Null epoch: the facts that the chain's tests publish, and laws that hold for every subnet.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use proptest::prelude::*;
use serde_json::{Value, json};
use tauscore::device::Device;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::device::epochs;
use tauscore::stages::yuma::null::apportion;
use tauscore::stages::yuma::what_if::WhatIf;
use tauscore::stages::yuma::{Epoch, EpochConsensus, Fields, Hyperparameters, State};

/// Four uids; the first two hold these stakes and both a permit; nobody has weights.
fn subnet(stakes: [u64; 2]) -> Fields {
    Fields {
        block: 1,
        rao_emission: 1_000_000,
        hyper: Hyperparameters { epoch_consensus: EpochConsensus::Null, ..Hyperparameters::default() },
        stake: vec![stakes[0], stakes[1], 0, 0],
        validator_permit: vec![true, true, false, false],
        last_update: vec![1; 4],
        block_at_registration: vec![0; 4],
        weights: Csr::empty(4),
        bonds: Csr::empty(4),
        ..Fields::default()
    }
}

fn weights(triples: &[(u16, u16, u16)]) -> Csr<u16> {
    Csr::from_triples(4, triples).expect("rows below 4")
}

fn epoch(fields: Fields) -> Epoch {
    Epoch::new(&State::new(fields).expect("legal"))
}

#[test]
fn the_largest_validator_pays_the_miners_and_stake_the_validators_active_or_not() {
    let fields =
        Fields { block: 9_000, weights: weights(&[(0, 2, 3), (0, 3, 1), (1, 3, 65_535)]), ..subnet([300, 100]) };
    let epoch = epoch(fields);
    assert_eq!(epoch.active, [false; 4], "nobody is active");
    assert_eq!(epoch.server_emission, [0, 0, 375_000, 125_000], "by the first one's row");
    assert_eq!(epoch.validator_emission, [375_000, 125_000, 0, 0], "by stake");
    assert_eq!(epoch.emission, [375_000, 125_000, 375_000, 125_000], "their sums");
    assert_eq!(epoch.incentive, [0, 0, 49_151, 16_383], "shares, truncated");
    assert_eq!(epoch.dividends, [49_151, 16_383, 0, 0], "shares, truncated");
    assert_eq!(epoch.new_validator_permit, [true, false, false, false], "one permit");
    assert!(epoch.raw.is_none() && epoch.consensus == [0; 4] && epoch.validator_trust == [0; 4], "no consensus");
}

#[test]
fn of_equal_stakes_the_lowest_uid_and_of_nearly_equal_ones_the_larger() {
    let rows = [(0, 2, 65_535), (1, 3, 65_535)];
    let paid = |stakes| epoch(Fields { weights: weights(&rows), ..subnet(stakes) }).server_emission;
    assert_eq!(paid([100, 100]), [0, 0, 500_000, 0], "the lowest uid");
    assert_eq!(paid([1 << 40, (1 << 40) + 1]), [0, 0, 0, 500_000], "before shares are rounded");
    let tied = epoch(subnet([100, 100]));
    assert_eq!(tied.new_validator_permit, [true, false, false, false], "so with the permit");
}

#[test]
fn an_empty_stale_or_zero_row_pays_everybody_alike() {
    let stale = Fields {
        weights: weights(&[(0, 2, 65_535), (1, 3, 65_535)]),
        block_at_registration: vec![0, 0, 2, 0],
        ..subnet([300, 100])
    };
    let empty = Fields { weights: weights(&[(1, 3, 65_535)]), ..subnet([300, 100]) };
    let zero = Fields { weights: weights(&[(0, 2, 0), (1, 3, 65_535)]), ..subnet([300, 100]) };
    let own = Fields { weights: weights(&[(0, 0, 1)]), ..subnet([300, 100]) };
    for (fields, about) in [(stale, "stale"), (empty, "empty"), (zero, "zero"), (own, "on itself")] {
        let epoch = epoch(fields);
        assert_eq!(epoch.server_emission, [125_000; 4], "{about}: no other row steps in");
        assert_eq!(epoch.validator_emission, [375_000, 125_000, 0, 0], "{about}: by stake");
    }
    let mut owners = Fields { weights: weights(&[(0, 0, 1)]), ..subnet([300, 100]) };
    owners.hyper.owner_uid = Some(0);
    assert_eq!(epoch(owners).server_emission, [500_000, 0, 0, 0], "the owner's weight on itself counts");
}

#[test]
fn without_stake_everybody_gets_the_same_and_validators_nothing() {
    let epoch = epoch(Fields { weights: weights(&[(0, 2, 1)]), ..subnet([0, 0]) });
    assert_eq!(epoch.server_emission, [250_000; 4], "the whole pot");
    assert_eq!(epoch.validator_emission, [0; 4], "no dividends");
    assert_eq!(epoch.new_validator_permit, [false; 4], "no permit");
}

#[test]
fn the_permit_follows_the_stake_and_the_owner_has_none() {
    let mut fields =
        Fields { rao_emission: 700, validator_permit: vec![true, false, false, false], ..subnet([300, 400]) };
    fields.hyper.owner_uid = Some(0);
    fields.weights = weights(&[(0, 2, 1), (1, 3, 1)]);
    let epoch = epoch(fields);
    assert_eq!(epoch.new_validator_permit, [false, true, false, false], "the largest stake");
    assert_eq!(epoch.validator_emission, [150, 200, 0, 0], "stake without a permit shares as well");
    assert_eq!(epoch.server_emission, [0, 0, 350, 0], "the row of who held the permit");
}

#[test]
fn parts_of_any_pot_sum_exactly() {
    for pot in [0, 1, 3, 131_071, u64::MAX] {
        let rows = weights(&[(0, 2, 65_534), (0, 3, 1)]);
        let epoch = epoch(Fields { rao_emission: pot, weights: rows, ..subnet([300, 100]) });
        let sum = |parts: &[u64]| parts.iter().copied().map(u128::from).sum::<u128>();
        assert_eq!(sum(&epoch.server_emission), u128::from(pot - pot / 2), "miners of {pot}");
        assert_eq!(sum(&epoch.validator_emission), u128::from(pot / 2), "validators of {pot}");
    }
}

#[test]
fn an_empty_subnet_has_an_empty_epoch() {
    let fields = Fields {
        rao_emission: 1_000_000,
        hyper: Hyperparameters { epoch_consensus: EpochConsensus::Null, ..Hyperparameters::default() },
        ..Fields::default()
    };
    assert!(epoch(fields).emission.is_empty(), "nobody");
}

#[test]
fn bonds_stay_and_a_batch_gives_the_same() {
    let mut fields = subnet([300, 100]);
    fields.bonds = Csr::from_triples(4, &[(0, 2, 12_345), (1, 3, 54_321), (3, 900, 7)]).expect("rows below 4");
    fields.weights = weights(&[(0, 2, 5), (0, 3, 7)]);
    let null = State::new(fields.clone()).expect("legal");
    fields.hyper.epoch_consensus = EpochConsensus::Yuma;
    let yuma = State::new(fields).expect("legal");
    let alone = [Epoch::new(&yuma), Epoch::new(&null), Epoch::new(&yuma)];
    assert_eq!(alone[1].bonds, null.bonds, "untouched, also of those without a permit");
    assert_ne!(alone[0].bonds, null.bonds, "unlike under Yuma");
    let batch = epochs(&Device::cpu(), &[yuma.clone(), null, yuma]).expect("the CPU does not fail");
    assert_eq!(batch, alone, "side by side with Yuma");
}

#[test]
fn what_if_answers_in_this_mode_too() {
    let state = State::new(subnet([1, 2])).expect("legal");
    let found = WhatIf::new(&state, 1).expect("a neuron").epoch(&[(0, 3)]).expect("legal");
    let right = Epoch::new(&state.with_row(1, &[(0, 3)]).expect("legal"));
    assert_eq!(found, Epoch { bonds: Csr::empty(state.n()), ..right }, "without bonds");
}

#[test]
fn the_mode_is_read_and_written_only_where_it_is_set() {
    let state = State::new(subnet([1, 2])).expect("legal");
    let written = serde_json::to_value(&state).expect("JSON");
    assert_eq!(written["hyper"]["epoch_consensus"], "null", "the string, not nothing");
    assert_eq!(serde_json::from_value::<State>(written.clone()).expect("legal"), state, "read back");
    let yuma = state.overlay(&json!({"hyper": {"epoch_consensus": "yuma"}})).expect("legal");
    let keys = serde_json::to_value(&yuma).expect("JSON");
    assert!(keys["hyper"].get("epoch_consensus").is_none(), "the default is not written");
    assert_eq!(
        yuma.overlay(&json!({"hyper": {"epoch_consensus": 1}})).expect("the chain's number"),
        state,
        "Null is 1"
    );
    for bad in [Value::Null, json!(2), json!("Null")] {
        let refused = state.overlay(&json!({"hyper": {"epoch_consensus": bad}})).expect_err("refused").to_string();
        assert!(refused.contains("hyper.epoch_consensus: ") && refused.ends_with("is not a consensus"), "{refused}");
    }
}

proptest! {
    #[test]
    fn apportionment_is_exact_fair_and_deterministic(
        amount in prop_oneof![any::<u64>(), 0_u64..100],
        shares in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>(), 0_u64..10], 0..60),
    ) {
        let parts = apportion(amount, &shares);
        let sum: u128 = shares.iter().copied().map(u128::from).sum();
        let given: u128 = parts.iter().copied().map(u128::from).sum();
        prop_assert_eq!(given, if sum == 0 { 0 } else { u128::from(amount) });
        for (place, (&part, &share)) in parts.iter().zip(&shares).enumerate() {
            let product = u128::from(amount) * u128::from(share);
            let Some(floor) = product.checked_div(sum) else { continue };
            prop_assert!([floor, floor + 1].contains(&u128::from(part)));
            // Who got one more has a remainder, and one that nobody without can beat.
            for (other, (&other_part, &other_share)) in parts.iter().zip(&shares).enumerate() {
                let other_product = u128::from(amount) * u128::from(other_share);
                if u128::from(part) > floor && u128::from(other_part) == other_product / sum {
                    prop_assert!((product % sum, other) > (other_product % sum, place));
                }
            }
        }
    }

    #[test]
    fn parts_never_exceed_the_pot(
        pot in any::<u64>(),
        stake in prop::collection::vec(prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 4),
        permit in prop::collection::vec(any::<bool>(), 4),
        rows in prop::collection::btree_map((0_u16..4, 0_u16..4), any::<u16>(), 0..12),
        registered in prop::collection::vec(0_u64..3, 4),
    ) {
        let triples: Vec<_> = rows.into_iter().map(|((i, j), weight)| (i, j, weight)).collect();
        let fields = Fields {
            rao_emission: pot,
            stake: stake.clone(),
            validator_permit: permit,
            weights: weights(&triples),
            block_at_registration: registered,
            ..subnet([0, 0])
        };
        let epoch = epoch(fields);
        let sum = |parts: &[u64]| parts.iter().copied().map(u128::from).sum::<u128>();
        let staked = stake.iter().any(|&stake| stake > 0);
        let validators = if staked { pot / 2 } else { 0 };
        prop_assert_eq!(sum(&epoch.validator_emission), u128::from(validators));
        prop_assert_eq!(sum(&epoch.server_emission), u128::from(pot - validators));
        prop_assert_eq!(sum(&epoch.emission), u128::from(pot));
        prop_assert_eq!(epoch.new_validator_permit.iter().filter(|&&permit| permit).count(), usize::from(staked));
    }
}
