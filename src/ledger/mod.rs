//! The record: what was signed, by whom, and who agreed.

mod approvals;
mod digest;
mod key_file;
mod signature;
mod signer;
mod ss58;

pub use approvals::{Approval, Proposal, Tally, Voter, for_proposal, read_approvals, recompute, tally, voters};
pub use digest::Digest;
pub use key_file::permissions_warning;
pub use signature::{PublicKey, Scheme, Signature};
pub use signer::Signer;
