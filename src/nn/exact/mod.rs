//! The integer encoder XQ1: the same bits on every machine, in any batch, because there is not one float in it.
//!
//! A checkpoint is converted once ([`IntegerModel::convert`]) into integers that are kept in one file, whose SHA-256 names the
//! function. That no sum leaves its 32 bits, whatever the token ids, is proven from the weights ([`IntegerModel::ranges`])
//! before a model is used. The layers are kernels, one file each, twin and host side.
//!
//! Values between the matrix products are i32 with 15 bits behind the point (Q15); the products take integers of 14 bits, with a
//! step for each token, and weights of 8, with a step for each row.

pub mod arithmetic;
pub mod attention;
pub mod convert;
pub mod embed;
pub mod linear;
pub mod model;
pub mod norm;
pub mod pool;
pub mod quantise;
pub mod ranges;
pub(crate) mod row;

pub use model::{IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm};
