//! One epoch, in the paper's order.

use std::borrow::Cow;
use std::cell::Cell;

use super::bonds::Divisors;
use super::consensus::Votes;
use super::liquid::LiquidAlpha;
use super::output::{Epoch, Raw};
use super::state::{EpochConsensus, State};
use super::weights::Admission;
use super::{bonds, consensus, liquid, null, stake, weights};
use crate::fixed::I32F32;
use crate::matrix::{Csr, Dense, Matrix};

/// Memory that the epochs of a thread use one after the other: to ask the system for it anew took them a fifth of their time.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub weights: Csr<I32F32>,
    bonds: Csr<I32F32>,
    votes: Votes,
}

thread_local! {
    static WORKSPACE: Cell<Workspace> = Cell::default();
}

impl Workspace {
    /// Entries of which a thread keeps the memory: 64 MB.
    const MOST_ENTRIES: usize = 1 << 21;

    /// Lends the thread's workspace, or a fresh one where it is lent already.
    pub fn lend<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        let mut workspace = WORKSPACE.take();
        let result = work(&mut workspace);
        if workspace.weights.capacity().max(workspace.bonds.capacity()) <= Self::MOST_ENTRIES {
            WORKSPACE.set(workspace);
        }
        result
    }
}

/// Bonds after the epoch and what they earn.
struct Bonding {
    after: Csr<I32F32>,
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
#[derive(Debug)]
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
    Workspace::lend(|workspace| {
        // Weights: w_ij, what counts of the submitted rows, in shares.
        let admitted = weights::admitted(&state.weights, standing.admission(state));
        let weights = weights::shares(&admitted, std::mem::take(&mut workspace.weights));

        // Consensus: C_j, the stake-weighted median; c_ij = min(w_ij, C_j).
        let kappa = I32F32::from_proportion(state.hyper.kappa);
        let consensus = workspace.votes.consensus(&weights, &standing.active_stake, kappa);

        settled(state, &standing, &standing.old_bonds(state), weights, consensus, keep, workspace)
    })
}

/// The epoch from consensus on.
pub(super) fn settled(
    state: &State,
    standing: &Standing<'_>,
    old_bonds: &impl Matrix<Value = I32F32>,
    weights: Csr<I32F32>,
    consensus: Vec<I32F32>,
    keep: Keep,
    workspace: &mut Workspace,
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
        rank: &rank,
        incentive: &incentive,
        new_permit,
        keep,
    };
    let memory = std::mem::take(&mut workspace.bonds);
    let bonding = if hyper.yuma3 { market.yuma3(memory) } else { market.yuma2(memory) };
    workspace.bonds = bonding.after;

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
    let Some((raw, weights)) = bonding.raw.zip(submitted) else {
        workspace.weights = weights_for_bonds;
        return epoch;
    };
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
    rank: &'a [I32F32],
    incentive: &'a [I32F32],
    new_permit: &'a [bool],
    keep: Keep,
}

impl<Old: Matrix<Value = I32F32>> Market<'_, Old> {
    /// Bonds bought with stake; what they earn is shared by bonds alone (§8.A).
    fn yuma2(&self, memory: Csr<I32F32>) -> Bonding {
        let bought = self.weights.mapped(|row, _, weight| weight.saturating_mul(self.active_stake[row]));
        // With the penalty at 1 these are the products that rank has summed.
        let sums = match self.state.hyper.bonds_penalty {
            u16::MAX => Divisors::new(self.rank),
            _ => Divisors::sums(&bought),
        };
        let delta = sums.of(&bought);
        let alpha = bonds::moving_average_alpha(self.state.hyper.bonds_moving_average);
        let mut normalized = bonds::moving_average(&delta, self.old, alpha, memory);
        let largest = Divisors::sums(&normalized).divide_all(&mut normalized);
        let mut dividends = bonds::earnings(&normalized, self.incentive);
        I32F32::normalize(&mut dividends);
        let largest = Divisors::new(&largest);
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
            after: normalized,
        }
    }

    /// Bonds bought with weights; stake counts in what they earn (§8.B).
    fn yuma3(&self, memory: Csr<I32F32>) -> Bonding {
        let hyper = &self.state.hyper;
        let (mut reference_consensus, mut alphas) = (None, None);
        let average = if hyper.liquid_alpha && self.consensus.iter().any(|&consensus| consensus != I32F32::ZERO) {
            let alpha = LiquidAlpha::new(hyper.alpha_low, hyper.alpha_high, hyper.alpha_sigmoid_steepness);
            let reference = liquid::reference_consensus(hyper, self.consensus, &self.state.stored_consensus);
            let average = liquid::moving_average(self.weights, self.old, &reference, &alpha, memory);
            alphas = (self.keep == Keep::Raw).then(|| liquid::rates(self.weights, self.old, &reference, &alpha));
            reference_consensus = Some(reference);
            average
        } else {
            let alpha = bonds::moving_average_alpha(hyper.bonds_moving_average);
            bonds::moving_average(self.weights, self.old, alpha, memory)
        };
        let sums = Divisors::sums(&average);
        let total_bonds = bonds::earnings(&sums.of(&average), self.incentive);
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
                normalized: sums.of(&average).to_csr(),
                stored: average.clone(),
                total_bonds: Some(total_bonds),
            }),
            after: average,
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
