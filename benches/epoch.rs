//! Epochs a second: single ones on the CPU by size, density and kind of bonds, candidate rows, and what-ifs in batches on every
//! adapter, in every variant of the kernels.
#![expect(clippy::expect_used, reason = "a bench that cannot run must say so")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rayon::prelude::*;
use tauscore::device::{Device, Noise, Variant, adapters};
use tauscore::matrix::Csr;
use tauscore::pipeline::forecast::{Question, answers};
use tauscore::stages::yuma::device::{epochs, epochs_without_bonds};
use tauscore::stages::yuma::row::Row;
use tauscore::stages::yuma::{Epoch, Fields, Hyperparameters, State};

/// What-ifs of one call to an adapter.
const BATCH: usize = 250;

/// Whose rows they are about.
const VALIDATOR: u16 = 7;

/// A subnet of `validators` and `miners`, every validator with weights on almost the same `percent` of the miners, so that there is
/// consensus, after one epoch.
fn subnet(validators: usize, miners: usize, percent: u32, yuma3: bool, liquid_alpha: bool) -> State {
    let mut noise = Noise::new(11);
    let n = miners;
    let weighed: Vec<bool> = (0..n).map(|_| noise.below(100) < percent).collect();
    let mut weights = Csr::with_capacity(n, 0);
    for uid in 0..n {
        for column in 0..n as u16 {
            if uid < validators && weighed[usize::from(column)] && noise.below(10) > 0 {
                weights.push(column, 1 + noise.below(65_535) as u16);
            }
        }
        weights.end_row();
    }
    let mut state = State::new(Fields {
        block: 10_000,
        last_mechanism_step_block: 9_640,
        rao_emission: 148_000_000_000,
        hyper: Hyperparameters {
            yuma3,
            liquid_alpha,
            max_allowed_validators: validators as u16,
            bonds_penalty: 65_535,
            ..Hyperparameters::default()
        },
        stake: (0..n).map(|uid| if uid < validators { 1 + u64::from(noise.bits()) } else { 0 }).collect(),
        validator_permit: (0..n).map(|uid| uid < validators).collect(),
        last_update: vec![9_900; n],
        block_at_registration: vec![100; n],
        weights,
        bonds: Csr::empty(n),
        ..Fields::default()
    })
    .expect("a valid state");
    state.advance(&Epoch::new(&state)).expect("its own epoch");
    state
}

/// Candidate rows of one validator: for as many of the miners as it weighs now.
fn candidates(base: &State, count: usize, seed: u64) -> Vec<Question> {
    let mut noise = Noise::new(seed);
    let uids: Vec<u16> = base.weights.row(VALIDATOR.into()).map(|entry| entry.0).collect();
    let mut row = || uids.iter().map(|&uid| (uid, 1 + noise.below(65_535) as u16)).collect();
    (0..count).map(|_| Question { hyper: None, row: Some(row()) }).collect()
}

/// The subnet with each of the rows.
fn what_ifs(base: &State, questions: &[Question]) -> Vec<State> {
    let with = |row: &Row| base.with_submitted(VALIDATOR, row).expect("a valid state");
    questions.iter().filter_map(|question| question.row.as_ref()).map(with).collect()
}

const KINDS: [(&str, bool, bool); 3] = [("yuma2", false, false), ("yuma3", true, false), ("liquid", true, true)];

fn single(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("epoch on one CPU thread");
    group.sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    for (validators, miners, percent) in
        [(64, 256, 10), (256, 1024, 10), (256, 4096, 10), (64, 256, 100), (256, 1024, 100)]
    {
        for (kind, yuma3, liquid) in KINDS {
            let state = subnet(validators, miners, percent, yuma3, liquid);
            let name = format!("{validators}x{miners} {percent} %");
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                bencher.iter(|| Epoch::new(black_box(&state)));
            });
        }
    }
    group.finish();
}

/// Ten thousand candidate rows, as `tauscore forecast --sweep` asks about them.
fn forecasts(criterion: &mut Criterion) {
    const QUESTIONS: usize = 10_000;
    let two = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
    let mut group = criterion.benchmark_group(format!("{QUESTIONS} what-ifs of 64x256 on two CPU threads"));
    group.sample_size(10).throughput(Throughput::Elements(QUESTIONS as u64));
    for percent in [10, 100] {
        for (kind, yuma3, liquid) in KINDS {
            let base = subnet(64, 256, percent, yuma3, liquid);
            let questions = candidates(&base, QUESTIONS, 1);
            group.bench_function(BenchmarkId::new(kind, format!("{percent} %")), |bencher| {
                bencher.iter(|| two.install(|| answers(&Device::cpu(), &base, VALIDATOR, black_box(&questions))));
            });
        }
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let both = [Variant::Core, Variant::Int64];
    let devices: Vec<Device> = adapters()
        .iter()
        .flat_map(|adapter| both.iter().filter_map(|&variant| adapter.open_as(variant).ok()))
        .collect();
    let mut group = criterion.benchmark_group(format!("{BATCH} what-ifs of 64x256"));
    group.sample_size(10).throughput(Throughput::Elements(BATCH as u64));
    for (kind, yuma3, liquid) in KINDS {
        let base = subnet(64, 256, 100, yuma3, liquid);
        let states = what_ifs(&base, &candidates(&base, BATCH, 1));
        let right: Vec<Epoch> = states.par_iter().map(Epoch::new).collect();
        let threads = format!("CPU, {} threads", rayon::current_num_threads());
        group.bench_function(BenchmarkId::new(kind, threads), |bencher| {
            bencher.iter(|| states.par_iter().map(Epoch::new).collect::<Vec<_>>());
        });
        for device in std::iter::once(&Device::cpu()).chain(&devices) {
            let found = epochs(device, &states).expect("the device does not fail");
            assert!(found == right, "{} does not compute what the CPU computes", device.name());
            let name =
                if device.is_cpu() { "CPU twins".into() } else { format!("{}, {}", device.name(), device.variant()) };
            group.bench_function(BenchmarkId::new(kind, format!("{name}, with bonds")), |bencher| {
                bencher.iter(|| epochs(device, black_box(&states)));
            });
            group.bench_function(BenchmarkId::new(kind, name), |bencher| {
                bencher.iter(|| epochs_without_bonds(device, black_box(&states)));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, single, forecasts, batches);
criterion_main!(benches);
