//! Laws of the epoch that hold for every subnet, and that no valid state makes it fail.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use proptest::prelude::*;
use tauscore::fixed::I32F32;
use tauscore::matrix::Csr;
use tauscore::stages::yuma::{ActivityCutoff, ConsensusMode, Epoch, EpochConsensus, Fields, Hyperparameters, State};

/// Sparse entries `(row, column, value)` with ascending rows, each column at most once a row.
fn entries(n: u16, most: usize) -> impl Strategy<Value = Vec<(u16, u16, u16)>> {
    prop::collection::btree_map((0..n, 0..n), any::<u16>(), 0..most)
        .prop_map(|entries| entries.into_iter().map(|((i, j), value)| (i, j, value)).collect())
}

/// Subnets as they occur: stakes all different, blocks around the present, rows of weights and bonds.
fn subnet() -> impl Strategy<Value = Fields> {
    (1_u16..12).prop_flat_map(|n| {
        let uids = usize::from(n);
        let vectors = (
            prop::collection::hash_set(0_u64..1_000_000, uids),
            prop::collection::vec(any::<bool>(), uids),
            prop::collection::vec(900_u64..1000, uids),
            prop::collection::vec(prop_oneof![Just(0_u64), 850..1000_u64], uids),
        );
        let hyper = (
            prop_oneof![Just(0_u16), Just(32_767), Just(65_535), any::<u16>()],
            prop_oneof![Just(0_u16), Just(65_535), any::<u16>()],
            0_u64..=1_000_000,
            any::<bool>(),
            prop::option::of(0..n),
            prop_oneof![Just(5000_u64), 1..100_u64],
        );
        (vectors, hyper, entries(n, 60), entries(n, 60), any::<u64>()).prop_map(
            move |((stake, permit, update, registered), hyper, weights, bonds, rao_emission)| {
                let (kappa, bonds_penalty, bonds_moving_average, yuma3, owner_uid, cutoff) = hyper;
                Fields {
                    block: 1000,
                    last_mechanism_step_block: 950,
                    rao_emission,
                    hyper: Hyperparameters {
                        kappa,
                        bonds_penalty,
                        bonds_moving_average,
                        yuma3,
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

/// A matrix with rows and columns moved alike, each row's columns ascending.
fn moved_matrix(matrix: &Csr<u16>, to: &[usize]) -> Csr<u16> {
    let mut entries: Vec<(u16, u16, u16)> =
        matrix.entries().map(|(i, j, value)| (to[i] as u16, to[usize::from(j)] as u16, value)).collect();
    entries.sort_unstable();
    Csr::from_triples(matrix.rows(), &entries).expect("rows below n")
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

    #[test]
    fn scaled_stake_changes_nothing(fields in subnet(), factor in 1_u64..1_000_000) {
        let scaled = Fields { stake: fields.stake.iter().map(|stake| stake * factor).collect(), ..fields.clone() };
        prop_assert_eq!(Epoch::with_raw(&state(fields)), Epoch::with_raw(&state(scaled)));
    }

    #[test]
    fn moved_uids_move_the_results((fields, to) in subnet().prop_flat_map(|fields| {
        let uids: Vec<usize> = (0..fields.stake.len()).collect();
        (Just(fields), Just(uids).prop_shuffle())
    })) {
        let other = Fields {
            hyper: Hyperparameters {
                owner_uid: fields.hyper.owner_uid.map(|owner| to[usize::from(owner)] as u16),
                ..fields.hyper
            },
            stake: moved(&fields.stake, &to),
            validator_permit: moved(&fields.validator_permit, &to),
            last_update: moved(&fields.last_update, &to),
            block_at_registration: moved(&fields.block_at_registration, &to),
            weights: moved_matrix(&fields.weights, &to),
            bonds: moved_matrix(&fields.bonds, &to),
            ..fields.clone()
        };
        let (epoch, other) = (Epoch::new(&state(fields)), Epoch::new(&state(other)));
        let expected = Epoch {
            active: moved(&epoch.active, &to),
            stake_weight: moved(&epoch.stake_weight, &to),
            consensus: moved(&epoch.consensus, &to),
            incentive: moved(&epoch.incentive, &to),
            dividends: moved(&epoch.dividends, &to),
            validator_trust: moved(&epoch.validator_trust, &to),
            new_validator_permit: moved(&epoch.new_validator_permit, &to),
            server_emission: moved(&epoch.server_emission, &to),
            validator_emission: moved(&epoch.validator_emission, &to),
            emission: moved(&epoch.emission, &to),
            bonds: moved_matrix(&epoch.bonds, &to),
            raw: None,
        };
        prop_assert_eq!(other, expected);
    }
}
