//! What every encoder does around its layers: looks at token sequences, packs them into batches, puts rows back into order.

use bytemuck::Pod;

use crate::device::{Device, Download};
use crate::nn::{TokenBatch, plan};
use crate::{Error, Result};

/// Refuses sequences that are empty, longer than `max_tokens`, or hold an id that is not below `vocabulary`.
pub(super) fn check(sequences: &[&[u32]], vocabulary: usize, max_tokens: usize) -> Result<()> {
    for (index, sequence) in sequences.iter().enumerate() {
        let problem = if sequence.is_empty() {
            "it has no token".to_owned()
        } else if sequence.len() > max_tokens {
            format!("it has {} tokens, the limit is {max_tokens}", sequence.len())
        } else if let Some(id) = sequence.iter().find(|id| **id as usize >= vocabulary) {
            format!("token id {id} is beyond the vocabulary of {vocabulary}")
        } else {
            continue;
        };
        let remedy = "use the model's own tokenizer.json".into();
        return Err(Error::Usage { argument: format!("sequence {index}"), problem, remedy });
    }
    Ok(())
}

/// Tokens that one batch may hold, so that its largest activation fits a binding, be it the three projections of rows of `width` or the
/// inner layer, and all of it what the device's budget leaves.
pub(super) fn tokens(device: &Device, width: usize, inner: usize) -> usize {
    let limits = device.limits();
    let widest = 4 * inner.max(3 * width) as u64;
    // Five rows of activations and the inner one, the inputs of products, and what goes in and out: more than either encoder takes.
    let all = (40 * width + 8 * inner + 64) as u64;
    let most = (limits.binding_bytes / widest).min(device.left().map_or(u64::MAX, |left| left / all));
    limits.batch_tokens.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1)
}

/// Sequences in batches.
pub(super) struct Batches<'a> {
    sequences: &'a [&'a [u32]],
    batches: Vec<Vec<usize>>,
    /// Tokens of the largest batch.
    pub(super) largest: usize,
}

impl<'a> Batches<'a> {
    /// Batches of at most `budget` tokens, or of a single sequence.
    pub(super) fn new(sequences: &'a [&'a [u32]], budget: usize) -> Self {
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.len()).collect();
        let batches = plan(&lengths, budget);
        let tokens = |batch: &Vec<usize>| batch.iter().map(|index| lengths[*index]).sum();
        let largest = batches.iter().map(tokens).max().unwrap_or(0);
        Self { sequences, batches, largest }
    }

    /// Runs `forward` on each batch and gathers its rows of `width`, in the order of the sequences. One batch is on its way
    /// back while the next is computed.
    pub(super) fn run<T: Pod>(
        &self,
        width: usize,
        mut forward: impl FnMut(&TokenBatch) -> Result<Download<T>>,
    ) -> Result<Vec<T>> {
        let mut rows = vec![T::zeroed(); self.sequences.len() * width];
        let mut settle = |batch: &[usize], download: Download<T>| -> Result<()> {
            for (index, row) in batch.iter().zip(download.wait()?.chunks_exact(width)) {
                rows[index * width..][..width].copy_from_slice(row);
            }
            Ok(())
        };
        let mut flying: Option<(&[usize], Download<T>)> = None;
        for batch in &self.batches {
            let tokens = TokenBatch::pack(batch.iter().map(|index| self.sequences[*index]));
            let download = forward(&tokens)?;
            if let Some((batch, download)) = flying.replace((batch, download)) {
                settle(batch, download)?;
            }
        }
        if let Some((batch, download)) = flying {
            settle(batch, download)?;
        }
        Ok(rows)
    }
}
