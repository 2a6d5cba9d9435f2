//! The integer matrix products of the exact encoder on one thread, on every path that this CPU can take, beside the float one.
//!
//! `cargo bench --bench products`. Elements are multiplications and additions, counted apart.
#![expect(clippy::panic, reason = "a wrong answer must not be timed")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tauscore::device::parity::Prepared;
use tauscore::device::{Data, Device, Instructions, Noise, Sample};
use tauscore::nn::matmul;
use tauscore::nn::products::{self, Matrix, Panels, multiply_with};

const TOKENS: usize = 192;

/// Outputs and inputs of MiniLM's matrices.
const SHAPES: [[usize; 2]; 3] = [[384, 384], [1_536, 384], [384, 1_536]];

fn products(criterion: &mut Criterion) {
    let Ok(one) = rayon::ThreadPoolBuilder::new().num_threads(1).build() else { panic!("no thread") };
    let mut noise = Noise::new(1);
    for [outputs, inputs] in SHAPES {
        let mut group = criterion.benchmark_group(format!("{TOKENS} x {outputs} x {inputs}"));
        group.throughput(Throughput::Elements((2 * TOKENS * outputs * inputs) as u64));

        let a: Vec<i16> = (0..TOKENS * inputs).map(|_| (noise.below(16_257) as i32 - 8_128) as i16).collect();
        let weights: Vec<i8> = (0..outputs * inputs).map(|_| (noise.below(255) as i32 - 127) as i8).collect();
        let packed = products::pack(&weights, outputs, inputs);
        let matrix = Matrix { outputs, depth: inputs / 4, panels: Panels::Bytes(&packed) };
        let mut right = vec![0; TOKENS * outputs];
        multiply_with(Instructions::Portable, &a, matrix, &mut right);
        for instructions in Instructions::available() {
            let mut out = vec![0; TOKENS * outputs];
            multiply_with(instructions, &a, matrix, &mut out);
            assert!(out == right, "{instructions:?} is wrong");
            group.bench_function(BenchmarkId::new("i16 x i8", instructions.name()), |bencher| {
                bencher.iter(|| multiply_with(instructions, &a, matrix, &mut out));
            });
        }

        let params = [TOKENS, outputs, inputs, outputs, 1, 0, 0].map(|value| value as u32);
        let sample = Sample {
            about: "a matrix of MiniLM",
            constants: vec![],
            params: bytemuck::cast_slice(&params).to_vec(),
            bindings: vec![
                Data::F32(noise.floats(TOKENS * inputs, 1.0)),
                Data::F32(noise.floats(outputs * inputs, 1.0)),
                Data::F32(vec![0.0; outputs]),
                Data::F32(vec![0.0; TOKENS * outputs]),
            ],
            workgroups: 1,
            operations: 0,
            bytes: 0,
        };
        let device = Device::cpu();
        let prepared = Prepared::new(&device, &matmul::KERNEL, sample).unwrap_or_else(|error| panic!("{error}"));
        group.bench_function("f32", |bencher| {
            one.install(|| bencher.iter(|| prepared.dispatch().unwrap_or_else(|error| panic!("{error}"))));
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
