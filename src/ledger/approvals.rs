//! Approvals: validators agree, by signature and with their stake behind it, to other criteria.
#![deny(clippy::float_arithmetic)]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize, Serializer};

use super::{Digest, PublicKey, Scheme, Signature, Signer};
use crate::data::read_text;
use crate::stages::yuma::{State, stake};
use crate::{Error, Result};

/// Other criteria for a subnet's mechanism, by their digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// Those in force; zeros where there are none yet.
    pub from: Digest,
    /// Those that are to be.
    pub to: Digest,
    /// The subnet.
    pub netuid: u16,
    /// The mechanism within the subnet.
    pub mechanism: u8,
}

impl Proposal {
    /// What is signed: text that a person can read and any signing tool takes.
    pub fn message(&self) -> String {
        let Self { from, to, netuid, mechanism } = self;
        format!("tauscore criteria approval 1\nnetuid {netuid}\nmechanism {mechanism}\nfrom {from}\nto {to}\n")
    }

    /// Approves it.
    ///
    /// # Errors
    /// As [`Signer::sign`].
    pub fn approve(self, signer: &Signer) -> Result<Approval> {
        let signature = signer.sign(self.message().as_bytes())?;
        Ok(Approval { by: signer.public(), proposal: self, signature })
    }
}

/// That a validator agrees. As JSON it is one flat object: `hotkey`, `scheme`, `from`, `to`, `netuid`, `mechanism`, `signature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Approval {
    /// Who agrees.
    #[serde(flatten)]
    pub by: PublicKey,
    /// To what.
    #[serde(flatten)]
    pub proposal: Proposal,
    /// The signature of [`Proposal::message`].
    pub signature: Signature,
}

/// Reads approvals: JSON Lines, as `tauscore criteria approve` prints them; `-` is standard input.
///
/// # Errors
/// [`Error::Row`] naming the line.
pub fn read_approvals(path: &Path) -> Result<Vec<Approval>> {
    let text = read_text(path)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(at, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::Row {
            file: path.display().to_string(),
            line: at + 1,
            field: "approval".into(),
            // Without the place: the line is always the first.
            problem: error.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
            remedy: "keep the lines as `tauscore criteria approve` prints them".into(),
        })
    };
    lines.map(read).collect()
}

/// Those of the approvals that are of this proposal: a file may gather them over years.
pub fn for_proposal(approvals: &[Approval], proposal: &Proposal) -> Vec<Approval> {
    approvals.iter().filter(|approval| approval.proposal == *proposal).copied().collect()
}

/// Somebody who may vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Voter {
    /// The uid.
    pub uid: u16,
    /// The hotkey as the subnet's state has it.
    pub hotkey: String,
    /// What counts behind it, in rao of alpha.
    #[serde(rename = "rao_stake", serialize_with = "decimal")]
    pub stake: u64,
}

/// How much stake stands behind a proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Tally {
    /// Who approved, by ascending uid.
    pub approvers: Vec<Voter>,
    /// Their stake together, in rao.
    #[serde(rename = "rao_approved", serialize_with = "decimal")]
    pub approved: u128,
    /// The stake of all who may vote, in rao.
    #[serde(rename = "rao_total", serialize_with = "decimal")]
    pub total: u128,
    /// The majority that is needed, in 65535ths of it.
    pub kappa: u16,
    /// Whether it is reached: `approved / total >= kappa / 65535`, and somebody approved.
    pub adopted: bool,
}

/// Amounts that JSON's numbers may not hold.
fn decimal<S: Serializer>(amount: &(impl Copy + Into<u128>), serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&(*amount).into())
}

/// Who may vote, by ascending uid: validators with a permit, the owner among them, each with the stake that the epoch counts: alpha and
/// weighted TAO, nothing below the threshold. Whether they have set weights lately plays no part.
///
/// # Errors
/// [`Error::Usage`] if the state has no hotkeys.
pub fn voters(state: &State) -> Result<Vec<Voter>> {
    if state.hotkeys.is_empty() {
        return Err(Error::Usage {
            argument: "the state".into(),
            problem: "it has no hotkeys, so that nobody can vote".into(),
            remedy: "give a state with its `hotkeys`".into(),
        });
    }
    let hyper = &state.hyper;
    let mut total = stake::total(&state.stake, state.tao_stake.as_deref(), hyper.tao_weight);
    stake::filter(&mut total, hyper.stake_threshold, hyper.owner_uid);
    let neurons = (0..).zip(&state.validator_permit).zip(&state.hotkeys).zip(total);
    let voters = neurons.filter(|(((uid, permit), _), _)| **permit || hyper.owner_uid == Some(*uid));
    Ok(voters.map(|(((uid, _), hotkey), stake)| Voter { uid, hotkey: hotkey.clone(), stake: stake.to_u64() }).collect())
}

/// Counts what `approvals` say of the change `from` -> `to` of the criteria of the state's mechanism; those of other changes do not count.
/// Kappa is the state's.
///
/// # Errors
/// As [`voters`] and [`recount`].
pub fn tally(approvals: &[Approval], state: &State, from: Digest, to: Digest) -> Result<Tally> {
    let proposal = Proposal { from, to, netuid: state.netuid, mechanism: state.mechid };
    recount(&proposal, &voters(state)?, state.hyper.kappa, &for_proposal(approvals, &proposal))
}

/// Counts again from plain data. Who approved more than once counts once.
///
/// The majority is the one of the chain's consensus with a vote of one for yes and zero for no: the largest value that `kappa` of the
/// stake supports, for which a support of exactly `kappa` is enough (YUMA §6).
///
/// # Errors
/// [`Error::Usage`] naming who approved something else, signed wrongly, or may not vote.
pub fn recount(proposal: &Proposal, voters: &[Voter], kappa: u16, approvals: &[Approval]) -> Result<Tally> {
    let mut by_key = HashMap::with_capacity(voters.len());
    for (at, voter) in voters.iter().enumerate() {
        // The scheme is not the account's; names that are no addresses cannot sign.
        if let Ok(public) = PublicKey::from_address(&voter.hotkey, Scheme::default()) {
            by_key.entry(public.key).or_insert(at);
        }
    }
    let mut approved = BTreeSet::new();
    for approval in approvals {
        let refuse = |problem: &str, remedy: &str| {
            let argument = format!("the approval by {}", approval.by);
            Err(Error::Usage { argument, problem: problem.into(), remedy: remedy.into() })
        };
        if approval.proposal != *proposal {
            return refuse("it is of another change", "leave it out");
        }
        let Some(&at) = by_key.get(&approval.by.key) else {
            return refuse(
                "this hotkey is not a validator with a permit in the subnet's state",
                "leave it out, or bring the state up to date",
            );
        };
        if !approval.by.verify(proposal.message().as_bytes(), &approval.signature) {
            return refuse(
                "its signature is not that of the change by this key",
                "leave it out, or let it be signed anew with `tauscore criteria approve`",
            );
        }
        approved.insert(at);
    }
    let sum = |voters: &mut dyn Iterator<Item = &Voter>| voters.map(|voter| u128::from(voter.stake)).sum::<u128>();
    let approvers: Vec<Voter> = approved.into_iter().map(|at| voters[at].clone()).collect();
    let (approved, total) = (sum(&mut approvers.iter()), sum(&mut voters.iter()));
    let adopted = approved > 0 && approved * u128::from(u16::MAX) >= total * u128::from(kappa);
    Ok(Tally { approvers, approved, total, kappa, adopted })
}
