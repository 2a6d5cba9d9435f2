//! tauscore: a GPU-accelerated scoring engine for Bittensor validators.

pub mod data;
mod error;
pub mod fixed;
pub mod matrix;
pub mod models;
pub mod stages;

pub use error::{Error, Result};
