//! Sparse and dense matrices.
