//! Reference loss: how far a response is from the reference.

mod cosine;

use bytemuck::bytes_of;

pub use cosine::KERNEL;
use cosine::Params;

use crate::Result;
use crate::device::{Call, Device};

/// Pairs of one upload: 12 MiB a side for rows of 384.
const BLOCK: usize = 8192;

/// The embedding loss 1 - cosine of each response to its reference: in [0, 2], 0 = the same direction.
///
/// `responses` and `references` are unit rows of `width`; `reference_of[i]` is the reference row of response row `i`.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn embedding(
    device: &Device,
    width: usize,
    responses: &[f32],
    references: &[f32],
    reference_of: &[u32],
) -> Result<Vec<f32>> {
    let mut losses = Vec::with_capacity(reference_of.len());
    for (responses, reference_of) in responses.chunks(BLOCK * width).zip(reference_of.chunks(BLOCK)) {
        let paired: Vec<f32> =
            reference_of.iter().flat_map(|row| &references[*row as usize * width..][..width]).copied().collect();
        let (responses, paired) = (device.upload(responses)?, device.upload(&paired)?);
        let block = device.zeros::<f32>(reference_of.len())?;
        device.dispatch(
            &KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&Params { pairs: reference_of.len() as u32, width: width as u32 }),
                bindings: &[responses.all(), paired.all(), block.all()],
                workgroups: reference_of.len() as u64,
            },
        )?;
        losses.extend(device.download(&block)?);
    }
    Ok(losses)
}
