//! Rows of unit length: x / |x|, and zeros for a row of zeros. Shader: `shaders/nn/normalize.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::math::dot;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub width: u32,
}

/// Bindings: `x [rows][width]`, `unit [rows][width]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/normalize",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/reduce.wgsl"),
        include_str!("../../shaders/nn/normalize.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Write],
    cpu: normalize,
    // One sum in another order, a square root and a quotient.
    parity: Parity::Close { absolute: 1e-7, relative: 2e-6 },
    samples,
};

fn normalize(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, unit) = (args.read::<f32>(0), args.write::<f32>(1));
    let width = params.width as usize;
    vectorised(
        #[inline(always)]
        || {
            for (row, out) in x.chunks_exact(width).zip(unit.chunks_exact_mut(width)).take(params.rows as usize) {
                let length = dot(row, row).sqrt().max(1e-12);
                for (out, value) in out.iter_mut().zip(row) {
                    *out = value / length;
                }
            }
        },
    );
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, width: u32, scale: f32| {
        let size = (rows * width) as usize;
        let mut values = Noise::new(u64::from(width)).floats(size, scale);
        // The second row, where there is one, is zeros.
        values.iter_mut().skip(width as usize).take(width as usize).for_each(|value| *value = 0.0);
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, width }).to_vec(),
            bindings: vec![Data::F32(values), Data::F32(vec![f32::NAN; size])],
            workgroups: u64::from(rows),
            operations: 3 * size as u64,
            bytes: 8 * size as u64,
        }
    };
    vec![
        sample("one number", 1, 1, 1.0),
        sample("odd width, a row of zeros, large values", 3, 129, 1e9),
        sample("beyond 65,535 workgroups", 65_540, 2, 1.0),
        sample("a thousand embeddings", 1024, 384, 1.0),
    ]
}
