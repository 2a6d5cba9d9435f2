//! The subnet's epoch with the round's weight row in a validator's place.

use serde::Serialize;

use super::Outcome;
use crate::device::Device;
use crate::stages::yuma::{Epoch, State, epochs};
use crate::{Error, Result};

/// An epoch and whose row was put in.
#[derive(Clone, Debug, Serialize)]
pub struct EpochResult {
    /// The validator's uid.
    pub validator: u16,
    /// What the chain would store.
    pub chain: Epoch,
}

impl EpochResult {
    /// The epoch of a state that has the validator's row in it, computed on the device.
    ///
    /// # Errors
    /// [`Error::Device`] if the device fails.
    pub fn new(device: &Device, validator: u16, state: &State) -> Result<Self> {
        let chain = epochs(device, std::slice::from_ref(state))?.pop();
        Ok(Self { validator, chain: chain.unwrap_or_else(|| Epoch::new(state)) })
    }
}

/// The uid of a validator who is named by hotkey or uid.
///
/// # Errors
/// [`Error::Usage`] if it is not in the subnet.
pub fn validator(state: &State, name: &str) -> Result<usize> {
    let by_hotkey = state.hotkeys.iter().position(|hotkey| hotkey == name);
    by_hotkey.or_else(|| name.parse().ok()).filter(|uid| *uid < state.n()).ok_or_else(|| Error::Usage {
        argument: "--validator".into(),
        problem: format!("{name:?} is neither a hotkey nor a uid of the subnet's {} neurons", state.n()),
        remedy: "name the validator whose row this is by its uid or hotkey".into(),
    })
}

/// Puts the round's weight row in the place of `validator`'s (a uid or a hotkey), as if submitted in the state's block,
/// and computes the epoch on the device.
///
/// # Errors
/// [`Error::Usage`] if the validator is not in the subnet or no scored miner is; [`Error::Device`] if the device fails.
pub fn epoch(device: &Device, state: &State, validator: &str, outcome: &Outcome) -> Result<EpochResult> {
    let refuse = |argument: &str, problem: String, remedy: &str| Error::Usage {
        argument: argument.into(),
        problem,
        remedy: remedy.into(),
    };
    let uid = self::validator(state, validator)?;
    let row = outcome.chain_row();
    let uids = || outcome.miners.iter().filter_map(|miner| miner.uid);
    if let Some(beyond) = uids().find(|uid| usize::from(uid.0) >= state.n()) {
        let problem = format!("uid {beyond} of the round is not among the subnet's {} neurons", state.n());
        return Err(refuse("--epoch", problem, "give the state of the subnet that the round is of"));
    }
    if uids().next().is_none() {
        let problem = "no scored miner is in the subnet".into();
        return Err(refuse("--epoch", problem, "give the rows a `uid`, or the state its `hotkeys`"));
    }

    let state = state.with_submitted(uid as u16, &row)?;
    EpochResult::new(device, uid as u16, &state)
}
