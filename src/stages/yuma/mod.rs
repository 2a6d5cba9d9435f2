//! Yuma Consensus.
