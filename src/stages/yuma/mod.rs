//! Yuma Consensus: a subnet's weights, stakes and bonds in; consensus, incentive, dividends, bonds and emission out.
//!
//! The same bits as the chain's own epoch. [`State`] is what goes in, [`Epoch`] what comes out, and [`epoch`] reads from top to bottom
//! in the order of the paper; each step is a plain function over rows or vectors in the file of its name.
#![deny(clippy::float_arithmetic)]

pub mod bonds;
pub mod cases;
pub mod consensus;
mod decode;
pub mod device;
pub mod epoch;
pub mod liquid;
pub mod mechanism;
mod metagraph;
pub mod null;
mod output;
pub mod row;
pub mod stake;
mod state;
pub mod submission;
pub mod weights;
pub mod what_if;

use rayon::prelude::*;

pub use output::{Epoch, Raw};
pub use state::{ActivityCutoff, ConsensusMode, EpochConsensus, Fields, Hyperparameters, State};

use crate::Result;
use crate::device::Device;

/// Computes the epochs of many states on a device: on the CPU one by one on all its threads, elsewhere in batches
/// ([`device::epochs`]). The bits are the same.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn epochs(device: &Device, states: &[State]) -> Result<Vec<Epoch>> {
    if device.is_cpu() { Ok(states.par_iter().map(Epoch::new).collect()) } else { device::epochs(device, states) }
}
