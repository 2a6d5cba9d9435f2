//! How decentralised a subnet is, from its state: who holds what, whose weights are another's, and how far each validator is from consensus.
//!
//! All of it is integers: every machine finds the same.
#![deny(clippy::float_arithmetic)]

mod concentration;
mod copies;

use std::collections::BTreeMap;

use serde::Serialize;

pub use concentration::{Concentration, LARGEST};
pub use copies::CopiedRow;

use crate::fixed::I32F32;
use crate::stages::yuma::{Epoch, State, stake};
use concentration::ppm;

/// What is found out about a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The subnet.
    pub netuid: u16,
    /// The mechanism within it.
    pub mechid: u8,
    /// The block of the state.
    pub block: u64,
    /// How many uids there are.
    pub n: usize,
    /// By hotkey: of all the stake that the epoch counts, of those with a permit the votes (their active stake) and dividends, of the others
    /// the incentive.
    pub concentration: Vec<Concentration>,
    /// The same by coldkey; empty where coldkeys are not known.
    pub concentration_by_coldkey: Vec<Concentration>,
    /// Rows that were compared.
    pub compared: usize,
    /// Near-copies among them.
    pub copied_rows: Vec<CopiedRow>,
    /// Validators with a permit, those with most votes first. Empty where the subnet has no consensus.
    pub validators: Vec<Trust>,
}

/// Somebody in the subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Neuron {
    /// His uid.
    pub uid: u16,
    /// His hotkey; empty where it is not known.
    pub hotkey: String,
}

impl Neuron {
    fn of(state: &State, uid: usize) -> Self {
        Self { uid: uid as u16, hotkey: state.hotkeys.get(uid).cloned().unwrap_or_default() }
    }
}

/// A validator beside the consensus. Shares are in millionths, rounded down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trust {
    /// Who it is.
    #[serde(flatten)]
    pub validator: Neuron,
    /// His share of the active stake.
    pub votes_ppm: u32,
    /// How many miners he weighs with a weight that counts.
    pub weighs: usize,
    /// What is left of his weights under consensus: the epoch's validator trust.
    pub trust_ppm: u32,
    /// What lies above consensus and is cut off.
    pub above_ppm: u32,
    /// What his row has in common with consensus as shares: 1 - half of the sum of differences. `None` where one of them is empty.
    pub agreement_ppm: Option<u32>,
    /// His share of what validators earn.
    pub dividends_ppm: u32,
}

impl Audit {
    /// Of a state, with the epoch that it leads to.
    pub fn new(state: &State) -> Self {
        let (n, hyper) = (state.n(), &state.hyper);
        let epoch = Epoch::with_raw(state);
        let mut permit = state.validator_permit.clone();
        if let Some(owner) = hyper.owner_uid.and_then(|uid| permit.get_mut(usize::from(uid))) {
            *owner = true;
        }
        let mut total = stake::total(&state.stake, state.tao_stake.as_deref(), hyper.tao_weight);
        stake::filter(&mut total, hyper.stake_threshold, hyper.owner_uid);
        let mut last_update = state.last_update.clone();
        last_update.resize(n, 0);
        let active = stake::active(&last_update, hyper.activity_cutoff_blocks(), state.block);
        let votes = stake::active_stake(&stake::normalized(&total), &active, &permit);

        // Finer than 65535ths where there is finer.
        let fine = |raw: Option<&Vec<I32F32>>, stored: &[u16]| match raw {
            Some(raw) => raw.iter().map(amount).collect(),
            None => stored.iter().map(|share| u128::from(*share)).collect::<Vec<_>>(),
        };
        let raw = epoch.raw.as_deref();
        let incentive = fine(raw.map(|raw| &raw.incentive), &epoch.incentive);
        let dividends = fine(raw.map(|raw| &raw.dividends), &epoch.dividends);
        let all = |_: usize| true;
        let (with, without) = (|uid: usize| permit[uid], |uid: usize| !permit[uid]);
        // In rao: shares are rounded down, and of two halves one may come out larger.
        let voting = total.iter().zip(active.iter().zip(&permit));
        let voting = voting.map(|(stake, (active, permit))| if *active && *permit { stake.to_u64().into() } else { 0 });
        let voting = voting.collect();
        let held: [Held<'_>; 4] = [
            ("stake", total.iter().map(|stake| stake.to_u64().into()).collect(), &all, None),
            ("votes", voting, &with, Some(hyper.kappa)),
            ("incentive", incentive, &without, None),
            ("dividends", dividends, &with, None),
        ];
        let by_hotkey = |(name, amounts, may, kappa): &Held<'_>| {
            let held = amounts.iter().enumerate().filter(|(uid, amount)| may(*uid) || **amount > 0);
            Concentration::new(name, held.map(|(_, amount)| *amount).collect(), *kappa)
        };
        let by_coldkey = |(name, amounts, may, kappa): &Held<'_>| {
            let mut held: BTreeMap<&str, u128> = BTreeMap::new();
            for (uid, (coldkey, amount)) in state.coldkeys.iter().zip(amounts).enumerate() {
                if may(uid) || *amount > 0 {
                    *held.entry(coldkey).or_default() += amount;
                }
            }
            Concentration::new(name, held.into_values().collect(), *kappa)
        };
        let consensus = if state.stored_consensus.is_empty() { &epoch.consensus } else { &state.stored_consensus };
        let (compared, copied_rows) = copies::find(state, &permit, &votes, consensus);
        let known = !state.coldkeys.is_empty();
        Self {
            netuid: state.netuid,
            mechid: state.mechid,
            block: state.block,
            n,
            concentration: held.iter().map(by_hotkey).collect(),
            concentration_by_coldkey: if known { held.iter().map(by_coldkey).collect() } else { Vec::new() },
            compared,
            copied_rows,
            validators: trust(state, &epoch, &permit),
        }
    }
}

/// A name, amounts by uid, who may hold some, and kappa for votes.
type Held<'a> = (&'static str, Vec<u128>, &'a dyn Fn(usize) -> bool, Option<u16>);

fn amount(share: &I32F32) -> u128 {
    share.to_bits().max(0) as u128
}

/// Validators beside the consensus.
fn trust(state: &State, epoch: &Epoch, permit: &[bool]) -> Vec<Trust> {
    let Some(raw) = epoch.raw.as_deref() else { return Vec::new() };
    let one = amount(&I32F32::ONE);
    let mut validators: Vec<Trust> = (0..state.n())
        .filter(|uid| permit[*uid])
        .map(|uid| {
            let given: u128 = raw.weights_norm.row_values(uid).iter().map(amount).sum();
            let trusted = amount(&raw.validator_trust[uid]);
            let mut weights = vec![0; state.n()];
            for (to, weight) in raw.weights_norm.row(uid) {
                weights[usize::from(to)] = amount(&weight);
            }
            Trust {
                validator: Neuron::of(state, uid),
                votes_ppm: ppm(amount(&raw.active_stake[uid]), one),
                weighs: raw.weights_norm.row_values(uid).iter().filter(|weight| **weight > I32F32::ZERO).count(),
                trust_ppm: ppm(trusted, one),
                above_ppm: ppm(given.saturating_sub(trusted), one),
                agreement_ppm: agreement(&weights, &raw.consensus.iter().map(amount).collect::<Vec<_>>()),
                dividends_ppm: ppm(amount(&raw.dividends[uid]), one),
            }
        })
        .collect();
    validators.sort_by(|a, b| b.votes_ppm.cmp(&a.votes_ppm).then_with(|| a.validator.uid.cmp(&b.validator.uid)));
    validators
}

/// What two rows have in common as shares: `1 - SUM |a_j / A - b_j / B| / 2`, in millionths. Values are below 2^33, fewer than 2^16 of them.
fn agreement(a: &[u128], b: &[u128]) -> Option<u32> {
    let [whole_a, whole_b] = [a, b].map(|row| row.iter().sum::<u128>());
    let apart: u128 = a.iter().zip(b).map(|(a, b)| (a * whole_b).abs_diff(b * whole_a)).sum();
    let both = 2 * whole_a * whole_b;
    (both > 0).then(|| ppm(both - apart, both))
}

/// Millionths as a percentage with two digits, rounded down.
pub fn percent(ppm: u32) -> String {
    format!("{}.{:02} %", ppm / 10_000, ppm % 10_000 / 100)
}
