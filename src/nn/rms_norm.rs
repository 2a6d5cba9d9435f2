//! The residual sum and its RMS norm: hidden += x; normed = hidden / sqrt(mean square + epsilon) * gain.
//! Shader: `shaders/nn/rms_norm.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::math::sum;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub width: u32,
    pub epsilon: f32,
    /// 1 if `x` is added, 0 if it is only bound to fill its place.
    pub add: u32,
}

/// Bindings: `x [rows][width]`, `gain [width]`, `hidden [rows][width]`, `normed [rows][width]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/rms_norm",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/reduce.wgsl"),
        include_str!("../../shaders/nn/rms_norm.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write, Access::Write],
    cpu: rms_norm,
    // A sum of up to a few thousand squares in another order, a square root and a quotient.
    parity: Parity::Close { absolute: 2e-6, relative: 2e-6 },
    samples,
};

/// Rows that one thread takes.
const BLOCK: usize = 16;

fn rms_norm(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, gain) = (args.read::<f32>(0), args.read::<f32>(1));
    let (hidden, normed) = (args.write::<f32>(2), args.write::<f32>(3));
    let (rows, width) = (params.rows as usize, params.width as usize);
    let blocks = hidden[..rows * width].par_chunks_mut(BLOCK * width).zip(normed.par_chunks_mut(BLOCK * width));
    blocks.enumerate().for_each(|(block, (hidden, normed))| {
        let start = block * BLOCK * width;
        vectorised(
            #[inline(always)]
            || {
                let rows = hidden.chunks_exact_mut(width).zip(normed.chunks_exact_mut(width));
                for (row, (hidden, normed)) in rows.enumerate() {
                    if params.add == 1 {
                        for (value, x) in hidden.iter_mut().zip(&x[start + row * width..]) {
                            *value += x;
                        }
                    }
                    let squares = sum(hidden, |value| value * value);
                    let scale = 1.0 / (squares / width as f32 + params.epsilon).sqrt();
                    for ((normed, value), gain) in normed.iter_mut().zip(hidden).zip(gain) {
                        *normed = *value * scale * gain;
                    }
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, width: u32, add: u32, scale: f32| {
        let mut noise = Noise::new(u64::from(rows) + 19);
        let size = (rows * width) as usize;
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, width, epsilon: 1e-5, add }).to_vec(),
            bindings: vec![
                Data::F32(noise.floats(size, scale)),
                Data::F32(noise.floats(width as usize, 1.0)),
                Data::F32(noise.floats(size, scale)),
                Data::F32(vec![0.0; size]),
            ],
            workgroups: u64::from(rows),
            operations: 6 * size as u64,
            bytes: 16 * size as u64,
        }
    };
    vec![
        sample("one column", 1, 1, 0, 1.0),
        sample("odd width, huge values", 3, 129, 1, 1e6),
        sample("tiny values: epsilon counts", 17, 40, 1, 1e-3),
        sample("rows beyond 65,535 workgroups", 65_600, 3, 1, 1.0),
        sample("a wide model", 9, 4096, 0, 1.0),
        sample("a batch of SmolLM2", 1024, 576, 1, 1.0),
    ]
}
