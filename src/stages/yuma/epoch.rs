//! One epoch, in the paper's order.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::bonds::Divisors;
use super::liquid::LiquidAlpha;
use super::state::{EpochConsensus, State, Triples, bits};
use super::weights::Admission;
use super::{bonds, consensus, liquid, null, stake, weights};
use crate::fixed::I32F32;
use crate::matrix::{Csr, Dense, Matrix};

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

/// Bonds after the epoch and what they earn.
struct Bonding {
    stored: Csr<u16>,
    dividends: Vec<I32F32>,
    raw: Option<RawBonding>,
}

/// Bonds on the way, as [`Raw`] lists them.
struct RawBonding {
    delta: Option<Csr<I32F32>>,
    reference_consensus: Option<Vec<I32F32>>,
    alphas: Option<Dense<I32F32>>,
    stored: Csr<I32F32>,
    normalized: Csr<I32F32>,
    total_bonds: Option<Vec<I32F32>>,
}

/// Shares of the pot as a miner, as a validator and together.
pub(super) struct Shares {
    pub server: Vec<I32F32>,
    pub validator: Vec<I32F32>,
    pub combined: Vec<I32F32>,
}

impl Epoch {
    /// Computes the epoch of a state.
    pub fn new(state: &State) -> Self {
        epoch(state, Keep::Results)
    }

    /// Computes the epoch of a state and keeps every intermediate result; a Null epoch has none.
    pub fn with_raw(state: &State) -> Self {
        epoch(state, Keep::Raw)
    }
}

/// What is known of every uid before its weights are looked at.
pub(super) struct Standing<'a> {
    pub last_update: Cow<'a, [u64]>,
    pub block_at_registration: Cow<'a, [u64]>,
    pub stake_norm: Vec<I32F32>,
    pub active: Vec<bool>,
    pub permit: Cow<'a, [bool]>,
    pub new_permit: Vec<bool>,
    pub active_stake: Vec<I32F32>,
}

/// Stake, permits and activity.
pub(super) fn standing(state: &State) -> Standing<'_> {
    let (n, hyper) = (state.n(), &state.hyper);
    let last_update = padded(&state.last_update, n);
    let block_at_registration = padded(&state.block_at_registration, n);

    // Stake: S_i = total_i / SUM total, without those below the threshold.
    let mut total = stake::total(&state.stake, state.tao_stake.as_deref(), hyper.tao_weight);
    stake::filter(&mut total, hyper.stake_threshold, hyper.owner_uid);
    let stake_norm = stake::normalized(&total);

    // Permits: the k largest stakes for the next epoch, last epoch's for this one, the owner always.
    let mut new_permit = stake::top_k(&stake_norm, hyper.max_allowed_validators.into());
    let mut permit = Cow::Borrowed(state.validator_permit.as_slice());
    if let Some(owner) = hyper.owner_uid.map(usize::from) {
        new_permit[owner] = true;
        permit.to_mut()[owner] = true;
    }

    // Active stake: s_i, normalised among those who are active and hold a permit.
    let active = stake::active(&last_update, hyper.activity_cutoff_blocks(), state.block);
    let active_stake = stake::active_stake(&stake_norm, &active, &permit);
    Standing { last_update, block_at_registration, stake_norm, active, permit, new_permit, active_stake }
}

impl Standing<'_> {
    /// What decides whether a weight counts.
    pub(super) fn admission<'a>(&'a self, state: &'a State) -> Admission<'a> {
        Admission {
            permit: &self.permit,
            owner: state.hyper.owner_uid,
            last_update: &self.last_update,
            block_at_registration: &self.block_at_registration,
            commit_block: state.commit_block.as_deref(),
        }
    }

    /// The stored bonds that count: in shares of each miner's under Yuma2, as they are under Yuma3.
    pub(super) fn old_bonds<'a>(&self, state: &'a State) -> impl Matrix<Value = I32F32> + use<'a> {
        let (n, yuma3) = (state.n(), state.hyper.yuma3);
        let before = bonds::bonds_count_before(state.block, state.last_mechanism_step_block, state.hyper.tempo);
        let registered: Vec<bool> = self.block_at_registration.iter().map(|&block| before > block).collect();
        let counts = move |column: u16| registered.get(usize::from(column)).copied().unwrap_or(before > 0);
        let value = move |column: u16, bond| match usize::from(column) < n {
            _ if yuma3 => I32F32::from_proportion(bond),
            // In units of 2^-32, which a quotient does not change with; but what lies outside the subnet is divided by nothing.
            true => I32F32::from_bits(bond.into()),
            false => I32F32::from_u16(bond),
        };
        let sums = if yuma3 {
            Divisors::default()
        } else {
            Divisors::sums(&state.bonds.filtered(|_, column, bond| counts(column).then(|| value(column, bond))))
        };
        state.bonds.filtered(move |_, column, bond| counts(column).then(|| sums.divide(column, value(column, bond))))
    }
}

/// What to hand out besides what every epoch gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Nothing, and no bonds either.
    Little,
    /// Nothing.
    Results,
    /// Every intermediate result.
    Raw,
}

/// The whole epoch.
fn epoch(state: &State, keep: Keep) -> Epoch {
    if state.hyper.epoch_consensus == EpochConsensus::Null {
        return null::epoch(state);
    }
    let standing = standing(state);

    // Weights: w_ij, what counts of the submitted rows, in shares.
    let weights = weights::shares(&weights::admitted(&state.weights, standing.admission(state)));

    // Consensus: C_j, the stake-weighted median; c_ij = min(w_ij, C_j).
    let kappa = I32F32::from_proportion(state.hyper.kappa);
    let consensus = consensus::consensus(&weights, &standing.active_stake, kappa);

    settled(state, &standing, &standing.old_bonds(state), weights, consensus, keep)
}

/// The epoch from consensus on.
pub(super) fn settled(
    state: &State,
    standing: &Standing<'_>,
    old_bonds: &impl Matrix<Value = I32F32>,
    weights: Csr<I32F32>,
    consensus: Vec<I32F32>,
    keep: Keep,
) -> Epoch {
    let hyper = &state.hyper;
    let Standing { stake_norm, active_stake, new_permit, .. } = standing;

    // Validator trust: T_i = SUM_j c_ij. Rank: r_j = SUM_i s_i c_ij. Incentive: I_j = r_j / SUM r.
    let (validator_trust, rank) = consensus::support(&weights, &consensus, active_stake);
    let mut incentive = rank.clone();
    I32F32::normalize(&mut incentive);

    // Bonds: B_ij, moved towards what the weights buy. Dividends: D_i = SUM_j B_ij I_j, under Yuma3 times s_i, normalised.
    let penalty = I32F32::from_proportion(hyper.bonds_penalty);
    let submitted = (keep == Keep::Raw).then(|| weights.clone());
    let weights_for_bonds = bonds::weights_for_bonds(weights, &consensus, penalty);
    let market = Market {
        state,
        old: old_bonds,
        weights: &weights_for_bonds,
        active_stake,
        consensus: &consensus,
        incentive: &incentive,
        new_permit,
        keep,
    };
    let bonding = if hyper.yuma3 { market.yuma3() } else { market.yuma2() };

    // Emission: (I_j, D_j) / SUM (I + D), times the pot.
    let shares = shares(&incentive, &bonding.dividends, fallback(stake_norm, active_stake));
    let rao = |shares: &[I32F32]| shares.iter().map(|share| share.of_rao(state.rao_emission)).collect();

    let epoch = Epoch {
        stake_weight: proportions(stake_norm),
        consensus: proportions(&consensus),
        incentive: proportions(&incentive),
        dividends: proportions(&bonding.dividends),
        validator_trust: proportions(&validator_trust),
        server_emission: rao(&shares.server),
        validator_emission: rao(&shares.validator),
        emission: rao(&shares.combined),
        bonds: bonding.stored,
        active: standing.active.clone(),
        new_validator_permit: new_permit.clone(),
        raw: None,
    };
    let Some((raw, weights)) = bonding.raw.zip(submitted) else { return epoch };
    let (_, legacy_prerank) = consensus::support(&weights, &vec![I32F32::MAX; state.n()], active_stake);
    let raw = Raw {
        weights_for_bonds,
        legacy_trust: consensus::trust(&rank, &legacy_prerank),
        legacy_prerank,
        stake_norm: stake_norm.clone(),
        active_stake: active_stake.clone(),
        clipped_weights: bonds::weights_for_bonds(weights.clone(), &consensus, I32F32::ONE),
        weights_norm: weights,
        consensus,
        validator_trust,
        rank,
        incentive,
        bonds_old: old_bonds.to_csr(),
        bonds_delta: raw.delta,
        consensus_for_liquid_alpha: raw.reference_consensus,
        alphas: raw.alphas,
        ema_bonds: raw.stored,
        ema_bonds_norm: raw.normalized,
        total_bonds_per_validator: raw.total_bonds,
        dividends: bonding.dividends,
        norm_server_emission: shares.server,
        norm_validator_emission: shares.validator,
        norm_combined_emission: shares.combined,
    };
    Epoch { raw: Some(Box::new(raw)), ..epoch }
}

/// What bonds are bought with and paid by.
struct Market<'a, Old> {
    state: &'a State,
    old: &'a Old,
    weights: &'a Csr<I32F32>,
    active_stake: &'a [I32F32],
    consensus: &'a [I32F32],
    incentive: &'a [I32F32],
    new_permit: &'a [bool],
    keep: Keep,
}

impl<Old: Matrix<Value = I32F32>> Market<'_, Old> {
    /// Bonds bought with stake; what they earn is shared by bonds alone (§8.A).
    fn yuma2(&self) -> Bonding {
        let bought = self.weights.mapped(|row, _, weight| weight.saturating_mul(self.active_stake[row]));
        let sums = Divisors::sums(&bought);
        let delta = sums.of(&bought);
        let alpha = bonds::moving_average_alpha(self.state.hyper.bonds_moving_average);
        let mut normalized = bonds::moving_average(&delta, self.old, alpha);
        Divisors::sums(&normalized).divide_all(&mut normalized);
        let mut dividends = bonds::earnings(&normalized, self.incentive);
        I32F32::normalize(&mut dividends);
        let largest = Divisors::largest(&normalized);
        Bonding {
            stored: self.stored(&normalized, |column, bond| largest.divide(column, bond)),
            dividends,
            raw: (self.keep == Keep::Raw).then(|| RawBonding {
                delta: Some(delta.to_csr()),
                reference_consensus: None,
                alphas: None,
                stored: largest.of(&normalized).to_csr(),
                normalized: normalized.clone(),
                total_bonds: None,
            }),
        }
    }

    /// Bonds bought with weights; stake counts in what they earn (§8.B).
    fn yuma3(&self) -> Bonding {
        let hyper = &self.state.hyper;
        let (mut reference_consensus, mut alphas) = (None, None);
        let average = if hyper.liquid_alpha && self.consensus.iter().any(|&consensus| consensus != I32F32::ZERO) {
            let alpha = LiquidAlpha::new(hyper.alpha_low, hyper.alpha_high, hyper.alpha_sigmoid_steepness);
            let reference = liquid::reference_consensus(hyper, self.consensus, &self.state.stored_consensus);
            let average = liquid::moving_average(self.weights, self.old, &reference, &alpha);
            alphas = (self.keep == Keep::Raw).then(|| liquid::rates(self.weights, self.old, &reference, &alpha));
            reference_consensus = Some(reference);
            average
        } else {
            bonds::moving_average(self.weights, self.old, bonds::moving_average_alpha(hyper.bonds_moving_average))
        };
        let sums = Divisors::sums(&average);
        let normalized = sums.of(&average);
        let total_bonds = bonds::earnings(&normalized, self.incentive);
        let earned = |(total, stake): (&I32F32, &I32F32)| total.checked_mul(*stake).unwrap_or(I32F32::ZERO);
        let mut dividends: Vec<I32F32> = total_bonds.iter().zip(self.active_stake).map(earned).collect();
        I32F32::normalize(&mut dividends);
        Bonding {
            stored: self.stored(&average, |_, bond| bond),
            dividends,
            raw: (self.keep == Keep::Raw).then(|| RawBonding {
                delta: None,
                reference_consensus,
                alphas,
                normalized: normalized.to_csr(),
                stored: average.clone(),
                total_bonds: Some(total_bonds),
            }),
        }
    }

    /// Bonds as they go to storage, each converted by column and value.
    fn stored(&self, bonds: &Csr<I32F32>, convert: impl Fn(u16, I32F32) -> I32F32) -> Csr<u16> {
        if self.keep == Keep::Little {
            return Csr::empty(self.state.n());
        }
        bonds::stored(bonds, self.new_permit, convert)
    }
}

/// What the pot is shared by where nobody earned anything: stake, the active one where there is any (§9).
pub(super) fn fallback<'a>(stake: &'a [I32F32], active_stake: &'a [I32F32]) -> &'a [I32F32] {
    if active_stake.iter().sum::<I32F32>() == I32F32::ZERO { stake } else { active_stake }
}

/// Shares of the pot: incentive and dividends over the sum of both; where nobody earned anything, the fallback (§9).
pub(super) fn shares(incentive: &[I32F32], dividends: &[I32F32], fallback: &[I32F32]) -> Shares {
    let mut combined: Vec<I32F32> = incentive.iter().zip(dividends).map(|(i, d)| i.saturating_add(*d)).collect();
    let sum: I32F32 = combined.iter().sum();
    if sum == I32F32::ZERO {
        return Shares { server: incentive.to_vec(), validator: fallback.to_vec(), combined: fallback.to_vec() };
    }
    let over_sum = |values: &[I32F32]| values.iter().map(|value| value.safe_div(sum)).collect();
    let (server, validator) = (over_sum(incentive), over_sum(dividends));
    I32F32::normalize(&mut combined);
    Shares { server, validator, combined }
}

/// Blocks of all n uids: missing ones count as 0.
fn padded(blocks: &[u64], n: usize) -> Cow<'_, [u64]> {
    if blocks.len() == n {
        return Cow::Borrowed(blocks);
    }
    let mut padded = blocks.to_vec();
    padded.resize(n, 0);
    Cow::Owned(padded)
}

/// In 65535ths, truncated.
pub(super) fn proportions(values: &[I32F32]) -> Vec<u16> {
    values.iter().map(|value| value.to_proportion()).collect()
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
