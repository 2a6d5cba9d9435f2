//! Linear layers, and similarities of all pairs: activation(x w + bias). Shader: `shaders/nn/matmul.wgsl`.

use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

use super::gemm::{Strides, multiply};
use super::math::Activation;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub columns: u32,
    pub depth: u32,
    /// w\[k\]\[column\] stands at `k * depth_stride + column * column_stride`; one of the two is 1.
    pub depth_stride: u32,
    pub column_stride: u32,
    /// 1 if the bias is added, 0 if it is only bound to fill its place.
    pub bias: u32,
    /// An [`Activation`].
    pub activation: u32,
}

/// Bindings: `x [rows][depth]`, w, `bias [columns]`, `out [rows][columns]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/matmul",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/shared/activation.wgsl"),
        include_str!("../../shaders/shared/tile.wgsl"),
        include_str!("../../shaders/nn/matmul.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Read, Access::Write],
    cpu: matmul,
    // Sums of up to 4,096 products in two orders, fused or not.
    parity: Parity::Close { absolute: 2e-5, relative: 1e-5 },
    samples,
};

/// Workgroups for an output of `rows` by `columns`.
pub(crate) fn workgroups(rows: usize, columns: usize) -> u64 {
    rows.div_ceil(64) as u64 * columns.div_ceil(64) as u64
}

/// Rows that are multiplied together. Always this many (the last block is padded with zeros), so that the bits of a row
/// depend neither on how many rows stand beside it nor on where it stands.
const BLOCK: usize = 64;

fn matmul(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (x, w, bias) = (args.read::<f32>(0), args.read::<f32>(1), args.read::<f32>(2));
    let out = args.write::<f32>(3);
    let (rows, columns, depth) = (params.rows as usize, params.columns as usize, params.depth as usize);
    let activation = Activation::from_code(params.activation);
    let bias = (params.bias == 1).then_some(bias);
    if rows == 0 || columns == 0 {
        return;
    }
    // One column would take another path through the crate and give other bits: make it two.
    let strides = Strides { row: params.column_stride as usize, column: params.depth_stride as usize };
    let twice: Vec<f32>;
    let (w, of_w, padded) = if columns == 1 {
        twice = [0, 1].iter().flat_map(|_| (0..depth).map(|k| w[k * strides.column])).collect();
        (twice.as_slice(), Strides { row: depth, column: 1 }, 2)
    } else {
        (w, strides, columns)
    };

    out[..rows * columns].par_chunks_mut(BLOCK * columns).enumerate().for_each(|(block, out)| {
        let x = &x[block * BLOCK * depth..];
        // The crate's rows are our columns: the weights' long side is the one that it vectorises.
        let run = |x: &[f32], out: &mut [f32]| {
            multiply(
                [padded, BLOCK, depth],
                (w, of_w),
                (x, Strides { row: 1, column: depth }),
                (out, Strides { row: 1, column: padded }),
            );
        };
        if out.len() == BLOCK * padded {
            run(x, out);
        } else {
            let present = out.len() / columns;
            let mut rows = vec![0.0; BLOCK * depth];
            rows[..present * depth].copy_from_slice(&x[..present * depth]);
            let mut products = vec![0.0; BLOCK * padded];
            run(&rows, &mut products);
            for (to, from) in out.chunks_exact_mut(columns).zip(products.chunks_exact(padded)) {
                to.copy_from_slice(&from[..columns]);
            }
        }
        activation.apply(out, bias, columns);
    });
}

fn samples() -> Vec<Sample> {
    let sample = |about, [rows, columns, depth]: [u32; 3], transposed: bool, bias: u32, activation: Activation| {
        let mut noise = Noise::new(u64::from(rows * 31 + columns));
        let (depth_stride, column_stride) = if transposed { (1, depth) } else { (columns, 1) };
        let params = Params { rows, columns, depth, depth_stride, column_stride, bias, activation: activation as u32 };
        let count = |a: u32, b: u32| a as usize * b as usize;
        // Sums of the size that a model's are.
        let scale = 4.0 / (depth as f32).sqrt().max(4.0);
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::F32(noise.floats(count(rows, depth), scale)),
                Data::F32(noise.floats(count(depth, columns), 1.0)),
                Data::F32(noise.floats(columns as usize, 1.0)),
                Data::F32(vec![f32::NAN; count(rows, columns)]),
            ],
            workgroups: workgroups(rows as usize, columns as usize),
            operations: 2 * u64::from(rows) * u64::from(columns) * u64::from(depth),
            bytes: 4 * (count(rows, depth) + count(depth, columns) + count(rows, columns)) as u64,
        }
    };
    vec![
        sample("one by one by one", [1, 1, 1], false, 1, Activation::None),
        sample("one column, one row over a tile", [65, 1, 17], false, 0, Activation::None),
        sample("odd everywhere, GELU", [67, 131, 33], false, 1, Activation::Gelu),
        sample("odd everywhere, rows of w along k", [70, 66, 31], true, 0, Activation::GeluTanh),
        sample("a deep sum", [5, 7, 4096], true, 1, Activation::Relu),
        sample("beyond 65,535 workgroups", [64 * 65_537, 1, 1], false, 0, Activation::None),
        sample("a feed-forward layer of MiniLM", [1024, 1536, 384], false, 1, Activation::Gelu),
    ]
}
