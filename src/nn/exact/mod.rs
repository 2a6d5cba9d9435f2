//! The integer encoder's layers: the same bits on every device, in any batch. One file a kernel, twin and host side.
//!
//! Values between the matrix products are i32 with 15 bits behind the point (Q15); the products take integers of 14 bits, with a
//! step for each token, and weights of 8, with a step for each row.

pub mod arithmetic;
pub mod attention;
pub mod embed;
pub mod linear;
mod model;
pub mod norm;
pub mod pool;
pub mod quantise;
pub(crate) mod row;

pub use model::{IntegerLayer, IntegerLinear, IntegerModel, IntegerNorm};
