//! The integer encoder XQ1: the same bits on every machine, because there is not one float in it.
//!
//! A checkpoint is converted once ([`IntegerModel::convert`]) into integers that are kept in one file, whose SHA-256 names the
//! function. That no sum leaves its 32 bits, whatever the token ids, is proven from the weights ([`IntegerModel::ranges`])
//! before a model is used.

pub mod convert;
pub mod model;
pub mod ranges;

pub use model::{IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm};
