//! What an epoch gives, and how it is written.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::state::{Triples, bits};
use crate::fixed::I32F32;
use crate::matrix::{Csr, Dense};

/// What an epoch gives, as the chain stores and returns it. One value per uid.
///
/// Values in 65535ths are truncated: only 1 itself gives 65535. As JSON it is the `chain` object of the reference vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Who has set weights recently.
    pub active: Vec<bool>,
    /// Shares of all stake, in 65535ths.
    pub stake_weight: Vec<u16>,
    /// The weight that the majority of stake supports, in 65535ths.
    pub consensus: Vec<u16>,
    /// Miners' shares of what miners earn, in 65535ths.
    pub incentive: Vec<u16>,
    /// Validators' shares of what validators earn, in 65535ths.
    pub dividends: Vec<u16>,
    /// How much of each validator's weight is left under consensus, in 65535ths.
    pub validator_trust: Vec<u16>,
    /// Who holds a validator permit from now on.
    pub new_validator_permit: Vec<bool>,
    /// What each earns as a miner, in rao.
    pub server_emission: Vec<u64>,
    /// What each earns as a validator, in rao.
    pub validator_emission: Vec<u64>,
    /// What each earns, in rao. Its share of the pot is floored on its own, so it can differ from the sum of the two by up to
    /// `pot / 2^32 + 2`.
    pub emission: Vec<u64>,
    /// Bonds as stored for the next epoch, in 65535ths; rows of those without a permit are empty.
    pub bonds: Csr<u16>,
    /// Every intermediate result, where asked for.
    pub raw: Option<Box<Raw>>,
}

/// Every intermediate result of an epoch, before quantisation.
///
/// As JSON it is the `raw` object of the reference vectors: bits as decimal strings, matrices with count and sums beside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Shares of all stake (§3.4).
    pub stake_norm: Vec<I32F32>,
    /// Shares of the stake that is active and permitted (§4).
    pub active_stake: Vec<I32F32>,
    /// Weights that count, rows normalised (§5).
    pub weights_norm: Csr<I32F32>,
    /// Consensus weights (§6).
    pub consensus: Vec<I32F32>,
    /// Weights under consensus (§7.1).
    pub clipped_weights: Csr<I32F32>,
    /// Sums of the clipped rows (§7.2).
    pub validator_trust: Vec<I32F32>,
    /// What stake gives each miner, not normalised (§7.3).
    pub rank: Vec<I32F32>,
    /// Rank, normalised (§7.4).
    pub incentive: Vec<I32F32>,
    /// Weights that bonds are built from (§8.1).
    pub weights_for_bonds: Csr<I32F32>,
    /// Bonds before the epoch that count (§8.3), under Yuma2 with columns normalised.
    pub bonds_old: Csr<I32F32>,
    /// Purchases, columns normalised; Yuma2 only (§8.A.b).
    pub bonds_delta: Option<Csr<I32F32>>,
    /// The consensus that liquid alpha compares with (§8.4); liquid alpha only.
    pub consensus_for_liquid_alpha: Option<Vec<I32F32>>,
    /// The rate of every pair (§8.C); liquid alpha only.
    pub alphas: Option<Dense<I32F32>>,
    /// Bonds after the epoch as they go to storage: under Yuma2 upscaled so that each column's largest is 1.
    pub ema_bonds: Csr<I32F32>,
    /// Bonds after the epoch, columns normalised.
    pub ema_bonds_norm: Csr<I32F32>,
    /// What each validator's bonds earn before its stake counts; Yuma3 only (§8.B.d).
    pub total_bonds_per_validator: Option<Vec<I32F32>>,
    /// Validators' shares (§8.A.e, §8.B.e).
    pub dividends: Vec<I32F32>,
    /// Incentive as a share of everything (§9).
    pub norm_server_emission: Vec<I32F32>,
    /// Dividends as a share of everything (§9).
    pub norm_validator_emission: Vec<I32F32>,
    /// Both as a share of everything (§9).
    pub norm_combined_emission: Vec<I32F32>,
    /// What stake would give each miner without clipping (§7.5).
    pub legacy_prerank: Vec<I32F32>,
    /// Rank over prerank (§7.5).
    pub legacy_trust: Vec<I32F32>,
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let decimal = |values: &[u64]| values.iter().map(u64::to_string).collect::<Vec<_>>();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("active", &bits(&self.active))?;
        map.serialize_entry("stake_weight", &self.stake_weight)?;
        map.serialize_entry("consensus", &self.consensus)?;
        map.serialize_entry("incentive", &self.incentive)?;
        map.serialize_entry("dividends", &self.dividends)?;
        map.serialize_entry("validator_trust", &self.validator_trust)?;
        map.serialize_entry("new_validator_permit", &bits(&self.new_validator_permit))?;
        map.serialize_entry("server_emission", &decimal(&self.server_emission))?;
        map.serialize_entry("validator_emission", &decimal(&self.validator_emission))?;
        map.serialize_entry("emission", &decimal(&self.emission))?;
        map.serialize_entry("bonds", &Triples { matrix: &self.bonds, values_key: "b" })?;
        map.end()
    }
}

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("stake_norm", &decimal_bits(&self.stake_norm))?;
        map.serialize_entry("active_stake", &decimal_bits(&self.active_stake))?;
        map.serialize_entry("weights_norm", &Entries::of(self.weights_norm.entries()))?;
        map.serialize_entry("consensus", &decimal_bits(&self.consensus))?;
        map.serialize_entry("clipped_weights", &Entries::of(self.clipped_weights.entries()))?;
        map.serialize_entry("validator_trust", &decimal_bits(&self.validator_trust))?;
        map.serialize_entry("rank", &decimal_bits(&self.rank))?;
        map.serialize_entry("incentive", &decimal_bits(&self.incentive))?;
        map.serialize_entry("weights_for_bonds", &Entries::of(self.weights_for_bonds.entries()))?;
        map.serialize_entry("bonds_old", &Entries::of(self.bonds_old.entries()))?;
        if let Some(delta) = &self.bonds_delta {
            map.serialize_entry("bonds_delta", &Entries::of(delta.entries()))?;
        }
        if let Some(reference) = &self.consensus_for_liquid_alpha {
            map.serialize_entry("consensus_for_liquid_alpha", &decimal_bits(reference))?;
        }
        if let Some(alphas) = &self.alphas {
            map.serialize_entry("alphas", &Entries::of(alphas.entries()))?;
        }
        map.serialize_entry("ema_bonds", &Entries::of(self.ema_bonds.entries()))?;
        map.serialize_entry("ema_bonds_norm", &Entries::of(self.ema_bonds_norm.entries()))?;
        if let Some(total_bonds) = &self.total_bonds_per_validator {
            map.serialize_entry("total_bonds_per_validator", &decimal_bits(total_bonds))?;
        }
        map.serialize_entry("dividends", &decimal_bits(&self.dividends))?;
        map.serialize_entry("norm_server_emission", &decimal_bits(&self.norm_server_emission))?;
        map.serialize_entry("norm_validator_emission", &decimal_bits(&self.norm_validator_emission))?;
        map.serialize_entry("norm_combined_emission", &decimal_bits(&self.norm_combined_emission))?;
        map.serialize_entry("legacy_prerank", &decimal_bits(&self.legacy_prerank))?;
        map.serialize_entry("legacy_trust", &decimal_bits(&self.legacy_trust))?;
        map.end()
    }
}

fn decimal_bits(values: &[I32F32]) -> Vec<String> {
    values.iter().map(|value| value.to_bits().to_string()).collect()
}

/// A matrix as the vectors write it: how many entries, two sums over their bits, and the entries in order.
#[derive(Serialize)]
struct Entries {
    count: usize,
    /// The sum of all bits.
    sum: String,
    /// `SUM (i * 65536 + j + 1) * bits` modulo 2^64.
    xsum: String,
    i: Vec<usize>,
    j: Vec<u16>,
    bits: Vec<String>,
}

impl Entries {
    fn of(entries: impl Iterator<Item = (usize, u16, I32F32)>) -> Self {
        let (mut sum, mut xsum) = (0_i128, 0_u64);
        let (mut i, mut j, mut bits) = (Vec::new(), Vec::new(), Vec::new());
        for (row, column, value) in entries {
            sum = sum.wrapping_add(value.to_bits().into());
            let place = row as u64 * 65_536 + u64::from(column) + 1;
            xsum = xsum.wrapping_add(place.wrapping_mul(value.to_bits() as u64));
            i.push(row);
            j.push(column);
            bits.push(value.to_bits().to_string());
        }
        Self { count: bits.len(), sum: sum.to_string(), xsum: xsum.to_string(), i, j, bits }
    }
}
