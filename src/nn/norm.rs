//! LayerNorm of a sum: (x + residual - mean) / sqrt(variance + epsilon) * gain + bias, row by row.
//! Shader: `shaders/nn/norm.wgsl`.

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
    /// 1 if the residual is added, 0 if it is only bound to fill its place.
    pub residual: u32,
}

/// Bindings: `x [rows][width]`, `residual [rows][width]`, `gain [width]`, `bias [width]`, `normed [rows][width]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/norm",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/reduce.wgsl"),
        include_str!("../../shaders/nn/norm.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: norm,
    // Two sums of up to a few thousand terms in another order, a square root and a quotient.
    parity: Parity::Close { absolute: 2e-6, relative: 2e-6 },
    samples,
};

fn norm(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, residual, gain, bias) =
        (args.read::<f32>(0), args.read::<f32>(1), args.read::<f32>(2), args.read::<f32>(3));
    let normed = args.write::<f32>(4);
    let (rows, width) = (params.rows as usize, params.width as usize);
    const BLOCK: usize = 64;
    normed[..rows * width].par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, normed)| {
        let start = block * BLOCK * width;
        vectorised(
            #[inline(always)]
            || {
                for (row, out) in normed.chunks_exact_mut(width).enumerate() {
                    let at = start + row * width;
                    out.copy_from_slice(&x[at..at + width]);
                    if params.residual == 1 {
                        for (value, residual) in out.iter_mut().zip(&residual[at..at + width]) {
                            *value += residual;
                        }
                    }
                    let mean = sum(out, |value| value) / width as f32;
                    let variance = sum(out, |value| (value - mean) * (value - mean)) / width as f32;
                    let scale = 1.0 / (variance + params.epsilon).sqrt();
                    for ((value, gain), bias) in out.iter_mut().zip(gain).zip(bias) {
                        *value = (*value - mean) * scale * gain + bias;
                    }
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, width: u32, residual: u32, scale: f32| {
        let mut noise = Noise::new(u64::from(rows) + 17);
        let size = (rows * width) as usize;
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, width, epsilon: 1e-12, residual }).to_vec(),
            bindings: vec![
                Data::F32(noise.floats(size, scale)),
                Data::F32(noise.floats(size, scale)),
                Data::F32(noise.floats(width as usize, 1.0)),
                Data::F32(noise.floats(width as usize, 1.0)),
                Data::F32(vec![0.0; size]),
            ],
            workgroups: u64::from(rows),
            operations: 8 * size as u64,
            bytes: 12 * size as u64,
        }
    };
    vec![
        sample("two columns", 1, 2, 0, 1.0),
        sample("odd width, huge values", 3, 129, 1, 1e6),
        sample("rows beyond 65,535 workgroups", 65_600, 3, 1, 1.0),
        sample("a wide model", 9, 4096, 0, 1.0),
        sample("a batch of MiniLM", 1024, 384, 1, 1.0),
    ]
}
