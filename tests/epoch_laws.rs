//! Laws of the epoch that hold for every subnet, and that no valid state makes it fail.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use tauscore::fixed::I32F32;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::{ActivityCutoff, ConsensusMode, Epoch, EpochConsensus, Fields, Hyperparameters, State};

/// Sparse entries `(row, column, value)` with ascending rows, each column at most once a row.
fn entries(n: u16, most: usize) -> impl Strategy<Value = Vec<(u16, u16, u16)>> {
    prop::collection::btree_map((0..n, 0..n), any::<u16>(), 0..most)
        .prop_map(|entries| entries.into_iter().map(|((i, j), value)| (i, j, value)).collect())
}

/// Subnets as they occur: stakes all different, blocks around the present, rows of bonds in ascending order and rows of weights
/// ascending or as submitted.
fn subnet() -> impl Strategy<Value = Fields> {
    (1_u16..12).prop_flat_map(|n| {
        let uids = usize::from(n);
        let vectors = (
            prop::collection::hash_set(0_u64..1_000_000, uids),
            prop::collection::vec(any::<bool>(), uids),
            prop::collection::vec(900_u64..1000, uids),
            prop::collection::vec(prop_oneof![Just(0_u64), 850..1000_u64], uids),
            prop::option::of(prop::collection::vec(any::<u16>(), uids)),
            prop::option::of(prop::collection::vec(prop::option::of(850..1000_u64), uids)),
        );
        let hyper = (
            prop_oneof![Just(0_u16), Just(32_767), Just(65_535), any::<u16>()],
            prop_oneof![Just(0_u16), Just(65_535), any::<u16>()],
            0_u64..=1_000_000,
            prop_oneof![Just((false, false)), Just((true, false)), Just((true, true))],
            prop_oneof![Just(ConsensusMode::Current), Just(ConsensusMode::Previous), Just(ConsensusMode::Auto)],
            prop::option::of(0..n),
            prop_oneof![Just(5000_u64), 1..100_u64],
            0..=n,
        );
        let weights = prop_oneof![entries(n, 60), entries(n, 140), entries(n, 140).prop_shuffle()];
        (vectors, hyper, weights, entries(n, 60), any::<u64>()).prop_map(
            move |((stake, permit, update, registered, consensus, commits), hyper, weights, bonds, rao_emission)| {
                let (kappa, bonds_penalty, bonds_moving_average, bond_rule, mode, owner_uid, cutoff, permits) = hyper;
                Fields {
                    block: 1000,
                    last_mechanism_step_block: 950,
                    rao_emission,
                    hyper: Hyperparameters {
                        max_allowed_validators: permits,
                        kappa,
                        bonds_penalty,
                        bonds_moving_average,
                        yuma3: bond_rule.0,
                        liquid_alpha: bond_rule.1,
                        liquid_alpha_consensus_mode: mode,
                        owner_uid,
                        activity_cutoff: ActivityCutoff::Blocks(cutoff),
                        ..Hyperparameters::default()
                    },
                    stake: stake.into_iter().collect(),
                    validator_permit: permit,
                    last_update: update,
                    block_at_registration: registered,
                    weights: Csr::from_triples(uids, &weights).expect("rows below n"),
                    bonds: Csr::from_triples(uids, &bonds).expect("rows below n"),
                    stored_consensus: consensus.unwrap_or_default(),
                    commit_block: commits,
                    ..Fields::default()
                }
            },
        )
    })
}

/// Anything that is a valid state, at the limits of every number, rows unsorted and with repeated entries.
fn extreme() -> impl Strategy<Value = Fields> {
    let number = || prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(1 << 63), Just(1000), any::<u64>()];
    let short = || prop_oneof![Just(0), Just(1), Just(u16::MAX), any::<u16>()];
    (1_usize..7).prop_flat_map(move |n| {
        let uid = 0..n as u16;
        let column = prop_oneof![uid.clone(), any::<u16>()];
        let vectors = (
            prop::collection::vec(number(), n),
            prop::option::of(prop::collection::vec(number(), n)),
            prop::collection::vec(any::<bool>(), n),
            prop::collection::vec(number(), 0..=n),
            prop::collection::vec(number(), 0..=n),
            prop::collection::vec(short(), 0..=2 * n),
            prop::option::of(prop::collection::vec(prop::option::of(number()), n)),
        );
        let hyper = (
            [short(), short(), short(), short(), short(), short()],
            [number(), number(), number(), number()],
            (any::<(bool, bool, i16)>(), prop_oneof![3 => Just(EpochConsensus::Yuma), 1 => Just(EpochConsensus::Null)]),
            prop::option::of(uid.clone()),
            prop_oneof![Just(ConsensusMode::Current), Just(ConsensusMode::Previous), Just(ConsensusMode::Auto)],
        );
        let weights = prop::collection::vec((uid.clone(), uid.clone(), short()), 0..30);
        let bonds = prop::collection::vec((uid, column, short()), 0..30);
        (vectors, hyper, weights, bonds, [number(), number(), number()]).prop_map(
            move |(
                vectors,
                (shorts, numbers, ((yuma3, liquid_alpha, steepness), epoch_consensus), owner_uid, mode),
                weights,
                bonds,
                blocks,
            )| {
                let (
                    stake,
                    tao_stake,
                    validator_permit,
                    last_update,
                    block_at_registration,
                    stored_consensus,
                    commit_block,
                ) = vectors;
                let [tempo, max_allowed_validators, kappa, bonds_penalty, alpha_low, alpha_high] = shorts;
                let [cutoff, bonds_moving_average, stake_threshold, tao_weight] = numbers;
                let [block, last_mechanism_step_block, rao_emission] = blocks;
                Fields {
                    block,
                    last_mechanism_step_block,
                    rao_emission,
                    hyper: Hyperparameters {
                        epoch_consensus,
                        tempo,
                        activity_cutoff: ActivityCutoff::Blocks(cutoff),
                        max_allowed_validators,
                        kappa,
                        bonds_penalty,
                        bonds_moving_average,
                        yuma3,
                        liquid_alpha,
                        alpha_low,
                        alpha_high,
                        alpha_sigmoid_steepness: steepness,
                        liquid_alpha_consensus_mode: mode,
                        stake_threshold,
                        tao_weight,
                        owner_uid,
                        min_allowed_weights: owner_uid,
                        max_weights_limit: owner_uid.map(|uid| !uid),
                    },
                    stake,
                    tao_stake,
                    validator_permit,
                    last_update,
                    block_at_registration,
                    weights: Csr::from_triples(n, &weights).expect("rows below n"),
                    bonds: Csr::from_triples(n, &bonds).expect("rows below n"),
                    stored_consensus,
                    commit_block,
                    ..Fields::default()
                }
            },
        )
    })
}

fn state(fields: Fields) -> State {
    State::new(fields).expect("a valid state")
}

/// A vector with the value of uid `u` at `to[u]`.
fn moved<T: Clone + Default>(values: &[T], to: &[usize]) -> Vec<T> {
    let mut moved = vec![T::default(); values.len()];
    for (value, &place) in values.iter().zip(to) {
        moved[place] = value.clone();
    }
    moved
}

/// A matrix with rows and columns moved alike, each row in the order that it had.
fn moved_in_order(matrix: &Csr<u16>, to: &[usize]) -> Csr<u16> {
    let entries: Vec<(u16, u16, u16)> =
        matrix.entries().map(|(i, j, value)| (to[i] as u16, to[usize::from(j)] as u16, value)).collect();
    Csr::from_triples(matrix.rows(), &entries).expect("rows below n")
}

/// The same matrix with each row's columns ascending.
fn ascending(matrix: &Csr<u16>) -> Csr<u16> {
    let mut entries: Vec<(u16, u16, u16)> = matrix.entries().map(|(i, j, value)| (i as u16, j, value)).collect();
    entries.sort_unstable();
    Csr::from_triples(matrix.rows(), &entries).expect("rows below n")
}

/// The subnet in which uid `u` is called `to[u]`, rows of weights in the order that they had.
fn with_moved_uids(fields: &Fields, to: &[usize]) -> Fields {
    Fields {
        hyper: Hyperparameters {
            owner_uid: fields.hyper.owner_uid.map(|owner| to[usize::from(owner)] as u16),
            ..fields.hyper
        },
        stake: moved(&fields.stake, to),
        validator_permit: moved(&fields.validator_permit, to),
        last_update: moved(&fields.last_update, to),
        block_at_registration: moved(&fields.block_at_registration, to),
        weights: moved_in_order(&fields.weights, to),
        bonds: ascending(&moved_in_order(&fields.bonds, to)),
        stored_consensus: if fields.stored_consensus.is_empty() {
            Vec::new()
        } else {
            moved(&fields.stored_consensus, to)
        },
        commit_block: fields.commit_block.as_ref().map(|blocks| moved(blocks, to)),
        ..fields.clone()
    }
}

/// The results when uid `u` is called `to[u]`, rows of bonds ascending.
fn moved_epoch(epoch: &Epoch, to: &[usize]) -> Epoch {
    Epoch {
        active: moved(&epoch.active, to),
        stake_weight: moved(&epoch.stake_weight, to),
        consensus: moved(&epoch.consensus, to),
        incentive: moved(&epoch.incentive, to),
        dividends: moved(&epoch.dividends, to),
        validator_trust: moved(&epoch.validator_trust, to),
        new_validator_permit: moved(&epoch.new_validator_permit, to),
        server_emission: moved(&epoch.server_emission, to),
        validator_emission: moved(&epoch.validator_emission, to),
        emission: moved(&epoch.emission, to),
        bonds: ascending(&moved_in_order(&epoch.bonds, to)),
        raw: None,
    }
}

/// A subnet and new names for its uids.
fn subnet_and_names() -> impl Strategy<Value = (Fields, Vec<usize>)> {
    subnet().prop_flat_map(|fields| {
        let uids: Vec<usize> = (0..fields.stake.len()).collect();
        (Just(fields), Just(uids).prop_shuffle())
    })
}

/// Where liquid alpha reads rows of weights in the order that they were submitted in (YUMA §8.C): at a penalty in between they have
/// been sorted before.
fn order_counts(hyper: &Hyperparameters) -> bool {
    hyper.yuma3 && hyper.liquid_alpha && matches!(hyper.bonds_penalty, 0 | u16::MAX)
}

/// Every absent weight as an explicit zero: where rows ascend so that they still do, otherwise behind what was submitted.
fn with_zeros(weights: &Csr<u16>) -> Csr<u16> {
    let n = weights.rows() as u16;
    let mut dense = Csr::with_capacity(weights.rows(), 0);
    for row in 0..weights.rows() {
        let mut entries: Vec<(u16, u16)> = weights.row(row).collect();
        let sorted = entries.is_sorted();
        entries.extend((0..n).filter(|&uid| weights.row(row).all(|entry| entry.0 != uid)).map(|uid| (uid, 0)));
        if sorted {
            entries.sort_unstable();
        }
        for (column, value) in entries {
            dense.push(column, value);
        }
        dense.end_row();
    }
    dense
}

/// The entries of one row as a map.
fn by_column(matrix: &Csr<I32F32>, row: usize) -> BTreeMap<u16, I32F32> {
    matrix.row(row).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_valid_state_fails(fields in extreme()) {
        let mut state = state(fields);
        for _ in 0..3 {
            let epoch = Epoch::with_raw(&state);
            prop_assert_eq!(&Epoch::new(&state), &Epoch { raw: None, ..epoch.clone() });
            state.advance(&epoch).expect("the same subnet");
        }
        let written = serde_json::to_string(&state).expect("JSON");
        let again: State = serde_json::from_str(&written).expect("what is written can be read");
        prop_assert_eq!(&again, &state);
        prop_assert_eq!(serde_json::to_string(&again).expect("JSON"), written);
    }

    #[test]
    fn nothing_is_paid_beyond_the_pot(fields in subnet()) {
        let epoch = Epoch::new(&state(fields.clone()));
        let sum = |values: &[u64]| values.iter().map(|&value| u128::from(value)).sum::<u128>();
        let pot = u128::from(fields.rao_emission);
        prop_assert!(sum(&epoch.server_emission) + sum(&epoch.validator_emission) <= pot);
        prop_assert!(sum(&epoch.emission) <= pot);
        for shares in [&epoch.stake_weight, &epoch.incentive, &epoch.dividends] {
            prop_assert!(shares.iter().map(|&share| u64::from(share)).sum::<u64>() <= 65_535);
        }
    }

    /// Each share is floored to 32 fraction bits, and then its rao: one unit of each is lost for every uid, and no more.
    #[test]
    fn what_is_not_paid_is_dust(fields in subnet()) {
        let epoch = Epoch::new(&state(fields.clone()));
        let staked = fields.stake.iter().any(|&stake| stake > 0);
        let pot = fields.rao_emission;
        let unit = u128::from(pot >> 32) + 1;
        let paid: u128 = epoch.emission.iter().map(|&rao| u128::from(rao)).sum();
        let dust = fields.stake.len() as u128 * (unit + 1);
        prop_assert!(if staked { paid + dust >= u128::from(pot) } else { paid == 0 }, "{} of {}", paid, pot);
        // What a uid earns in all is floored once, its two parts are each.
        for ((both, server), validator) in epoch.emission.iter().zip(&epoch.server_emission).zip(&epoch.validator_emission) {
            let parts = u128::from(*server) + u128::from(*validator);
            prop_assert!(parts <= u128::from(*both) && u128::from(*both) <= parts + unit + 1, "{} and {}", both, parts);
        }
    }

    #[test]
    fn no_weight_is_above_consensus(fields in subnet()) {
        let raw = *Epoch::with_raw(&state(fields)).raw.expect("raw was asked for");
        for (row, column, weight) in raw.clipped_weights.entries() {
            prop_assert!(weight <= raw.consensus[usize::from(column)], "row {} column {}", row, column);
            prop_assert!(weight >= I32F32::ZERO);
        }
        for trust in raw.validator_trust {
            prop_assert!(trust <= I32F32::ONE);
        }
    }

    /// Whole rao, and TAO weighted in 32 fraction bits, are exact in the 64 that stake is divided in: nothing is rounded before the
    /// quotient, so any whole factor cancels to the last bit, in the threshold too.
    #[test]
    fn stake_times_a_whole_number_changes_nothing(
        (fields, threshold) in (subnet(), 0_u64..500_000),
        with_tao in any::<bool>(),
        factor in 1_u64..1_000_000,
    ) {
        let scaled = |factor: u64| {
            let stake: Vec<u64> = fields.stake.iter().map(|stake| stake * factor).collect();
            Fields {
                hyper: Hyperparameters { stake_threshold: threshold * factor, ..fields.hyper },
                tao_stake: with_tao.then(|| stake.iter().rev().copied().collect()),
                stake,
                ..fields.clone()
            }
        };
        prop_assert_eq!(Epoch::with_raw(&state(scaled(1))), Epoch::with_raw(&state(scaled(factor))));
    }

    /// A factor that is no whole number leaves less than one rao of each stake out: shares of a whole of S rao then move by less than
    /// n rao of S, and the last bit.
    #[test]
    fn stake_times_a_fraction_moves_shares_by_what_is_floored(
        fields in subnet(),
        numerator in 1_u64..1000,
        denominator in 1_u64..1000,
    ) {
        let scaled: Vec<u64> = fields.stake.iter().map(|stake| stake * numerator / denominator).collect();
        let (n, whole) = (scaled.len() as u64, scaled.iter().sum::<u64>());
        prop_assume!(whole > 0);
        let shares = |stake: Vec<u64>| {
            let state = state(Fields { stake, ..fields.clone() });
            Epoch::with_raw(&state).raw.expect("raw was asked for").stake_norm
        };
        let allowed = (n << 32).div_ceil(whole) + 1;
        for (before, after) in shares(fields.stake.clone()).iter().zip(&shares(scaled)) {
            let moved = before.to_bits().abs_diff(after.to_bits());
            prop_assert!(moved <= allowed, "{} bits, where {} are allowed", moved, allowed);
        }
    }

    /// With rows sorted anew names mean nothing. Stakes are all different, so that no tie falls to the higher uid.
    #[test]
    fn moved_uids_move_the_results((fields, to) in subnet_and_names()) {
        let fields = Fields { weights: ascending(&fields.weights), ..fields };
        let other = with_moved_uids(&fields, &to);
        let other = Fields { weights: ascending(&other.weights), ..other };
        let expected = moved_epoch(&Epoch::new(&state(fields)), &to);
        let mut found = Epoch::new(&state(other));
        found.bonds = ascending(&found.bonds);
        prop_assert_eq!(found, expected);
    }

    /// With rows in the order of submission too, except that liquid alpha reads that order: then all that is settled before bonds
    /// still only moves.
    #[test]
    fn moved_uids_move_the_results_of_rows_as_submitted((fields, to) in subnet_and_names()) {
        let other = with_moved_uids(&fields, &to);
        let expected = moved_epoch(&Epoch::new(&state(fields.clone())), &to);
        let mut found = Epoch::new(&state(other));
        found.bonds = ascending(&found.bonds);
        if order_counts(&fields.hyper) {
            found = Epoch {
                dividends: expected.dividends.clone(),
                server_emission: expected.server_emission.clone(),
                validator_emission: expected.validator_emission.clone(),
                emission: expected.emission.clone(),
                bonds: expected.bonds.clone(),
                ..found
            };
        }
        prop_assert_eq!(found, expected);
    }

    /// Without liquid alpha the order of submission means nothing either, nor under it at a penalty in between.
    #[test]
    fn the_order_of_submission_means_nothing_without_liquid_alpha(fields in subnet()) {
        prop_assume!(!order_counts(&fields.hyper));
        let sorted = Fields { weights: ascending(&fields.weights), ..fields.clone() };
        prop_assert_eq!(Epoch::new(&state(fields)), Epoch::new(&state(sorted)));
    }

    /// An explicit zero means what an absent weight does: to Yuma2 and Yuma3 always, and under liquid alpha where the penalty is in
    /// between, which leaves all zeros out.
    #[test]
    fn a_zero_means_nothing_without_liquid_alpha(fields in subnet()) {
        prop_assume!(!order_counts(&fields.hyper));
        let dense = Fields { weights: with_zeros(&fields.weights), ..fields.clone() };
        prop_assert_eq!(Epoch::new(&state(dense)), Epoch::new(&state(fields)));
    }

    /// Under liquid alpha at a penalty of 0 or 1 an explicit zero keeps a bond, which decays at its own rate, where an absent weight
    /// ends it (YUMA §8.D). That is all it does: consensus, incentive, trust, rates and all other bonds are the same, and without
    /// a bond to keep so is everything.
    #[test]
    fn a_zero_keeps_a_bond_under_liquid_alpha(
        fields in subnet(),
        bonds_penalty in prop_oneof![Just(0), Just(u16::MAX)],
        without_bonds in any::<bool>(),
    ) {
        let mut fields = Fields {
            hyper: Hyperparameters { yuma3: true, liquid_alpha: true, bonds_penalty, ..fields.hyper },
            ..fields
        };
        if without_bonds {
            let weighed = |i: usize, j: u16| fields.weights.row(i).any(|entry| entry.0 == j);
            let kept: Vec<_> =
                fields.bonds.entries().filter(|&(i, j, _)| weighed(i, j)).map(|(i, j, bond)| (i as u16, j, bond)).collect();
            fields.bonds = Csr::from_triples(fields.bonds.rows(), &kept).expect("rows below n");
        }
        let dense = Epoch::with_raw(&state(Fields { weights: with_zeros(&fields.weights), ..fields.clone() }));
        let sparse = Epoch::with_raw(&state(fields.clone()));
        let (dense_raw, sparse_raw) = (dense.raw.as_ref().expect("asked for"), sparse.raw.as_ref().expect("asked for"));
        prop_assert_eq!(&dense_raw.consensus, &sparse_raw.consensus);
        prop_assert_eq!(&dense_raw.incentive, &sparse_raw.incentive);
        prop_assert_eq!(&dense_raw.validator_trust, &sparse_raw.validator_trust);
        prop_assert_eq!(&dense_raw.alphas, &sparse_raw.alphas);
        if without_bonds || sparse_raw.alphas.is_none() {
            prop_assert_eq!(&Epoch { raw: None, ..dense.clone() }, &Epoch { raw: None, ..sparse.clone() });
        }
        let Some(rates) = &sparse_raw.alphas else { return Ok(()) };
        let rates: Vec<I32F32> = rates.values().to_vec();
        let n = fields.stake.len();
        for row in 0..n {
            let (zeros, weighed) = (by_column(&dense_raw.weights_for_bonds, row), by_column(&sparse_raw.weights_norm, row));
            let mut expected = by_column(&sparse_raw.ema_bonds, row);
            for (column, bond) in sparse_raw.bonds_old.row(row) {
                let place = row * n + usize::from(column);
                let decayed = I32F32::ONE.saturating_sub(rates[place]).saturating_mul(bond);
                if zeros.contains_key(&column) && !weighed.contains_key(&column) && decayed > I32F32::ZERO {
                    prop_assert_eq!(expected.insert(column, decayed), None, "an absent weight ends a bond");
                }
            }
            prop_assert_eq!(by_column(&dense_raw.ema_bonds, row), expected, "row {}", row);
        }
    }
}

/// Two validators weigh miner 2 alike, and the second once held a bond on miner 3. An explicit zero keeps 30 % of it, at the lowest
/// rate; without the entry it is gone.
#[test]
fn an_absent_weight_ends_a_bond_and_a_zero_keeps_it() {
    let after = |liquid_alpha: bool, second_row: &[(u16, u16)]| {
        let mut weights = Csr::empty(4);
        weights.set_row(0, &[(2, 65_535)]);
        weights.set_row(1, second_row);
        let mut bonds = Csr::empty(4);
        bonds.set_row(1, &[(3, 65_535)]);
        let epoch = Epoch::new(&state(Fields {
            block: 1000,
            last_mechanism_step_block: 900,
            rao_emission: 1_000_000,
            hyper: Hyperparameters { liquid_alpha, ..Hyperparameters::default() },
            stake: vec![100, 100, 0, 0],
            validator_permit: vec![true, true, false, false],
            last_update: vec![950; 4],
            block_at_registration: vec![0; 4],
            weights,
            bonds,
            ..Fields::default()
        }));
        epoch.bonds.row(1).map(|entry| entry.0).collect::<Vec<u16>>()
    };
    let (absent, zero) = ([(2, 65_535)], [(2, 65_535), (3, 0)]);
    assert_eq!(after(true, &absent), [2], "liquid alpha without an entry");
    assert_eq!(after(true, &zero), [2, 3], "liquid alpha with a zero");
    assert_eq!(after(false, &absent), [2, 3], "one rate for all, without an entry");
    assert_eq!(after(false, &zero), [2, 3], "one rate for all, with a zero");
}
