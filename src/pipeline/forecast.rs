//! What an epoch would bring a validator, before it submits: its row as it would be, or thousands of what-ifs in one batch.

use rayon::prelude::*;
use serde::Serialize;

use crate::Result;
use crate::device::Device;
use crate::fixed::I32F32;
use crate::stages::yuma::device::epochs_without_bonds;
use crate::stages::yuma::row::Row;
use crate::stages::yuma::what_if::WhatIf;
use crate::stages::yuma::{Epoch, Hyperparameters, State, epochs};

/// States that lie in memory at a time where a device asks for them in batches.
const BATCH: usize = 512;

/// What may be different.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// The subnet's parameters; as they are if `None`.
    pub hyper: Option<Hyperparameters>,
    /// The validator's weights, submitted in the state's block; as they are if `None`.
    pub row: Option<Row>,
}

/// What a validator gets from an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// How much of its weight is left under consensus, in 65535ths.
    pub validator_trust: u16,
    /// Its share of what validators earn, in 65535ths.
    pub dividends: u16,
    /// What it earns as a validator, in rao.
    #[serde(serialize_with = "decimal")]
    pub validator_emission: u64,
    /// What it earns in all, in rao.
    #[serde(serialize_with = "decimal")]
    pub emission: u64,
}

fn decimal<S: serde::Serializer>(rao: &u64, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(rao)
}

impl Answer {
    /// What an epoch gives one uid.
    fn of(epoch: &Epoch, uid: u16) -> Self {
        let uid = usize::from(uid);
        Self {
            validator_trust: epoch.validator_trust[uid],
            dividends: epoch.dividends[uid],
            validator_emission: epoch.validator_emission[uid],
            emission: epoch.emission[uid],
        }
    }
}

/// One weight, and how much of it consensus takes. In 65535ths of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Who is weighed.
    pub uid: u16,
    /// The weight, as a share of the row.
    pub weight: u16,
    /// What consensus allows.
    pub consensus: u16,
    /// What the weight loses, and so validator trust.
    pub lost: u16,
}

/// What one row of weights would bring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The epoch with the weights that the state has.
    pub today: Answer,
    /// The epoch with the row.
    pub forecast: Answer,
    /// Consensus on every uid with the row, in 65535ths.
    pub consensus: Vec<u16>,
    /// The weights of the row that count, those that cost most first.
    pub costs: Vec<Cost>,
}

/// Foretells what a row of weights would bring a validator, if it were submitted in the state's block.
///
/// # Errors
/// [`Error::File`](crate::Error::File) if the row weighs nobody; [`Error::Device`](crate::Error::Device) if the device fails.
pub fn forecast(device: &Device, state: &State, validator: u16, row: &Row) -> Result<Forecast> {
    let states = [state.clone(), state.with_submitted(validator, row)?];
    let epochs = epochs(device, &states)?;
    let (today, then) = (&epochs[0], &epochs[1]);
    let mut costs: Vec<(I32F32, Cost)> = Vec::new();
    if let Some(raw) = Epoch::with_raw(&states[1]).raw {
        for (uid, weight) in raw.weights_norm.row(validator.into()) {
            let consensus = raw.consensus[usize::from(uid)];
            let lost = weight.saturating_sub(weight.min(consensus));
            let [weight, consensus, share] = [weight, consensus, lost].map(I32F32::to_proportion);
            costs.push((lost, Cost { uid, weight, consensus, lost: share }));
        }
    }
    costs.sort_by_key(|(lost, cost)| (std::cmp::Reverse(*lost), cost.uid));
    Ok(Forecast {
        today: Answer::of(today, validator),
        forecast: Answer::of(then, validator),
        consensus: then.consensus.clone(),
        costs: costs.into_iter().map(|(_, cost)| cost).collect(),
    })
}

/// Answers many questions, in their order.
///
/// On the CPU, questions in a row with the same parameters share what does not depend on the validator's weights ([`WhatIf`]). On
/// other devices they are asked in batches, to which each uploads only what it changes.
///
/// # Errors
/// As [`forecast`].
pub fn answers(device: &Device, state: &State, validator: u16, questions: &[Question]) -> Result<Vec<Answer>> {
    if device.is_cpu() {
        let groups: Vec<&[Question]> =
            questions.chunk_by(|a, b| a.hyper == b.hyper && a.row.is_some() == b.row.is_some()).collect();
        let answers = groups.par_iter().map(|group| answers_of_group(state, validator, group));
        return Ok(answers.collect::<Result<Vec<_>>>()?.concat());
    }
    let mut answers = Vec::with_capacity(questions.len());
    for batch in questions.chunks(BATCH) {
        let states = batch.par_iter().map(|question| question.state(state, validator)).collect::<Result<Vec<_>>>()?;
        answers.extend(epochs_without_bonds(device, &states)?.iter().map(|epoch| Answer::of(epoch, validator)));
    }
    Ok(answers)
}

/// Answers questions about one set of parameters, all with a row or all without.
fn answers_of_group(state: &State, validator: u16, group: &[Question]) -> Result<Vec<Answer>> {
    let Some(first) = group.first() else { return Ok(vec![]) };
    if first.row.is_none() {
        let answer = Answer::of(&Epoch::new(&first.state(state, validator)?), validator);
        return Ok(vec![answer; group.len()]);
    }
    let undecided = Question { row: Some(Row::new()), hyper: first.hyper }.state(state, validator)?;
    let what_if = WhatIf::new(&undecided, validator)?;
    let rows = group.par_iter().map(|question| question.row.as_deref().unwrap_or_default());
    rows.map(|row| Ok(Answer::of(&what_if.epoch(row)?, validator))).collect()
}

impl Question {
    /// The state that is asked about.
    fn state(&self, state: &State, validator: u16) -> Result<State> {
        let mut fields = state.clone().into_fields();
        if let Some(row) = &self.row {
            fields.submit(validator, row)?;
        }
        fields.hyper = self.hyper.unwrap_or(fields.hyper);
        State::new(fields)
    }
}
