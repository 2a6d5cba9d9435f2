//! The loss of a token, -ln p(token) in nats, from what [`head`](super::head) kept of its logits. Shader: `shaders/nn/surprise.wgsl`.

use bytemuck::{Pod, Zeroable};

use super::head::Partial;
use super::math::exp;
use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl};

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct Params {
    pub rows: u32,
    pub splits: u32,
}

/// Bindings: `partials [rows][splits]` (a `Partial` each), `losses [rows]`.
pub static KERNEL: Kernel = Kernel {
    name: "nn/surprise",
    wgsl: Wgsl::core(concat!(
        include_str!("../../shaders/shared/grid.wgsl"),
        include_str!("../../shaders/nn/surprise.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Write],
    cpu: surprise,
    // A short sum of exponentials and a logarithm.
    parity: Parity::Close { absolute: 1e-5, relative: 1e-5 },
    samples,
};

/// Workgroups for so many rows.
pub(crate) fn workgroups(rows: usize) -> u64 {
    rows.div_ceil(64) as u64
}

fn surprise(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (partials, losses) = (args.read::<Partial>(0), args.write::<f32>(1));
    let rows = partials.chunks_exact(params.splits as usize).take(params.rows as usize);
    for (partials, loss) in rows.zip(losses) {
        let largest = partials.iter().fold(Partial::NONE.largest, |largest, part| largest.max(part.largest));
        let (mut sum, mut wanted) = (0.0, 0.0);
        for part in partials {
            sum += part.sum * exp(part.largest - largest);
            wanted += part.wanted;
        }
        *loss = sum.ln() + (largest - wanted);
    }
}

fn samples() -> Vec<Sample> {
    let sample = |about, rows: u32, splits: u32| {
        let mut noise = Noise::new(u64::from(rows) + 29);
        let mut partials = Vec::new();
        for _ in 0..rows {
            let holds = noise.below(splits);
            for split in 0..splits {
                let largest = noise.float() * 20.0;
                let wanted = if split == holds { largest - noise.float().abs() * 20.0 } else { 0.0 };
                partials.extend([largest, 1.0 + noise.float().abs() * 500.0, wanted]);
            }
        }
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { rows, splits }).to_vec(),
            bindings: vec![Data::F32(partials), Data::F32(vec![f32::NAN; rows as usize])],
            workgroups: workgroups(rows as usize),
            operations: 4 * u64::from(rows * splits),
            bytes: 12 * u64::from(rows * splits),
        }
    };
    vec![sample("one row, one split", 1, 1), sample("odd sizes", 67, 3), sample("a batch of SmolLM2", 2048, 24)]
}
