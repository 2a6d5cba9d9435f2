//! What every encoder does around its layers: looks at token sequences, packs them into batches, puts rows back into order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;
use rayon::prelude::*;

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

/// Tokens that may be on their way at a time, so that a batch's largest activation fits a binding, be it the three projections of rows of
/// `width` or the inner layer, and all of it what the device's budget leaves.
fn most_tokens(device: &Device, width: usize, inner: usize) -> usize {
    let widest = 4 * inner.max(3 * width) as u64;
    // Five rows of activations and the inner one, the inputs of products, and what goes in and out: more than either encoder takes.
    let all = (40 * width + 8 * inner + 64) as u64;
    let most = (device.limits().binding_bytes / widest).min(device.left().map_or(u64::MAX, |left| left / all));
    usize::try_from(most).unwrap_or(usize::MAX).max(1)
}

/// Sequences in batches.
pub(super) struct Batches<'a> {
    sequences: &'a [&'a [u32]],
    batches: Vec<Vec<usize>>,
    /// Tokens of the largest batch.
    largest: usize,
    /// Batches that are on their way at a time.
    lanes: usize,
}

impl<'a> Batches<'a> {
    /// Batches for `device`, with rows of `width` and an inner layer of `inner` numbers. A sequence that is too long for any is one by itself.
    ///
    /// With `lane` the threads of the CPU take their own batches, of so many tokens, through all layers, instead of sharing each.
    pub(super) fn new(
        device: &Device,
        sequences: &'a [&'a [u32]],
        width: usize,
        inner: usize,
        lane: Option<usize>,
    ) -> Self {
        let most = most_tokens(device, width, inner);
        match lane.filter(|_| device.is_cpu()) {
            Some(tokens) => {
                let threads = rayon::current_num_threads();
                // Where there is little to do, all have a part of it.
                let share = sequences.iter().map(|sequence| sequence.len()).sum::<usize>().div_ceil(threads);
                let lanes = |largest: usize| (most / largest).min(threads);
                Self::with(sequences, tokens.min(most).min(share).max(1), lanes)
            }
            None => Self::with(sequences, device.limits().batch_tokens.min(most), |_| 1),
        }
    }

    /// Batches of at most `budget` tokens, or of a single sequence, in as many lanes as `lanes` makes of the largest one's tokens.
    fn with(sequences: &'a [&'a [u32]], budget: usize, lanes: impl Fn(usize) -> usize) -> Self {
        let lengths: Vec<usize> = sequences.iter().map(|sequence| sequence.len()).collect();
        let batches = plan(&lengths, budget);
        let tokens = |batch: &Vec<usize>| batch.iter().map(|index| lengths[*index]).sum();
        let largest = batches.iter().map(tokens).max().unwrap_or(0).max(1);
        let lanes = lanes(largest).clamp(1, batches.len().max(1));
        Self { sequences, batches, largest, lanes }
    }

    /// Runs `forward` on each batch and gathers its rows of `width`, in the order of the sequences. A lane has a workspace of its own;
    /// in each, one batch is on its way back while the next is computed.
    pub(super) fn run<T: Pod + Send + Sync, W: Send>(
        &self,
        width: usize,
        workspaces: &Workspaces<W>,
        make: impl Fn(usize) -> Result<W> + Sync,
        forward: impl Fn(&W, &TokenBatch) -> Result<Download<T>> + Sync,
    ) -> Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let lane = |_| -> Result<(Settled<'_, T>, (usize, W))> {
            let ready = match workspaces.take(self.largest) {
                Some(ready) => ready,
                None => (self.largest, make(self.largest)?),
            };
            let (mut settled, mut flying) = (Vec::new(), None);
            while let Some(batch) = self.batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let tokens = TokenBatch::pack(batch.iter().map(|index| self.sequences[*index]));
                let download = forward(&ready.1, &tokens)?;
                if let Some((batch, download)) = flying.replace((batch.as_slice(), download)) {
                    settled.push((batch, Download::wait(download)?));
                }
            }
            if let Some((batch, download)) = flying {
                settled.push((batch, download.wait()?));
            }
            Ok((settled, ready))
        };
        // On one lane this thread waits for nobody.
        let lanes: Vec<_> = match self.lanes {
            1 => vec![lane(0)?],
            lanes => (0..lanes).into_par_iter().with_max_len(1).map(lane).collect::<Result<_>>()?,
        };
        let mut rows = vec![T::zeroed(); self.sequences.len() * width];
        for (settled, ready) in lanes {
            workspaces.keep(ready);
            for (batch, found) in settled {
                for (index, row) in batch.iter().zip(found.chunks_exact(width)) {
                    rows[index * width..][..width].copy_from_slice(row);
                }
            }
        }
        Ok(rows)
    }
}

/// Batches and their rows.
type Settled<'b, T> = Vec<(&'b [usize], Vec<T>)>;

/// Workspaces that wait for the next batches, each with the tokens that it has room for.
#[derive(Debug)]
pub(super) struct Workspaces<W> {
    ready: Mutex<Vec<(usize, W)>>,
    /// Whether any are kept: where memory is short, other stages need it meanwhile.
    keeps: bool,
}

impl<W> Workspaces<W> {
    pub(super) fn new(device: &Device) -> Self {
        Self { ready: Mutex::default(), keeps: device.budget().is_none() }
    }

    fn ready(&self) -> MutexGuard<'_, Vec<(usize, W)>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One with room for so many tokens; a smaller one makes place for it.
    fn take(&self, tokens: usize) -> Option<(usize, W)> {
        self.ready().pop().filter(|(room, _)| *room >= tokens)
    }

    fn keep(&self, workspace: (usize, W)) {
        if self.keeps {
            self.ready().push(workspace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of two numbers: a sequence's tokens and its first id.
    fn run(device: &Device, batches: &Batches<'_>, workspaces: &Workspaces<usize>) -> Vec<u32> {
        let found = batches.run(2, workspaces, Ok, |room, batch| {
            assert!(batch.ids.len() <= *room, "{} tokens in a workspace for {room}", batch.ids.len());
            let rows: Vec<u32> =
                batch.cu_seqlens.windows(2).flat_map(|ends| [ends[1] - ends[0], batch.ids[ends[0] as usize]]).collect();
            device.request(&device.upload(&rows)?, 0..rows.len())
        });
        found.expect("it runs")
    }

    #[test]
    fn rows_come_back_in_order_whatever_the_lanes() {
        let ids: Vec<Vec<u32>> = (0..50).map(|index| vec![index; 1 + (index as usize * 7) % 23]).collect();
        let sequences: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        let right: Vec<u32> = ids.iter().flat_map(|ids| [ids.len() as u32, ids[0]]).collect();
        for budget in [None, Some(1 << 16), Some(1)] {
            let device = Device::cpu().with_budget(budget);
            for lane in [None, Some(1), Some(30), Some(10_000)] {
                let batches = Batches::new(&device, &sequences, 4, 4, lane);
                // What a budget does not hold is for the orchestration's buffers to refuse.
                let free = Device::cpu();
                let workspaces = Workspaces::new(&free);
                assert_eq!(run(&free, &batches, &workspaces), right, "{budget:?}, {lane:?}");
                assert_eq!(
                    run(&free, &batches, &workspaces),
                    right,
                    "{budget:?}, {lane:?}, with workspaces that are there"
                );
                assert!(workspaces.ready().len() <= batches.lanes, "a workspace for each lane");
            }
        }
    }

    #[test]
    fn a_budget_bounds_what_is_on_its_way_at_a_time() {
        let ids = vec![0; 100];
        let sequences = vec![ids.as_slice(); 64];
        let device = |tokens: usize| Device::cpu().with_budget(Some((tokens * (40 * 8 + 8 * 32 + 64)) as u64));
        for (tokens, lanes) in [(50, 1), (100, 1), (199, 1), (10_000, rayon::current_num_threads())] {
            let batches = Batches::new(&device(tokens), &sequences, 8, 32, Some(100));
            assert_eq!((batches.largest, batches.lanes), (100, lanes), "room for {tokens} tokens");
        }
        let batches = Batches::new(&Device::cpu(), &[], 8, 32, Some(100));
        assert_eq!((batches.batches.len(), batches.lanes), (0, 1), "nothing to do");
    }
}
