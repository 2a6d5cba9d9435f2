//! The record: a file of entries, each of which names the one before it by its digest, that anyone can replay.
//!
//! An entry is a scored round or a change of criteria. It has a small head, whose digest is what the next entry names and what is signed, and a
//! body with everything that weights and epoch were computed from. The head commits to the body and to three Merkle roots: over the responses, over
//! their scores and over the weights, so that a miner can prove his own line without anybody else's ([`Proof`]).
//!
//! [`Ledger`] appends, [`verify`] reads all of it again and computes weights and epochs anew, [`recompute`] scores the texts again.

mod approvals;
mod digest;
mod entry;
mod file;
mod key_file;
pub mod merkle;
mod proof;
mod recompute;
mod record;
mod signature;
mod signer;
mod ss58;
mod verify;

pub use approvals::{Approval, Proposal, Tally, Voter, for_proposal, read_approvals, recount, tally, voters};
pub use digest::Digest;
pub use entry::{
    Body, CriteriaChanged, Entry, Epoch, Head, Model, Place, ResponseLeaf, Round, ScoreLeaf, Vote, WeightLeaf,
};
pub use file::{Ledger, MAGIC};
pub use key_file::permissions_warning;
pub use proof::{Proof, Proved, prove};
pub use recompute::recompute;
pub use record::{Recording, prompts, responses, shaders, step};
pub use signature::{PublicKey, Scheme, Signature};
pub use signer::Signer;
pub use verify::{Demands, Finding, Verified, verify};
