//! What the chain would take: every refusal, their order, the exemptions, and what is stored.
#![expect(clippy::expect_used, reason = "helpers of tests may fail as tests do")]

use std::mem::discriminant;

use tauscore::matrix::Csr;
use tauscore::stages::yuma::submission::{Refusal, Rules, Submission, Via, check};
use tauscore::stages::yuma::{EpochConsensus, Fields, Hyperparameters, State};

/// A subnet of four with one validator, uid 0, and a row of his that every rule lets pass.
#[derive(Clone)]
struct Attempt {
    fields: Fields,
    row: Submission,
    rules: Rules,
}

impl Attempt {
    fn good() -> Self {
        let fields = Fields {
            netuid: 7,
            block: 1000,
            hyper: Hyperparameters { stake_threshold: 500, ..Hyperparameters::default() },
            stake: vec![500, 499, 0, 0],
            validator_permit: vec![true, false, false, false],
            last_update: vec![1000],
            weights: Csr::empty(4),
            bonds: Csr::empty(4),
            ..Fields::default()
        };
        let row = Submission {
            netuid: 7,
            uids: vec![2, 1],
            values: vec![3, 2],
            version_key: 5,
            block: 1100,
            ..Submission::default()
        };
        let rules = Rules {
            min_allowed_weights: 2,
            weights_version_key: 5,
            commit_reveal: false,
            max_weight_limit: 40_000,
            ..Rules::default()
        };
        Self { fields, row, rules }
    }

    fn with(mut self, change: impl Fn(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn check(&self) -> Result<Vec<(u16, u16)>, Refusal> {
        check(&State::new(self.fields.clone()).expect("legal"), &self.row, &self.rules)
    }
}

type Violation = (fn(&mut Attempt), Refusal, &'static str);

/// One violation of each rule, in the chain's order.
const VIOLATIONS: [Violation; 14] = [
    (
        |attempt| attempt.rules.commit_reveal = true,
        Refusal::CommitRevealEnabled,
        "commit-reveal is on, so weights cannot be set in the open: commit them",
    ),
    (
        |attempt| attempt.row.netuid = 0,
        Refusal::CanNotSetRootNetworkWeights,
        "netuid 0 is the root network, which takes no weights on miners: name a subnet",
    ),
    (
        |attempt| attempt.row.values.push(1),
        Refusal::WeightVecNotEqualSize { uids: 2, values: 3 },
        "2 uids with 3 values: give one value for each uid",
    ),
    (
        |attempt| attempt.row.mechid = 1,
        Refusal::MechanismDoesNotExist { netuid: 7, mechid: 1, state_netuid: 7, state_mechid: 0, count: 1 },
        "subnet 7 mechanism 1 is not there: the state is subnet 7's mechanism 0 of 1",
    ),
    (
        |attempt| {
            attempt.row.uids.extend([0, 3, 1]);
            attempt.row.values.extend([1, 1, 1]);
        },
        Refusal::UidsLengthExceedUidsInSubNet { length: 5, n: 4 },
        "5 weights, where the subnet has 4 uids: leave out what is no miner",
    ),
    (
        |attempt| attempt.row.validator = 4,
        Refusal::HotKeyNotRegisteredInSubNet { uid: 4, n: 4 },
        "validator uid 4 is not below n = 4: register the hotkey on the subnet",
    ),
    (
        |attempt| attempt.fields.stake[0] = 499,
        Refusal::NotEnoughStakeToSetWeights { uid: 0, stake: 499, threshold: 500 },
        "uid 0 holds 499 rao of stake, where 500 are needed: add stake",
    ),
    (
        |attempt| attempt.row.version_key = 4,
        Refusal::IncorrectWeightVersionKey { key: 4, needed: 5 },
        "version key 4 is below the subnet's 5: update the validator",
    ),
    (
        |attempt| attempt.row.block = 1099,
        Refusal::SettingWeightsTooFast { passed: 99, limit: 100 },
        "99 blocks since the last weights, where 100 are needed: wait 1 more",
    ),
    (
        |attempt| attempt.fields.validator_permit[0] = false,
        Refusal::NeuronNoValidatorPermit { uid: 0 },
        "uid 0 has no validator permit: hold more stake than another validator by the next epoch",
    ),
    (
        |attempt| {
            attempt.row.uids.push(2);
            attempt.row.values.push(1);
        },
        Refusal::DuplicateUids { uid: 2 },
        "uid 2 comes more than once: give one weight for each uid",
    ),
    (
        |attempt| {
            attempt.row.uids.push(4);
            attempt.row.values.push(1);
        },
        Refusal::UidVecContainInvalidOne { uid: 4, n: 4 },
        "uid 4 is not below n = 4: leave it out",
    ),
    (
        |attempt| attempt.rules.min_allowed_weights = 1024,
        Refusal::WeightVecLengthIsLow { length: 2, needed: 4 },
        "2 weights, where at least 4 are needed: weigh more miners",
    ),
    (
        |attempt| attempt.rules.max_weight_limit = 39_320,
        Refusal::MaxWeightExceeded { limit: 39_320 },
        "the largest weight has more than 39320 / 65535 of the row: spread the row over more miners",
    ),
];

#[test]
fn a_good_row_is_stored_in_its_order_with_the_largest_65535() {
    assert_eq!(Attempt::good().check(), Ok(vec![(2, 65_535), (1, 43_690)]), "two thirds, rounded");
    let zeros = Attempt::good().with(|attempt| attempt.row.values = vec![0, 0]);
    assert_eq!(zeros.check(), Ok(vec![(2, 0), (1, 0)]), "the chain takes zeros");
    let empty = Attempt::good().with(|attempt| {
        (attempt.row.uids, attempt.row.values) = (vec![], vec![]);
        attempt.rules.min_allowed_weights = 0;
    });
    assert_eq!(empty.check(), Ok(vec![]), "and nothing");
}

#[test]
fn every_rule_refuses_by_its_name_and_with_numbers() {
    for (violate, refusal, said) in VIOLATIONS {
        assert_eq!(Attempt::good().with(violate).check(), Err(refusal), "{said}");
        assert_eq!(refusal.to_string(), said, "{refusal:?}");
    }
}

#[test]
fn of_two_violations_the_chains_first_is_told() {
    for (earlier, first) in VIOLATIONS.iter().enumerate() {
        let second = VIOLATIONS.get(earlier + 1).unwrap_or(first);
        for attempt in [Attempt::good().with(first.0).with(second.0), Attempt::good().with(second.0).with(first.0)] {
            let refusal = attempt.check().expect_err("refused");
            assert_eq!(discriminant(&refusal), discriminant(&first.1), "{refusal:?} before {:?}", first.1);
        }
    }
    // All that stay in each other's way in no other manner.
    let mut attempt = Attempt::good();
    for (violate, refusal, _) in VIOLATIONS.iter().rev().filter(|(_, refusal, _)| {
        !matches!(refusal, Refusal::UidsLengthExceedUidsInSubNet { .. } | Refusal::HotKeyNotRegisteredInSubNet { .. })
    }) {
        attempt = attempt.with(violate);
        assert_eq!(discriminant(&attempt.check().expect_err("refused")), discriminant(refusal), "{refusal:?}");
    }
}

#[test]
fn a_commit_is_checked_for_itself_and_for_its_reveal() {
    let commit = Attempt::good().with(|attempt| {
        attempt.row.via = Via::Commit;
        attempt.rules.commit_reveal = true;
    });
    assert_eq!(commit.check(), Attempt::good().check(), "what will be stored");
    let off = commit.clone().with(|attempt| attempt.rules.commit_reveal = false);
    assert_eq!(off.check(), Err(Refusal::CommitRevealDisabled), "nothing to commit");
    assert!(Refusal::CommitRevealDisabled.to_string().ends_with(": set the weights in the open"), "what to do");
    let fast = commit.clone().with(|attempt| attempt.row.block = 999);
    let refusal = Refusal::CommittingWeightsTooFast { passed: 0, limit: 100 };
    assert_eq!(fast.check(), Err(refusal), "the same limit, and no block before the last");
    assert!(refusal.to_string().ends_with("wait 100 more to commit"), "{refusal}");
    for (violate, refusal, _) in VIOLATIONS.iter().filter(|(_, refusal, _)| {
        !matches!(refusal, Refusal::CommitRevealEnabled | Refusal::SettingWeightsTooFast { .. })
    }) {
        assert_eq!(commit.clone().with(violate).check(), Err(*refusal), "at the reveal");
    }
}

#[test]
fn the_owner_needs_neither_stake_nor_permit() {
    let owner = Attempt::good().with(|attempt| {
        attempt.fields.hyper.owner_uid = Some(3);
        attempt.row.validator = 3;
    });
    assert!(owner.check().is_ok(), "without either");
    let other = owner.with(|attempt| attempt.fields.hyper.owner_uid = Some(2));
    assert!(matches!(other.check(), Err(Refusal::NotEnoughStakeToSetWeights { uid: 3, stake: 0, .. })), "another");
}

#[test]
fn a_self_weight_needs_neither_permit_nor_length_nor_a_small_share() {
    let own = Attempt::good().with(|attempt| {
        attempt.fields.validator_permit[0] = false;
        (attempt.row.uids, attempt.row.values) = (vec![0], vec![7]);
    });
    assert_eq!(own.check(), Ok(vec![(0, 65_535)]), "one entry on oneself");
    let two = own.clone().with(|attempt| (attempt.row.uids, attempt.row.values) = (vec![0, 1], vec![7, 0]));
    assert_eq!(two.check(), Err(Refusal::NeuronNoValidatorPermit { uid: 0 }), "two entries are none");
    let another = own.with(|attempt| attempt.row.uids = vec![1]);
    assert_eq!(another.check(), Err(Refusal::NeuronNoValidatorPermit { uid: 0 }), "nor is one on another");
}

#[test]
fn stake_is_alpha_and_weighted_tao_without_rounding_up() {
    let tao = |tao: u64| {
        let attempt = Attempt::good().with(|attempt| {
            attempt.fields.stake[0] = 499;
            attempt.fields.tao_stake = Some(vec![tao, 0, 0, 0]);
        });
        attempt.check()
    };
    // 971718665099567868 / (2^64 - 1) = 0.05267...: 18 rao count 0.948, 19 count 1.0008.
    assert_eq!(tao(18), Err(Refusal::NotEnoughStakeToSetWeights { uid: 0, stake: 499, threshold: 500 }), "499.948");
    assert!(tao(19).is_ok(), "500.0008");
}

#[test]
fn who_never_set_weights_need_not_wait_and_key_zero_takes_any() {
    for last_update in [vec![], vec![0]] {
        let first = Attempt::good().with(|attempt| {
            attempt.fields.last_update.clone_from(&last_update);
            attempt.row.block = 1;
        });
        assert!(first.check().is_ok(), "never");
    }
    let any = Attempt::good().with(|attempt| (attempt.rules.weights_version_key, attempt.row.version_key) = (0, 0));
    assert!(any.check().is_ok(), "unchecked");
    let elsewhere = Attempt::good().with(|attempt| attempt.row.netuid = 8);
    assert!(matches!(elsewhere.check(), Err(Refusal::MechanismDoesNotExist { netuid: 8, .. })), "another subnet");
    let second = Attempt::good().with(|attempt| {
        (attempt.row.mechid, attempt.fields.mechid, attempt.rules.mechanism_count) = (1, 1, 2);
    });
    assert!(second.check().is_ok(), "the second of two mechanisms");
    assert_eq!(Rules::default().mechanism_count, 1, "a new subnet has one");
}

#[test]
fn null_consensus_wants_the_permit_of_everybody_and_stores_raw_weights() {
    let null = Attempt::good().with(|attempt| attempt.fields.hyper.epoch_consensus = EpochConsensus::Null);
    assert_eq!(null.check(), Ok(vec![(2, 3), (1, 2)]), "as they are");
    let owner = null.clone().with(|attempt| {
        attempt.fields.hyper.owner_uid = Some(1);
        attempt.row.validator = 1;
    });
    assert_eq!(owner.check(), Err(Refusal::NeuronNoValidatorPermit { uid: 1 }), "the owner as well");
    let own = owner.with(|attempt| (attempt.row.uids, attempt.row.values) = (vec![1], vec![1]));
    assert_eq!(own.check(), Err(Refusal::NeuronNoValidatorPermit { uid: 1 }), "and on oneself");
}
