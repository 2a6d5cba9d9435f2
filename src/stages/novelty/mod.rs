//! Novelty: how far a response is from what others answered before.
//!
//! novelty = 1 - mean of the `nearest` largest similarities to earlier arrivals by other miners to the same prompt and to
//! the history bank, clamped to [0, 1]; 1 where there is nothing to compare with. Who came first keeps his novelty. The other definitions
//! in use are [`Against`]'s.
//! Similarities are made block by block and folded into a running list: memory does not grow with the number of pairs.
//!
//! Of embeddings in integers everything up to the sum of the similarities is an integer, and the same on every machine. The
//! search is one for both precisions: it orders keys, which are integers (`nearest.rs`).
#![deny(clippy::float_arithmetic)]

mod exact;
mod float;
pub(crate) mod nearest;
pub(crate) mod products;

use std::ops::Range;

use bytemuck::bytes_of;
use serde::{Deserialize, Serialize};

pub use nearest::{LONGEST, NOBODY};
use nearest::{Params, Query};

use crate::device::{Buffer, Call, Device};
use crate::nn::{Embeddings, Precision};
use crate::{Error, Result};

/// Queries whose lists are filled together: often enough for what a block of candidates costs by itself.
const QUERIES: usize = 4096;

/// Candidates in a block: with all queries 8 MiB of similarities, and little of them between rows that are not compared.
const CANDIDATES: usize = 512;

/// Of a block those queries are left out, so many at once, that want none of its candidates: their rows begin on the multiples of 256
/// bytes that bindings of every device can.
const STEP: usize = 64;

/// What a response is compared with: the definitions of novelty that are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// What arrived before: earlier answers to the same prompt, and earlier rounds. The mean of the `nearest` largest similarities.
    #[default]
    Earlier,
    /// All other answers to the same prompt, whenever they arrived: the `nearest`-th largest similarity (the least if there are fewer).
    Batch,
    /// Earlier rounds alone: the mean of the `nearest` largest similarities.
    History,
}

/// The responses of earlier rounds.
#[derive(Clone, Copy, Debug)]
pub struct Bank<'a> {
    /// The row of each one's embedding.
    pub rows: &'a [u32],
    /// The miner of each as this round counts them, or [`NOBODY`] if he has no response in it.
    pub miners: &'a [u32],
}

/// What a response resembles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Novelty {
    /// In [0, 1]; 1 = like nothing before.
    pub novelty: f64,
    /// The most similar earlier response, if there is any.
    pub nearest: Option<Neighbour>,
}

/// An earlier response and how similar it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Index among the responses or, from their number on, index in the bank.
    pub index: usize,
    /// Cosine of the two embeddings.
    pub similarity: f64,
}

/// Whether a list of this length can be kept.
///
/// # Errors
/// [`Error::Usage`] if it is not between 1 and [`LONGEST`].
pub fn check(nearest: usize) -> Result<()> {
    if (1..=LONGEST).contains(&nearest) {
        return Ok(());
    }
    Err(Error::Usage {
        argument: "novelty.nearest".into(),
        problem: format!("{nearest} is not between 1 and {LONGEST}"),
        remedy: "1 is the default".into(),
    })
}

/// Measures the novelty of every response: one [`Novelty`] each, in the given order.
///
/// `rows` tells which row of `embeddings` is each response's, `miners` whose each is; `arrivals` holds, for each prompt, its
/// responses in the order in which they arrived, and every response once.
///
/// # Errors
/// [`Error::Usage`] if `nearest` is not between 1 and [`LONGEST`]; [`Error::Device`] if the device fails.
pub fn novelty(
    device: &Device,
    embeddings: &Embeddings,
    rows: &[u32],
    miners: &[u32],
    arrivals: &[Vec<u32>],
    bank: Bank<'_>,
    (against, nearest): (Against, usize),
) -> Result<Vec<Novelty>> {
    check(nearest)?;
    let bank = if against == Against::Batch { Bank { rows: &[], miners: &[] } } else { bank };

    // Prompt by prompt, in the order of arrival: what a row may be compared with is what stands before it.
    let order: Vec<usize> = arrivals.iter().flatten().map(|index| *index as usize).collect();
    let sorted: Vec<u32> = order.iter().map(|index| rows[*index]).collect();
    let owners: Vec<u32> = order.iter().map(|index| miners[*index]).collect();
    let mut queries: Vec<Query> = Vec::with_capacity(order.len());
    for group in arrivals {
        let start = queries.len() as u32;
        queries.extend(group.iter().zip(start..).map(|(index, place)| {
            let end = match against {
                Against::Earlier => place,
                Against::Batch => start + group.len() as u32,
                Against::History => start,
            };
            Query { start, end, owner: miners[*index as usize] }
        }));
    }
    let everything: Vec<Query> = queries
        .iter()
        .map(|query| Query { start: order.len() as u32, end: (order.len() + bank.miners.len()) as u32, ..*query })
        .collect();

    let read = match embeddings.precision() {
        Precision::Exact => exact::read,
        Precision::F32 => float::read,
    };
    let same = match embeddings.precision() {
        Precision::Exact => exact::SAME,
        Precision::F32 => float::SAME,
    };
    let row = |candidate: usize| match candidate.checked_sub(order.len()) {
        None => embeddings.bytes(sorted[candidate]),
        Some(candidate) => embeddings.bytes(bank.rows[candidate]),
    };
    let mut results = vec![Novelty { novelty: 1.0, nearest: None }; miners.len()];
    if order.is_empty() {
        return Ok(results);
    }
    let similarities = device.zeros(order.len().min(QUERIES) * CANDIDATES)?;
    let search = Search { device, embeddings, nearest, similarities };
    for start in (0..order.len()).step_by(QUERIES) {
        let block = start..(start + QUERIES).min(order.len());
        let list = search.begin(&sorted[block.clone()])?;
        search.fold(&list, &queries[block.clone()], Bank { rows: &sorted, miners: &owners }, 0)?;
        search.fold(&list, &everything[block.clone()], bank, order.len())?;
        let (mut keys, candidates) = (device.download(&list.keys)?, device.download(&list.candidates)?);
        let lists = keys.chunks_exact_mut(nearest).zip(candidates.chunks_exact(nearest));
        for (at, (keys, candidates)) in block.zip(lists) {
            let index = order[at];
            let count = candidates.iter().position(|candidate| *candidate == NOBODY).unwrap_or(nearest);
            for (key, candidate) in keys.iter_mut().zip(&candidates[..count]) {
                // A copy is one, whatever the rounding of rows makes of its length.
                if row(*candidate as usize) == row(at) {
                    *key = same;
                }
            }
            if count > 0 {
                let (mut novelty, similarity) = read(&keys[..count]);
                if against == Against::Batch {
                    (novelty, _) = read(&keys[count - 1..count]);
                }
                let candidate = candidates[0] as usize;
                let index_of_nearest = order.get(candidate).copied().unwrap_or(candidate);
                results[index] = Novelty { novelty, nearest: Some(Neighbour { index: index_of_nearest, similarity }) };
            }
        }
    }
    Ok(results)
}

struct Search<'a> {
    device: &'a Device,
    embeddings: &'a Embeddings,
    nearest: usize,
    /// Of a block: integers or floats, as the precision is.
    similarities: Buffer<u32>,
}

/// The running lists of some queries.
struct List {
    queries: Buffer<u32>,
    keys: Buffer<i32>,
    candidates: Buffer<u32>,
}

impl Search<'_> {
    /// Empty lists for the rows `queries`.
    fn begin(&self, queries: &[u32]) -> Result<List> {
        Ok(List {
            queries: self.device.upload(&self.embeddings.words(queries))?,
            keys: self.device.zeros(queries.len() * self.nearest)?,
            candidates: self.device.upload(&vec![NOBODY; queries.len() * self.nearest])?,
        })
    }

    /// Folds `candidates` into the lists. The first of them has the index `offset`.
    fn fold(&self, list: &List, queries: &[Query], candidates: Bank<'_>, offset: usize) -> Result<()> {
        let wanted = queries.iter().filter(|query| query.start < query.end);
        let Some(start) = wanted.clone().map(|query| query.start as usize).min() else { return Ok(()) };
        let Some(end) = wanted.map(|query| query.end as usize).max() else { return Ok(()) };
        let asked = self.device.upload::<u32>(bytemuck::cast_slice(queries))?;
        for first in (start..end).step_by(CANDIDATES) {
            let last = end.min(first + CANDIDATES);
            let wants = |query: &Query| (query.start as usize) < last && first < query.end as usize;
            let Some(from) = queries.iter().position(wants) else { continue };
            let to = queries.iter().rposition(wants).map_or(from, |last| last + 1);
            let block = first - offset..last - offset;
            let block = Bank { rows: &candidates.rows[block.clone()], miners: &candidates.miners[block] };
            self.fold_block(list, from / STEP * STEP..to, &asked, block, first)?;
        }
        Ok(())
    }

    /// Folds a block of candidates into the lists of `queries`, which begin on a multiple of [`STEP`].
    fn fold_block(
        &self,
        list: &List,
        queries: Range<usize>,
        asked: &Buffer<u32>,
        candidates: Bank<'_>,
        first: usize,
    ) -> Result<()> {
        let precision = self.embeddings.precision();
        let similarities = match precision {
            Precision::Exact => exact::similarities,
            Precision::F32 => float::similarities,
        };
        let (words, count) = (self.embeddings.words_in_row(), candidates.rows.len());
        let part = |width: usize| queries.start * width..queries.end * width;
        let rows = self.device.upload(&self.embeddings.words(candidates.rows))?;
        let owners = self.device.upload(candidates.miners)?;
        let block = self.similarities.range(0..queries.len() * count);
        let factors = [list.queries.range(part(words)), rows.all()];
        similarities(self.device, factors, [queries.len(), count, words], block)?;
        let params = Params {
            queries: queries.len() as u32,
            candidates: count as u32,
            first: first as u32,
            floats: u32::from(precision == Precision::F32),
        };
        let asked = asked.range(part(size_of::<Query>() / size_of::<u32>()));
        let (keys, best) = (list.keys.range(part(self.nearest)), list.candidates.range(part(self.nearest)));
        self.device.dispatch(
            &nearest::KERNEL,
            &Call {
                constants: &[self.nearest as u32],
                params: bytes_of(&params),
                bindings: &[block, asked, owners.all(), keys, best],
                workgroups: queries.len() as u64,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Noise;
    use crate::nn::Rows;

    /// Small numbers, so that ties are many: the lower index must win, whichever block it stands in.
    #[test]
    fn lists_of_all_blocks_are_those_of_all_pairs() {
        const WIDTH: usize = 5;
        let mut noise = Noise::new(3);
        let groups = [1, 70, QUERIES + CANDIDATES + 9, 0, CANDIDATES - 1, 300];
        let (responses, earlier) = (groups.iter().sum::<usize>(), 2 * CANDIDATES + 3);
        let count = responses + earlier;
        let values: Vec<i16> = (0..count * WIDTH).map(|_| noise.below(9) as i16 - 4).collect();
        // Rows stand in another order than responses and bank do.
        let rows: Vec<u32> = (0..count as u32).map(|index| (index * 7) % count as u32).collect();
        let miners: Vec<u32> = (0..count).map(|_| noise.below(900)).collect();
        let mut next = (0..responses as u32).rev();
        let arrivals: Vec<Vec<u32>> = groups.iter().map(|size| next.by_ref().take(*size).collect()).collect();
        let (of_bank, of_responses) = (&rows[responses..], &rows[..responses]);
        let row = |index: usize| &values[rows[index] as usize * WIDTH..][..WIDTH];
        let product = |a: usize, b: usize| row(a).iter().zip(row(b)).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum();

        let embeddings = Embeddings { width: WIDTH, rows: Rows::Exact(values.clone()) };
        let bank = Bank { rows: of_bank, miners: &miners[responses..] };
        let of_miners = &miners[..responses];
        let found =
            novelty(&Device::cpu(), &embeddings, of_responses, of_miners, &arrivals, bank, (Against::Earlier, 3))
                .expect("measured");
        let mut compared = 0;
        for group in &arrivals {
            for (at, query) in group.iter().enumerate() {
                let query = *query as usize;
                let before = group[..at].iter().map(|index| *index as usize).chain(responses..count);
                let others = before.filter(|index| miners[*index] != miners[query]);
                let mut list: Vec<(i32, usize)> = others.map(|index| (product(query, index), index)).collect();
                list.sort_by_key(|(key, _)| -key); // stable: the earlier one first
                let same = |&(key, index): &(i32, usize)| if row(index) == row(query) { exact::SAME } else { key };
                let keys: Vec<i32> = list.iter().take(3).map(same).collect();
                let (novelty, similarity) = exact::read(&keys);
                let nearest = Some(Neighbour { index: list[0].1, similarity });
                assert_eq!(found[query], Novelty { novelty, nearest }, "response {query}");
                compared += 1;
            }
        }
        assert_eq!(compared, responses, "every response once");
    }
}
