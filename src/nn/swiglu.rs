//! What stands between the feed-forward matrices: silu(gate) * up (Shazeer 2020, GLU variants). Shader: `shaders/nn/swiglu.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::math::exp;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub width: u32,
}

/// Bindings: `inner [rows][gate | up][width]`, `out [rows][width]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/swiglu",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/swiglu.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Write],
    cpu: swiglu,
    // exp of WGSL is off by up to 64 units in the last place far out.
    parity: Parity::Close { absolute: 1e-6, relative: 1e-5 },
    samples,
};

/// Workgroups for `rows` of `width`.
pub(crate) fn workgroups(rows: usize, width: usize) -> u64 {
    (rows as u64 * width as u64).div_ceil(64)
}

/// Rows that one thread takes.
const BLOCK: usize = 8;

fn swiglu(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (inner, out) = (args.read::<f32>(0), args.write::<f32>(1));
    let (rows, width) = (params.rows as usize, params.width as usize);
    let blocks = out[..rows * width].par_chunks_mut(BLOCK * width).zip(inner.par_chunks(BLOCK * 2 * width));
    blocks.for_each(|(out, inner)| {
        vectorised(
            #[inline(always)]
            || {
                for (out, inner) in out.chunks_exact_mut(width).zip(inner.chunks_exact(2 * width)) {
                    let (gate, up) = inner.split_at(width);
                    for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
                        *out = gate / (1.0 + exp(-gate)) * up;
                    }
                }
            },
        );
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, width: u32, scale: f32| {
        let mut noise = Noise::new(u64::from(rows) + 23);
        let size = (rows * width) as usize;
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, width }).to_vec(),
            bindings: vec![Data::F32(noise.floats(2 * size, scale)), Data::F32(vec![f32::NAN; size])],
            workgroups: workgroups(rows as usize, width as usize),
            operations: 5 * size as u64,
            bytes: 12 * size as u64,
        }
    };
    vec![
        sample("one number", 1, 1, 1.0),
        sample("odd sizes, far out", 13, 67, 200.0),
        sample("beyond 65,535 workgroups", 65_600, 65, 4.0),
        sample("a batch of SmolLM2", 1024, 1536, 6.0),
    ]
}
