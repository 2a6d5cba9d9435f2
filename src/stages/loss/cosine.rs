//! 1 - cosine of pairs of unit rows. Shader: `shaders/loss/cosine.wgsl`.
#![expect(clippy::float_arithmetic, reason = "the precision for models that have no integer form")]

use bytemuck::{Pod, Zeroable, bytes_of};

use crate::Result;
use crate::device::{Access, Args, Call, Data, Device, Kernel, Noise, Parity, Sample, Wgsl, vectorised};
use crate::nn::math::dot;

/// Pairs of one upload: 12 MiB a side for rows of 384.
const BLOCK: usize = 8192;

/// See [`KERNEL`].
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Params {
    pairs: u32,
    width: u32,
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

/// The loss of each pair of rows of `values [rows][width]`.
pub(super) fn losses(
    device: &Device,
    width: usize,
    values: &[f32],
    responses: &[u32],
    references: &[u32],
) -> Result<Vec<f64>> {
    let gather = |rows: &[u32]| -> Vec<f32> {
        rows.iter().flat_map(|row| &values[*row as usize * width..][..width]).copied().collect()
    };
    let mut losses = Vec::with_capacity(responses.len());
    for (responses, references) in responses.chunks(BLOCK).zip(references.chunks(BLOCK)) {
        let pairs = responses.len();
        let (responses, references) = (device.upload(&gather(responses))?, device.upload(&gather(references))?);
        let block = device.zeros::<f32>(pairs)?;
        device.dispatch(
            &KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&Params { pairs: pairs as u32, width: width as u32 }),
                bindings: &[responses.all(), references.all(), block.all()],
                workgroups: pairs as u64,
            },
        )?;
        losses.extend(device.download(&block)?.into_iter().map(f64::from));
    }
    Ok(losses)
}

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
            params: bytes_of(&Params { pairs, width }).to_vec(),
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
