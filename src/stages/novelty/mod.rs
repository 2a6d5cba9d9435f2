//! Novelty: how far a response is from what others answered before.
//!
//! novelty = 1 - mean of the `nearest` largest similarities to earlier arrivals by other miners to the same prompt and to
//! the history bank, clamped to [0, 1]; 1 where there is nothing to compare with. Who came first keeps his novelty.
//! Similarities are made block by block and folded into a running list: memory does not grow with the number of pairs.
//!
//! Of embeddings in integers everything up to the sum of the similarities is an integer, and the same on every machine. The
//! search is one for both precisions: it orders keys, which are integers (`nearest.rs`).
#![deny(clippy::float_arithmetic)]

mod exact;
mod float;
pub(crate) mod nearest;
pub(crate) mod products;

use bytemuck::bytes_of;

pub use nearest::{LONGEST, NOBODY};
use nearest::{Params, Query};

use crate::device::{Buffer, Call, Device};
use crate::nn::{Embeddings, Precision};
use crate::{Error, Result};

/// Queries and candidates of one block of similarities: 4 MiB of them.
const BLOCK: usize = 1024;

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
    nearest: usize,
) -> Result<Vec<Novelty>> {
    check(nearest)?;

    // Prompt by prompt, in the order of arrival: what a row may be compared with is what stands before it.
    let order: Vec<usize> = arrivals.iter().flatten().map(|index| *index as usize).collect();
    let sorted = embeddings.words(&order.iter().map(|index| rows[*index]).collect::<Vec<_>>());
    let earlier = embeddings.words(bank.rows);
    let owners: Vec<u32> = order.iter().map(|index| miners[*index]).collect();
    let mut queries: Vec<Query> = Vec::with_capacity(order.len());
    for group in arrivals {
        let start = queries.len() as u32;
        queries.extend(group.iter().zip(start..).map(|(index, end)| Query {
            start,
            end,
            owner: miners[*index as usize],
        }));
    }
    let everything: Vec<Query> = queries
        .iter()
        .map(|query| Query { start: order.len() as u32, end: (order.len() + bank.miners.len()) as u32, ..*query })
        .collect();

    let (precision, words) = (embeddings.precision(), embeddings.words_in_row());
    let read = match precision {
        Precision::Exact => exact::read,
        Precision::F32 => float::read,
    };
    let same = match precision {
        Precision::Exact => exact::SAME,
        Precision::F32 => float::SAME,
    };
    let row = |candidate: usize| match candidate.checked_sub(order.len()) {
        None => &sorted[candidate * words..][..words],
        Some(candidate) => &earlier[candidate * words..][..words],
    };
    let search = Search { device, precision, words, nearest };
    let mut results = vec![Novelty { novelty: 1.0, nearest: None }; miners.len()];
    for start in (0..order.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(order.len());
        let mut list = search.begin(&sorted[block.start * words..block.end * words])?;
        search.fold(&mut list, &queries[block.clone()], &sorted, &owners, 0)?;
        search.fold(&mut list, &everything[block.clone()], &earlier, bank.miners, order.len())?;
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
                let (novelty, similarity) = read(&keys[..count]);
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
    precision: Precision,
    /// In a row.
    words: usize,
    nearest: usize,
}

/// The running list of a block of queries.
struct List {
    rows: usize,
    queries: Buffer<u32>,
    /// Integers or floats, as the precision is.
    similarities: Buffer<u32>,
    keys: Buffer<i32>,
    candidates: Buffer<u32>,
}

impl Search<'_> {
    fn begin(&self, queries: &[u32]) -> Result<List> {
        let rows = queries.len() / self.words;
        Ok(List {
            rows,
            queries: self.device.upload(queries)?,
            similarities: self.device.zeros(rows * BLOCK)?,
            keys: self.device.zeros(rows * self.nearest)?,
            candidates: self.device.upload(&vec![NOBODY; rows * self.nearest])?,
        })
    }

    /// Folds the candidates `values` into the list. The first of them has the index `offset`.
    fn fold(&self, list: &mut List, queries: &[Query], values: &[u32], miners: &[u32], offset: usize) -> Result<()> {
        let similarities = match self.precision {
            Precision::Exact => exact::similarities,
            Precision::F32 => float::similarities,
        };
        let wanted = queries.iter().filter(|query| query.start < query.end);
        let Some(start) = wanted.clone().map(|query| query.start as usize).min() else { return Ok(()) };
        let Some(end) = wanted.map(|query| query.end as usize).max() else { return Ok(()) };
        let asked = self.device.upload::<u32>(bytemuck::cast_slice(queries))?;
        for first in (start..end).step_by(BLOCK) {
            let rows = first - offset..end.min(first + BLOCK) - offset;
            let count = rows.len();
            let candidates = self.device.upload(&values[rows.start * self.words..rows.end * self.words])?;
            let owners = self.device.upload(&miners[rows])?;
            let block = list.similarities.range(0..list.rows * count);
            similarities(self.device, [list.queries.all(), candidates.all()], [list.rows, count, self.words], block)?;
            let params = Params {
                queries: list.rows as u32,
                candidates: count as u32,
                first: first as u32,
                floats: u32::from(self.precision == Precision::F32),
            };
            self.device.dispatch(
                &nearest::KERNEL,
                &Call {
                    constants: &[self.nearest as u32],
                    params: bytes_of(&params),
                    bindings: &[block, asked.all(), owners.all(), list.keys.all(), list.candidates.all()],
                    workgroups: list.rows as u64,
                },
            )?;
        }
        Ok(())
    }
}
