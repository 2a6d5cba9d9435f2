//! What the epoch would be with other weights of one validator, over and over.

use super::consensus::{Range, Votes};
use super::epoch::{Keep, Standing, Workspace, settled, standing};
use super::output::Epoch;
use super::state::{EpochConsensus, State};
use super::{null, weights};
use crate::fixed::I32F32;
use crate::matrix::{Csr, Matrix};
use crate::{Error, Result};

/// A subnet and a validator who has not decided on a row of weights yet.
///
/// What does not depend on the row is computed once: everybody else's weights in shares, the bonds that are there, and the range in
/// which the row can move each miner's consensus. An answer then takes half of an epoch's time.
#[derive(Debug)]
pub struct WhatIf<'a> {
    state: &'a State,
    validator: u16,
    standing: Standing<'a>,
    weights: Csr<I32F32>,
    bonds: Csr<I32F32>,
    ranges: Vec<Range>,
}

impl<'a> WhatIf<'a> {
    /// Prepares for the rows of a validator, by uid. They will be as old as those the state has of it.
    ///
    /// # Errors
    /// [`Error::Usage`] if the validator is not in the subnet.
    pub fn new(state: &'a State, validator: u16) -> Result<Self> {
        let uid = usize::from(validator);
        if uid >= state.n() {
            return Err(Error::Usage {
                argument: "validator".into(),
                problem: format!("uid {validator} is not below n = {}", state.n()),
                remedy: "name a neuron of the subnet".into(),
            });
        }
        let standing = standing(state);
        let weights = {
            let admitted = weights::admitted(&state.weights, standing.admission(state));
            let others = admitted.filtered(|row, _, weight| (row != uid).then_some(weight));
            weights::shares(&others, Csr::default())
        };
        let kappa = I32F32::from_proportion(state.hyper.kappa);
        let ranges = Votes::default().ranges(&weights, &standing.active_stake, kappa, uid);
        let bonds = standing.old_bonds(state).to_csr();
        Ok(Self { state, validator, standing, weights, bonds, ranges })
    }

    /// The epoch with this row of weights, uids and weights in submission order, in the validator's place; without its bonds.
    ///
    /// # Errors
    /// [`Error::File`] if a weight is on nobody.
    pub fn epoch(&self, row: &[(u16, u16)]) -> Result<Epoch> {
        if self.state.hyper.epoch_consensus == EpochConsensus::Null {
            return Ok(Epoch {
                bonds: Csr::empty(self.state.n()),
                ..null::epoch(&self.state.with_row(self.validator, row)?)
            });
        }
        let (n, uid) = (self.state.n(), usize::from(self.validator));
        if let Some(entry) = row.iter().find(|entry| usize::from(entry.0) >= n) {
            return Err(super::state::on_nobody(uid, entry.0, n).in_file("state"));
        }
        Ok(Workspace::lend(|workspace| {
            let admission = self.standing.admission(self.state);
            let mut weights = std::mem::take(&mut workspace.weights).emptied(self.weights.len() + row.len());
            weights.append_rows(&self.weights, 0..uid);
            weights::push_shares(&mut weights, row.iter().copied().filter(|entry| admission.counts(uid, entry.0)));
            weights.append_rows(&self.weights, uid + 1..n);

            let mut consensus: Vec<I32F32> = self.ranges.iter().map(|range| range.at(I32F32::ZERO)).collect();
            for (column, weight) in weights.row(uid) {
                consensus[usize::from(column)] = self.ranges[usize::from(column)].at(weight);
            }
            settled(self.state, &self.standing, &self.bonds, weights, consensus, Keep::Little, workspace)
        }))
    }
}
