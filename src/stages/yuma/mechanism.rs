//! A subnet's mechanisms: how its pot is split among them, and what their epochs come to together (YUMA §11).
//!
//! Weights, bonds, last updates and incentive belong to a mechanism; stake, permits and registrations to the subnet.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::null;
use super::output::Epoch;
use super::state::{EpochConsensus, Fields, State, bits};
use crate::fixed::U64F64;
use crate::{Error, Result};

/// The most mechanisms that a subnet can have.
pub const MAX_MECHANISMS: usize = 16;

/// Splits a pot (rao) among `count` mechanisms; the parts sum to the pot.
///
/// With shares in 65535ths `floor(pot * share / 65535)` each, without `floor(pot / count)`; the remainder goes to the first. Shares
/// that are not one for each mechanism, or do not sum to 65535, count as none: the rule of newer runtimes, which let nobody set such
/// a list and ignore one that was stored before (older ones took a missing share for 0).
pub fn split(pot: u64, count: usize, shares: Option<&[u16]>) -> Vec<u64> {
    let full = u128::from(u16::MAX);
    let shares = shares.filter(|shares| shares_fit(shares, count));
    let mut parts: Vec<u64> = match shares {
        Some(shares) => shares.iter().map(|&share| (u128::from(pot) * u128::from(share) / full) as u64).collect(),
        None => (0..count).map(|_| pot / count as u64).collect(),
    };
    let left = pot - parts.iter().sum::<u64>();
    if let Some(first) = parts.first_mut() {
        *first += left;
    }
    parts
}

fn shares_fit(shares: &[u16], count: usize) -> bool {
    shares.len() == count && shares.iter().copied().map(u64::from).sum::<u64>() == u64::from(u16::MAX)
}

/// A subnet of one mechanism or more: the states of all, each with its part of the pot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pot: u64,
    shares: Option<Vec<u16>>,
    mechanisms: Vec<State>,
}

/// What the mechanisms of a subnet give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEpoch {
    /// The epoch of each mechanism.
    pub mechanisms: Vec<Epoch>,
    /// All of them together.
    pub aggregate: Aggregate,
}

/// What the chain stores and pays for a subnet: its mechanisms' epochs together, one value per uid.
///
/// As JSON it has the shape of an [`Epoch`] without incentive and bonds, which are stored by mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Who is active in any mechanism.
    pub active: Vec<bool>,
    /// Shares of all stake, in 65535ths, weighted by the mechanisms' parts of the pot.
    pub stake_weight: Vec<u16>,
    /// Consensus, weighted so.
    pub consensus: Vec<u16>,
    /// Dividends, weighted so.
    pub dividends: Vec<u16>,
    /// Validator trust, weighted so.
    pub validator_trust: Vec<u16>,
    /// Who gets a permit from any mechanism.
    pub new_validator_permit: Vec<bool>,
    /// What each earns as a miner, in rao: the mechanisms' sum.
    pub server_emission: Vec<u64>,
    /// What each earns as a validator, in rao: the mechanisms' sum.
    pub validator_emission: Vec<u64>,
    /// The mechanisms' emissions, in rao, **weighted** like the shares: with several mechanisms less than the sum of the two.
    pub emission: Vec<u64>,
}

impl Subnet {
    /// Puts the states of a subnet's mechanisms together, in the order of their ids, each with a name for errors.
    ///
    /// The pot is the first one's `rao_emission`; the others' is not looked at. Shares as in [`split`]. Fails where the states are
    /// not of one subnet at one block: netuid, n, block, consensus mode, stakes, permits and
    /// registrations must agree, and ids be 0, 1, 2 and so on.
    pub fn new(mechanisms: Vec<(String, State)>, shares: Option<&[u16]>) -> Result<Self> {
        let count = mechanisms.len();
        let Some((_, first)) = mechanisms.first().filter(|_| count <= MAX_MECHANISMS) else {
            return Err(Error::Usage {
                argument: "mechanisms".into(),
                problem: format!("{count} states, where a subnet has 1 to {MAX_MECHANISMS} mechanisms"),
                remedy: "give one state for each mechanism of one subnet".into(),
            });
        };
        for (mechid, (name, state)) in mechanisms.iter().enumerate() {
            disagreement(first, state, mechid).map_or(Ok(()), |(field, problem, remedy)| {
                Err(Error::File { file: name.clone(), field: field.into(), problem, remedy: remedy.into() })
            })?;
        }
        let (pot, null) = (first.rao_emission, first.hyper.epoch_consensus == EpochConsensus::Null);
        // A Null epoch splits its two halves apart, so that rounding up is not done once for each mechanism.
        let parts = if null {
            let (miners, validators) = (split(pot - pot / 2, count, shares), split(pot / 2, count, shares));
            miners.iter().zip(validators).map(|(miners, validators)| miners + validators).collect()
        } else {
            split(pot, count, shares)
        };
        let mechanisms = mechanisms.into_iter().zip(parts);
        let funded = |((_, state), part): ((String, State), u64)| {
            State::new(Fields { rao_emission: part, ..state.into_fields() })
        };
        Ok(Self {
            pot,
            shares: shares.map(<[u16]>::to_vec),
            mechanisms: mechanisms.map(funded).collect::<Result<_>>()?,
        })
    }

    /// The states, each with its part of the pot as `rao_emission`.
    pub fn mechanisms(&self) -> &[State] {
        &self.mechanisms
    }

    /// Computes every mechanism's epoch, and what they come to together.
    pub fn epoch(&self) -> SubnetEpoch {
        let validators = split(self.pot / 2, self.mechanisms.len(), self.shares.as_deref());
        let mut aggregate = Aggregate::default();
        let epochs = self.mechanisms.iter().zip(validators).enumerate().map(|(mechid, (state, validators))| {
            let epoch = match state.hyper.epoch_consensus {
                EpochConsensus::Yuma => Epoch::new(state),
                EpochConsensus::Null => null::epoch_of_parts(state, state.rao_emission - validators, validators),
            };
            // Without a pot the first mechanism counts in full.
            let fraction = U64F64::from_u64(state.rao_emission).checked_div(U64F64::from_u64(self.pot));
            let fraction = fraction.unwrap_or(if mechid == 0 { U64F64::ONE } else { U64F64::ZERO });
            aggregate.add(&epoch, fraction);
            epoch
        });
        let mechanisms = epochs.collect();
        SubnetEpoch { mechanisms, aggregate }
    }
}

/// What keeps a state from being mechanism `mechid` of the subnet that `first` is of: field, problem, remedy.
fn disagreement(first: &State, state: &State, mechid: usize) -> Option<(&'static str, String, &'static str)> {
    if usize::from(state.mechid) != mechid {
        let problem = format!("{}, where mechanism {mechid} is expected", state.mechid);
        return Some(("mechid", problem, "give the mechanisms' states in order: 0, 1, 2 and so on, none left out"));
    }
    let differs = |ours: &dyn std::fmt::Display, others: &dyn std::fmt::Display| {
        format!("{ours}, where mechanism 0 has {others}")
    };
    let mode = |state: &State| format!("{:?}", state.hyper.epoch_consensus).to_lowercase();
    let (field, problem) = if state.netuid != first.netuid {
        ("netuid", differs(&state.netuid, &first.netuid))
    } else if state.n() != first.n() {
        ("n", differs(&state.n(), &first.n()))
    } else if state.block != first.block {
        ("block", differs(&state.block, &first.block))
    } else if state.hyper.epoch_consensus != first.hyper.epoch_consensus {
        ("hyper.epoch_consensus", differs(&mode(state), &mode(first)))
    } else if state.stake != first.stake {
        ("stake", "differs from mechanism 0's".into())
    } else if state.tao_stake != first.tao_stake {
        ("tao_stake", "differs from mechanism 0's".into())
    } else if state.validator_permit != first.validator_permit {
        ("validator_permit", "differs from mechanism 0's".into())
    } else if state.block_at_registration != first.block_at_registration {
        ("block_at_registration", "differs from mechanism 0's".into())
    } else {
        return None;
    };
    Some((field, problem, "give states of one subnet, taken at the same block"))
}

impl Aggregate {
    /// Adds a mechanism's epoch, which has this fraction of the pot. Every sum is floored before the next is added, as stored.
    fn add(&mut self, epoch: &Epoch, fraction: U64F64) {
        weigh(&mut self.stake_weight, &epoch.stake_weight, fraction);
        weigh(&mut self.consensus, &epoch.consensus, fraction);
        weigh(&mut self.dividends, &epoch.dividends, fraction);
        weigh(&mut self.validator_trust, &epoch.validator_trust, fraction);
        weigh(&mut self.emission, &epoch.emission, fraction);
        combine(&mut self.active, &epoch.active, |any, one| any | one);
        combine(&mut self.new_validator_permit, &epoch.new_validator_permit, |any, one| any | one);
        combine(&mut self.server_emission, &epoch.server_emission, u64::saturating_add);
        combine(&mut self.validator_emission, &epoch.validator_emission, u64::saturating_add);
    }
}

/// `sum = combine(sum, value)` for each uid, from nothing where there is no sum yet.
fn combine<T: Copy + Default>(sums: &mut Vec<T>, values: &[T], combine: impl Fn(T, T) -> T) {
    sums.resize(values.len(), T::default());
    for (sum, &value) in sums.iter_mut().zip(values) {
        *sum = combine(*sum, value);
    }
}

/// `sum = floor(sum + value * fraction)` for each uid.
fn weigh<T: Copy + Default + Into<u64> + TryFrom<u64>>(sums: &mut Vec<T>, values: &[T], fraction: U64F64) {
    combine(sums, values, |sum, value| {
        let product = U64F64::from_u64(value.into()).saturating_mul(fraction);
        let sum = U64F64::from_u64(sum.into()).saturating_add(product).to_u64();
        // Fractions sum to 1 at most, so no sum leaves its type.
        T::try_from(sum).unwrap_or(value)
    });
}

impl Serialize for Aggregate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let decimal = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("active", &bits(&self.active))?;
        map.serialize_entry("stake_weight", &self.stake_weight)?;
        map.serialize_entry("consensus", &self.consensus)?;
        map.serialize_entry("dividends", &self.dividends)?;
        map.serialize_entry("validator_trust", &self.validator_trust)?;
        map.serialize_entry("new_validator_permit", &bits(&self.new_validator_permit))?;
        map.serialize_entry("server_emission", &decimal(&self.server_emission))?;
        map.serialize_entry("validator_emission", &decimal(&self.validator_emission))?;
        map.serialize_entry("emission", &decimal(&self.emission))?;
        map.end()
    }
}
