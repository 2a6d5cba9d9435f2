//! Whether the chain would take a row of weights, and what it would store (YUMA §13.4 and §13.5).

use std::collections::HashSet;

use super::stake;
use super::state::{EpochConsensus, State};
use crate::fixed::{I32F32, max_upscale_u16, within_max_weight};

/// How a row goes to the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// In the open (`set_weights`), where commit-reveal is off.
    #[default]
    SetWeights,
    /// Committed now and revealed later, where commit-reveal is on. Checked as if the reveal found the subnet as it is now.
    Commit,
}

/// A row of weights as a validator submits it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Submission {
    /// The subnet; 0 is the root network.
    pub netuid: u16,
    /// The mechanism within the subnet.
    pub mechid: u8,
    /// Who submits it.
    pub validator: u16,
    /// Whom the row weighs, in submission order.
    pub uids: Vec<u16>,
    /// The weight of each, of any scale.
    pub values: Vec<u16>,
    /// The version of the validator's scoring code.
    pub version_key: u64,
    /// The block in which it arrives (with [`Via::Commit`], the commit).
    pub block: u64,
    /// How it goes to the chain.
    pub via: Via,
}

/// What a subnet demands of a row. The default is that of a newly created subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The fewest entries of a row; no more than there are uids. Default 1.
    pub min_allowed_weights: u16,
    /// The lowest version that is taken; 0 takes any. Default 0.
    pub weights_version_key: u64,
    /// The fewest blocks between two rows of a validator. Default 100.
    pub weights_set_rate_limit: u64,
    /// Whether rows are committed and revealed. Default true.
    pub commit_reveal: bool,
    /// How many mechanisms there are. Default 1.
    pub mechanism_count: u8,
    /// The largest share of a row that one miner may get, in 65535ths. Default 65535, which is constant on the chain.
    pub max_weight_limit: u16,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            min_allowed_weights: 1,
            weights_version_key: 0,
            weights_set_rate_limit: 100,
            commit_reveal: true,
            mechanism_count: 1,
            max_weight_limit: u16::MAX,
        }
    }
}

/// Why the chain would not take a row, by the names of its errors. Display says what, with numbers, and what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The subnet wants commits.
    #[error("commit-reveal is on, so weights cannot be set in the open: commit them")]
    CommitRevealEnabled,
    /// The subnet wants weights in the open.
    #[error("commit-reveal is off, so there is nothing to commit: set the weights in the open")]
    CommitRevealDisabled,
    /// The root network has no miners.
    #[error("netuid 0 is the root network, which takes no weights on miners: name a subnet")]
    CanNotSetRootNetworkWeights,
    /// Uids and values do not pair.
    #[error("{uids} uids with {values} values: give one value for each uid")]
    WeightVecNotEqualSize {
        /// How many uids there are.
        uids: usize,
        /// How many values there are.
        values: usize,
    },
    /// No such mechanism, or the state is another one's.
    #[error(
        "subnet {netuid} mechanism {mechid} is not there: the state is subnet {state_netuid}'s mechanism {state_mechid} of {count}"
    )]
    MechanismDoesNotExist {
        /// The subnet named.
        netuid: u16,
        /// The mechanism named.
        mechid: u8,
        /// The state's subnet.
        state_netuid: u16,
        /// The state's mechanism.
        state_mechid: u8,
        /// How many mechanisms there are.
        count: u8,
    },
    /// More entries than uids.
    #[error("{length} weights, where the subnet has {n} uids: leave out what is no miner")]
    UidsLengthExceedUidsInSubNet {
        /// How many weights there are.
        length: usize,
        /// How many uids there are.
        n: usize,
    },
    /// The validator is nobody.
    #[error("validator uid {uid} is not below n = {n}: register the hotkey on the subnet")]
    HotKeyNotRegisteredInSubNet {
        /// The validator.
        uid: u16,
        /// How many uids there are.
        n: usize,
    },
    /// The validator's stake is below the threshold.
    #[error("uid {uid} holds {stake} rao of stake, where {threshold} are needed: add stake")]
    NotEnoughStakeToSetWeights {
        /// The validator.
        uid: u16,
        /// Its stake in all, floored, in rao.
        stake: u64,
        /// What is needed, in rao.
        threshold: u64,
    },
    /// The scoring code is outdated.
    #[error("version key {key} is below the subnet's {needed}: update the validator")]
    IncorrectWeightVersionKey {
        /// The version of the submission.
        key: u64,
        /// The lowest that is taken.
        needed: u64,
    },
    /// The last row is too recent.
    #[error("{passed} blocks since the last weights, where {limit} are needed: wait {} more", .limit.saturating_sub(*.passed))]
    SettingWeightsTooFast {
        /// How many blocks have passed.
        passed: u64,
        /// How many are needed.
        limit: u64,
    },
    /// The last commit or row is too recent.
    #[error("{passed} blocks since the last weights, where {limit} are needed: wait {} more to commit", .limit.saturating_sub(*.passed))]
    CommittingWeightsTooFast {
        /// How many blocks have passed.
        passed: u64,
        /// How many are needed.
        limit: u64,
    },
    /// The validator may not weigh others.
    #[error("uid {uid} has no validator permit: hold more stake than another validator by the next epoch")]
    NeuronNoValidatorPermit {
        /// The validator.
        uid: u16,
    },
    /// A uid comes twice.
    #[error("uid {uid} comes more than once: give one weight for each uid")]
    DuplicateUids {
        /// The first uid that comes again.
        uid: u16,
    },
    /// A uid is nobody.
    #[error("uid {uid} is not below n = {n}: leave it out")]
    UidVecContainInvalidOne {
        /// The first uid that is nobody.
        uid: u16,
        /// How many uids there are.
        n: usize,
    },
    /// Too few entries.
    #[error("{length} weights, where at least {needed} are needed: weigh more miners")]
    WeightVecLengthIsLow {
        /// How many weights there are.
        length: usize,
        /// How many are needed.
        needed: usize,
    },
    /// One miner gets too much.
    #[error("the largest weight has more than {limit} / 65535 of the row: spread the row over more miners")]
    MaxWeightExceeded {
        /// The largest share allowed, in 65535ths.
        limit: u16,
    },
}

impl Refusal {
    /// The chain's name of it.
    pub fn name(&self) -> String {
        let debug = format!("{self:?}");
        debug.split_once(' ').map_or(debug.as_str(), |(name, _)| name).to_owned()
    }
}

/// Checks a row as the chain does, in its order, and returns what it would store: uids and weights in submission order, the largest
/// weight 65535.
///
/// The state is that of the submission's subnet and mechanism, its `last_update` from before the submission. A self-weight (the one
/// entry, on oneself) needs neither permit nor length, and the subnet's owner neither stake nor permit. On Null consensus these two
/// need the permit as well, and weights are stored as they are: that is what the chain's tests state (see [`null`](super::null)).
///
/// A commit is checked for its own two conditions (commit-reveal on, rate limit) and for all that its reveal will be checked for.
pub fn check(state: &State, submission: &Submission, rules: &Rules) -> Result<Vec<(u16, u16)>, Refusal> {
    let Submission { netuid, mechid, validator, uids, values, .. } = submission;
    let (n, length, hyper) = (state.n(), uids.len(), &state.hyper);
    // The chain looks at this before anything else: the calls themselves are shut.
    match (submission.via, rules.commit_reveal) {
        (Via::SetWeights, true) => return Err(Refusal::CommitRevealEnabled),
        (Via::Commit, false) => return Err(Refusal::CommitRevealDisabled),
        _ => {}
    }
    ensure(*netuid != 0, Refusal::CanNotSetRootNetworkWeights)?;
    ensure(length == values.len(), Refusal::WeightVecNotEqualSize { uids: length, values: values.len() })?;
    let (state_netuid, state_mechid, count) = (state.netuid, state.mechid, rules.mechanism_count);
    ensure(
        *netuid == state_netuid && *mechid == state_mechid && *mechid < count,
        Refusal::MechanismDoesNotExist { netuid: *netuid, mechid: *mechid, state_netuid, state_mechid, count },
    )?;
    ensure(length <= n, Refusal::UidsLengthExceedUidsInSubNet { length, n })?;

    let uid = *validator;
    let place = usize::from(uid);
    ensure(place < n, Refusal::HotKeyNotRegisteredInSubNet { uid, n })?;
    let is_owner = hyper.owner_uid == Some(uid);
    let total = stake::total(
        &state.stake[place..=place],
        state.tao_stake.as_ref().map(|tao_stake| &tao_stake[place..=place]),
        hyper.tao_weight,
    );
    let stake: u64 = total.iter().map(|total| total.to_u64()).sum();
    let threshold = hyper.stake_threshold;
    ensure(is_owner || stake >= threshold, Refusal::NotEnoughStakeToSetWeights { uid, stake, threshold })?;
    let (key, needed) = (submission.version_key, rules.weights_version_key);
    ensure(key >= needed, Refusal::IncorrectWeightVersionKey { key, needed })?;
    let last_update = state.last_update.get(place).copied().unwrap_or(0);
    let (passed, limit) = (submission.block.saturating_sub(last_update), rules.weights_set_rate_limit);
    ensure(
        last_update == 0 || passed >= limit,
        match submission.via {
            Via::SetWeights => Refusal::SettingWeightsTooFast { passed, limit },
            Via::Commit => Refusal::CommittingWeightsTooFast { passed, limit },
        },
    )?;

    let null = hyper.epoch_consensus == EpochConsensus::Null;
    let self_weight = uids[..] == [uid];
    let exempt = !null && (is_owner || self_weight);
    ensure(exempt || state.validator_permit[place], Refusal::NeuronNoValidatorPermit { uid })?;
    let mut seen = HashSet::with_capacity(length);
    if let Some(&uid) = uids.iter().find(|&&uid| !seen.insert(uid)) {
        return Err(Refusal::DuplicateUids { uid });
    }
    if let Some(&uid) = uids.iter().find(|&&uid| usize::from(uid) >= n) {
        return Err(Refusal::UidVecContainInvalidOne { uid, n });
    }
    let needed = n.min(rules.min_allowed_weights.into());
    ensure(self_weight || length >= needed, Refusal::WeightVecLengthIsLow { length, needed })?;
    let stored = if null {
        values.clone()
    } else {
        max_upscale_u16(&values.iter().copied().map(I32F32::from_u16).collect::<Vec<_>>())
    };
    let limit = rules.max_weight_limit;
    ensure(self_weight || within_max_weight(&stored, limit), Refusal::MaxWeightExceeded { limit })?;
    Ok(uids.iter().copied().zip(stored).collect())
}

fn ensure(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}
