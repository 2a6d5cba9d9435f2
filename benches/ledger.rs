//! A ledger of 100,000 entries: opened, and verified on one core; a round of 10,000 responses, appended.
#![expect(clippy::expect_used, clippy::print_stdout, reason = "a bench that cannot run must say so")]

#[path = "../tests/common/ledgers.rs"]
mod ledgers;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tauscore::config::Config;
use tauscore::ledger::{Body, Demands, Ledger, Place, verify};
use tauscore::stages::weights::Memory;

const ENTRIES: u64 = 100_000;

fn ledger(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::default();
    let mut group = criterion.benchmark_group("ledger");
    group.sample_size(10);

    // 10,000 responses: 250 miners and 40 prompts. What an append waits for is the disk.
    let path = folder.path().join("append.ledger");
    let mut ledger = Ledger::open(&path).expect("a ledger");
    let mut number = 0;
    group.bench_function("append a round of 10,000 responses", |bencher| {
        bencher.iter_custom(|times| {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                number += 1;
                let (round, _) = ledgers::round(&config, number, 250, 40, &Memory::default());
                let place = Place { block: number, ..ledgers::PLACE };
                let began = Instant::now();
                let body = Body::Round(Box::new(round));
                ledger.append(place, ledgers::digest(&config), body, None).expect("appended");
                spent += began.elapsed();
            }
            spent
        });
    });
    drop(ledger);

    let path = folder.path().join("long.ledger");
    ledgers::write(&path, &config, ENTRIES, 4, 2);
    let bytes = std::fs::metadata(&path).expect("a file").len();
    println!("{ENTRIES} entries of 8 responses: {:.1} MB", bytes as f64 / 1e6);
    group.bench_function("open 100,000 entries", |bencher| {
        bencher.iter(|| assert_eq!(Ledger::open(&path).expect("a ledger").entries(), ENTRIES, "all of them"));
    });
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    group.bench_function("verify 100,000 entries on one core", |bencher| {
        bencher.iter(|| {
            let verified = one.install(|| verify(&path, &Demands::default(), |_| {})).expect("a ledger");
            assert_eq!((verified.entries, verified.findings.len()), (ENTRIES, 0), "all of them, and nothing wrong");
        });
    });
    group.finish();
}

criterion_group!(benches, ledger);
criterion_main!(benches);
