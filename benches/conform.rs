//! A row of 2,500 weights as each SDK would send it, on one core.
#![expect(clippy::expect_used, reason = "a bench that cannot run must say so")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tauscore::device::Noise;
use tauscore::stages::conform::{Environment, Sdk, Subnet, send};

fn rows(criterion: &mut Criterion) {
    const N: usize = 2500;
    let mut noise = Noise::new(7);
    let uids: Vec<i64> = (0..N as i64).collect();
    let weights: Vec<f64> = uids.iter().map(|_| f64::from(1 + noise.below(1 << 20))).collect();
    let mut group = criterion.benchmark_group("conform");
    // Below the largest share of these weights, so that there is something to clip.
    for (limit, what) in [(65_535, "whole"), (40, "clipped")] {
        let subnet = Subnet {
            netuid: 1,
            n: N,
            min_allowed_weights: 8,
            max_weight_limit: f64::from(limit) / 65_535.0,
            exclude_quantile: 6553,
            own_uid: None,
        };
        for sdk in [Sdk::Ten, Sdk::Eleven] {
            let row = || send(sdk, &uids, black_box(&weights), &subnet, Environment::default());
            assert!(row().expect("a good row").uids.len() > N / 2, "SDK {} sends most of it", sdk.name());
            group.bench_function(format!("sdk {} {what}", sdk.name()), |bencher| bencher.iter(row));
        }
    }
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
