//! Forecasts: what they say is what the epoch does, whoever computes it and however many are asked for at once.

mod common;

use common::subnets::{Limits, random, row};
use tauscore::Error;
use tauscore::device::{Device, Noise};
use tauscore::fixed::I32F32;
use tauscore::pipeline::EpochResult;
use tauscore::pipeline::forecast::{Answer, Question, answers, forecast};
use tauscore::stages::yuma::{Epoch, State};

fn executors() -> Vec<Device> {
    std::iter::once(Device::cpu()).chain(common::devices()).collect()
}

/// What an epoch gives a validator.
fn given(epoch: &Epoch, validator: u16) -> Answer {
    let uid = usize::from(validator);
    Answer {
        validator_trust: epoch.validator_trust[uid],
        dividends: epoch.dividends[uid],
        validator_emission: epoch.validator_emission[uid],
        emission: epoch.emission[uid],
    }
}

/// Random questions about a subnet: rows, parameters, both or neither.
fn questions(noise: &mut Noise, state: &State, count: usize) -> Vec<Question> {
    let n = state.n() as u32;
    let mut hyper = None;
    (0..count)
        .map(|_| {
            if noise.below(4) == 0 {
                let like = random(noise, state.n(), Limits::Chain).hyper;
                hyper = (noise.below(3) > 0).then_some(like);
            }
            Question { hyper, row: (noise.below(5) > 0).then(|| row(noise, n, 2, Limits::Chain)) }
        })
        .collect()
}

#[test]
fn answers_are_those_of_the_epoch_on_every_device() {
    let mut noise = Noise::new(21);
    for subnet in 0..12 {
        let n = 2 + noise.below(30);
        let state = random(&mut noise, n as usize, Limits::Chain);
        let validator = noise.below(n) as u16;
        // More than one batch of a device.
        let questions = questions(&mut noise, &state, if subnet == 0 { 700 } else { 60 });
        let right: Vec<Answer> = questions
            .iter()
            .map(|question| {
                let mut fields = match &question.row {
                    Some(row) => state.with_submitted(validator, row).expect("uids below n").into_fields(),
                    None => state.clone().into_fields(),
                };
                fields.hyper = question.hyper.unwrap_or(fields.hyper);
                given(&Epoch::new(&State::new(fields).expect("a valid state")), validator)
            })
            .collect();
        for device in executors() {
            let found = answers(&device, &state, validator, &questions).expect("no device fails");
            assert_eq!(found, right, "subnet {subnet} on {}", device.name());
        }
    }
}

#[test]
fn costs_are_what_consensus_takes_and_sum_to_the_trust_that_is_missing() {
    let mut noise = Noise::new(22);
    for subnet in 0..100 {
        let n = 4 + noise.below(30);
        let state = random(&mut noise, n as usize, Limits::Chain);
        let validator = noise.below(n) as u16;
        let row = row(&mut noise, n, 2, Limits::Chain);
        let found = forecast(&Device::cpu(), &state, validator, &row).expect("the CPU does not fail");
        let submitted = state.with_submitted(validator, &row).expect("uids below n");
        let epoch = Epoch::new(&submitted);
        assert_eq!(found.today, given(&Epoch::new(&state), validator), "subnet {subnet}: today");
        assert_eq!(found.forecast, given(&epoch, validator), "subnet {subnet}: with the row");
        assert_eq!(found.consensus, epoch.consensus, "subnet {subnet}: consensus");
        assert!(found.costs.is_sorted_by_key(|cost| std::cmp::Reverse(cost.lost)), "subnet {subnet}: dearest first");
        let raw = Epoch::with_raw(&submitted).raw.expect("asked for");
        let weight: I32F32 = raw.weights_norm.row_values(validator.into()).iter().sum();
        let missing = weight.saturating_sub(raw.validator_trust[usize::from(validator)]).to_bits() as f64;
        let lost: f64 = found.costs.iter().map(|cost| f64::from(cost.lost)).sum();
        let dust = found.costs.len() as f64;
        let missing = missing / 2_f64.powi(32) * 65_535.0;
        assert!((missing - dust..=missing).contains(&lost), "subnet {subnet}: {lost} of {missing} are named");
    }
}

#[test]
fn a_row_that_weighs_nobody_is_refused() {
    let state = random(&mut Noise::new(23), 5, Limits::Chain);
    let question = Question { hyper: None, row: Some(vec![(5, 1)]) };
    for device in executors() {
        let error = answers(&device, &state, 0, std::slice::from_ref(&question)).expect_err("uid 5 of 5");
        assert!(matches!(error, Error::File { ref field, .. } if field == "weights"), "{error}");
    }
}

#[test]
fn the_epoch_of_a_round_is_the_same_on_every_device() {
    let mut noise = Noise::new(24);
    for n in 1..20 {
        let state = random(&mut noise, n, Limits::Chain);
        let right = Epoch::new(&state);
        for device in executors() {
            let found = EpochResult::new(&device, 0, &state).expect("no device fails");
            assert!(found.chain == right, "n = {n} on {}", device.name());
        }
    }
}
