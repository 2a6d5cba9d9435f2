//! Every kernel of the table on every device of this machine: first the answer, then the time.
//!
//! `cargo bench --bench kernels -- "CPU"` times one device, `-- matmul` one kernel. See benches/README.md.
#![expect(
    clippy::panic,
    clippy::print_stderr,
    reason = "a wrong answer must not be timed, and a device left out is said"
)]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tauscore::KERNELS;
use tauscore::device::parity::{self, Prepared};
use tauscore::device::{Device, adapters};

fn kernels(criterion: &mut Criterion) {
    let mut devices = vec![Device::cpu()];
    for adapter in adapters() {
        match adapter.open() {
            Ok(device) => devices.push(device),
            Err(error) => eprintln!("left out: {error}"),
        }
    }
    for device in &devices {
        let mut group = criterion.benchmark_group(device.name());
        group.sample_size(20);
        for kernel in KERNELS {
            let Some(sample) = (kernel.samples)().pop() else { panic!("{}: no sample", kernel.name) };
            group.throughput(match (sample.operations, sample.bytes) {
                (0, bytes) => Throughput::Bytes(bytes),
                (operations, _) => Throughput::Elements(operations),
            });
            group.bench_with_input(BenchmarkId::new(kernel.name, sample.about), &sample, |bencher, sample| {
                let verdict = parity::check(device, kernel, sample.clone());
                match verdict.map(|verdict| verdict.broken) {
                    Ok(None) => {}
                    Ok(Some(why)) => panic!("{} on {}: {why}", kernel.name, device.name()),
                    Err(error) => panic!("{} on {}: {error}", kernel.name, device.name()),
                }
                let prepared = Prepared::new(device, kernel, sample.clone()).unwrap_or_else(|error| panic!("{error}"));
                bencher.iter(|| {
                    let outcome = prepared.dispatch().and_then(|()| device.finish());
                    outcome.unwrap_or_else(|error| panic!("{} on {}: {error}", kernel.name, device.name()));
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, kernels);
criterion_main!(benches);
