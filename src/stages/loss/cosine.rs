//! 1 - cosine of pairs of unit rows. Shader: `shaders/loss/cosine.wgsl`.

use bytemuck::{Pod, Zeroable};

use crate::device::{Access, Args, Data, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::math::dot;

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Params {
    pub pairs: u32,
    pub width: u32,
}

/// Bindings: `responses [pairs][width]`, `references [pairs][width]`, `losses [pairs]`.
pub static KERNEL: Kernel = Kernel {
    name: "loss/cosine",
    wgsl: Wgsl::core(concat!(
        include_str!("../../../shaders/shared/grid.wgsl"),
        include_str!("../../../shaders/shared/reduce.wgsl"),
        include_str!("../../../shaders/loss/cosine.wgsl")
    )),
    constants: &[],
    params: size_of::<Params>(),
    bindings: &[Access::Read, Access::Read, Access::Write],
    cpu: cosine,
    // One sum of a few hundred products, of which the magnitudes add up to at most 1.
    parity: Parity::Close { absolute: 1e-6, relative: 1e-6 },
    samples,
};

fn cosine(args: &mut Args<'_>) {
    let params: Params = args.params();
    let (responses, references, losses) = (args.read::<f32>(0), args.read::<f32>(1), args.write::<f32>(2));
    let width = params.width as usize;
    vectorised(
        #[inline(always)]
        || {
            let pairs = responses.chunks_exact(width).zip(references.chunks_exact(width));
            for (loss, (response, reference)) in losses.iter_mut().zip(pairs).take(params.pairs as usize) {
                *loss = 1.0 - dot(response, reference);
            }
        },
    );
}

fn samples() -> Vec<Sample> {
    let sample = |about, pairs: u32, width: u32| {
        let mut noise = Noise::new(u64::from(pairs));
        let size = (pairs * width) as usize;
        // Rows at most of unit length, as the stage gives them.
        let scale = 1.0 / (width as f32).sqrt();
        let responses = noise.floats(size, scale);
        let mut references = noise.floats(size, scale);
        // The first pair is of identical rows.
        references[..width as usize].copy_from_slice(&responses[..width as usize]);
        Sample {
            about,
            constants: vec![],
            params: bytemuck::bytes_of(&Params { pairs, width }).to_vec(),
            bindings: vec![Data::F32(responses), Data::F32(references), Data::F32(vec![f32::NAN; pairs as usize])],
            workgroups: u64::from(pairs),
            operations: 2 * size as u64,
            bytes: 8 * size as u64,
        }
    };
    vec![
        sample("one number", 1, 1),
        sample("odd width", 3, 129),
        sample("beyond 65,535 workgroups", 65_540, 2),
        sample("a thousand embeddings", 1024, 384),
    ]
}
