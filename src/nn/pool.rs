//! From tokens to one row a sequence: the mean, or the first token. Shader: `shaders/nn/pool.wgsl`.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// How a sequence's tokens become one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u32)]
pub enum Pooling {
    /// The mean over all tokens.
    #[default]
    Mean = 0,
    /// The first token, `[CLS]`.
    Cls = 1,
}

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub sequences: u32,
    pub width: u32,
    /// A [`Pooling`].
    pub mode: u32,
}

/// Bindings: `hidden [tokens][width]`, `starts [sequences + 1]`, `pooled [sequences][width]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/pool",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/pool.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: pool,
    // The sum runs in the same order; only the quotient may be rounded otherwise.
    parity: Parity::Close { absolute: 1e-6, relative: 1e-6 },
    samples,
};

/// Workgroups for `sequences` rows of `width`.
pub(crate) fn workgroups(sequences: usize, width: usize) -> u64 {
    (sequences as u64 * width as u64).div_ceil(64)
}

fn pool(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (hidden, starts, pooled) = (args.read::<f32>(0), args.read::<u32>(1), args.write::<f32>(2));
    let width = params.width as usize;
    for (sequence, row) in pooled.chunks_exact_mut(width).take(params.sequences as usize).enumerate() {
        let tokens = &hidden[starts[sequence] as usize * width..starts[sequence + 1] as usize * width];
        if params.mode == Pooling::Cls as u32 {
            row.copy_from_slice(&tokens[..width]);
            continue;
        }
        row.fill(0.0);
        for token in tokens.chunks_exact(width) {
            for (sum, value) in row.iter_mut().zip(token) {
                *sum += value;
            }
        }
        let count = (tokens.len() / width) as f32;
        for sum in row {
            *sum /= count;
        }
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, lengths: Vec<u32>, width: u32, mode: Pooling| {
        let mut starts = vec![0];
        for length in &lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let values = (starts[lengths.len()] * width) as usize;
        let params = Params { sequences: lengths.len() as u32, width, mode: mode as u32 };
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![
                Data::F32(Noise::new(u64::from(width)).floats(values, 1.0)),
                Data::U32(starts),
                Data::F32(vec![f32::NAN; lengths.len() * width as usize]),
            ],
            workgroups: workgroups(lengths.len(), width as usize),
            operations: values as u64,
            bytes: 4 * values as u64,
        }
    };
    vec![
        sample("one token", vec![1], 1, Pooling::Mean),
        sample("lengths from 1 to 300, odd width", vec![1, 2, 300, 7], 33, Pooling::Mean),
        sample("the first token", vec![5, 1, 9], 65, Pooling::Cls),
        sample("beyond 65,535 workgroups", vec![1; 66_000], 64, Pooling::Mean),
        sample("a batch of MiniLM", vec![64; 16], 384, Pooling::Mean),
    ]
}
