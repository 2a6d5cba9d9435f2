//! Packed sequences of token ids: no padding, offsets instead.

/// Sequences laid end to end. Sequence `i` holds the tokens `[cu_seqlens[i], cu_seqlens[i + 1])`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBatch {
    /// Token ids of all sequences.
    pub ids: Vec<u32>,
    /// Cumulative sequence lengths, from 0 to the number of tokens: one more than there are sequences.
    pub cu_seqlens: Vec<u32>,
    /// The longest sequence.
    pub max_len: u32,
}

impl TokenBatch {
    /// Lays `sequences` end to end.
    pub fn pack<'a>(sequences: impl IntoIterator<Item = &'a [u32]>) -> Self {
        let mut batch = Self { ids: Vec::new(), cu_seqlens: vec![0], max_len: 0 };
        for sequence in sequences {
            batch.ids.extend_from_slice(sequence);
            batch.cu_seqlens.push(batch.ids.len() as u32);
            batch.max_len = batch.max_len.max(sequence.len() as u32);
        }
        batch
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.cu_seqlens.len().saturating_sub(1)
    }

    /// Each token's place in its sequence, from 0.
    pub fn positions(&self) -> Vec<u32> {
        self.cu_seqlens.windows(2).flat_map(|bounds| 0..bounds[1] - bounds[0]).collect()
    }
}

/// Groups sequences of `lengths` into batches of at most `budget` tokens: indices into `lengths`, longest first, so that a
/// batch's sequences are alike. A sequence longer than the budget is a batch of its own. The grouping changes no result.
pub fn plan(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(lengths[*index]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for index in order {
        if batches.is_empty() || lengths[index] > room {
            batches.push(Vec::new());
            room = budget;
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(index);
        }
        room = room.saturating_sub(lengths[index]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_keeps_sequences_apart() {
        let batch = TokenBatch::pack([&[7, 8, 9][..], &[], &[5]]);
        assert_eq!(batch, TokenBatch { ids: vec![7, 8, 9, 5], cu_seqlens: vec![0, 3, 3, 4], max_len: 3 }, "packed");
        assert_eq!(batch.positions(), [0, 1, 2, 0], "positions restart");
        assert_eq!(batch.sequences(), 3, "an empty sequence counts");
    }

    #[test]
    fn a_plan_holds_every_sequence_once_and_keeps_to_the_budget() {
        let lengths = [3, 9, 1, 4, 4, 20, 0, 2];
        let batches = plan(&lengths, 8);
        let mut all: Vec<usize> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>(), "each once");
        for batch in batches {
            let tokens: usize = batch.iter().map(|index| lengths[*index]).sum();
            assert!(tokens <= 8 || batch.len() == 1, "{batch:?} holds {tokens} tokens");
        }
    }
}
