//! Novelty: how far a response is from what others answered before.
//!
//! novelty = 1 - mean of the `nearest` largest similarities to earlier arrivals by other miners to the same prompt and to
//! the history bank, clamped to [0, 1]; 1 where there is nothing to compare with. Who came first keeps his novelty.
//! Similarities are made block by block and folded into a running list: memory does not grow with the number of pairs.

mod nearest;

use bytemuck::bytes_of;

pub use nearest::{KERNEL, LONGEST, NOBODY};
use nearest::{Params, Query};

use crate::device::{Buffer, Call, Device};
use crate::nn;
use crate::{Error, Result};

/// Queries and candidates of one block of similarities: 4 MiB of them.
const BLOCK: usize = 1024;

/// Embeddings of earlier rounds.
#[derive(Clone, Copy, Debug)]
pub struct Bank<'a> {
    /// Unit rows, `[rows][width]`.
    pub values: &'a [f32],
    /// The miner of each row as this round counts them, or [`NOBODY`] if he has no row in it.
    pub miners: &'a [u32],
}

/// What a response resembles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Novelty {
    /// In [0, 1]; 1 = like nothing before.
    pub novelty: f32,
    /// The most similar earlier response, if there is any.
    pub nearest: Option<Neighbour>,
}

/// An earlier response and how similar it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neighbour {
    /// Row among the responses or, from their number on, row of the bank.
    pub row: usize,
    /// Cosine of the two embeddings.
    pub similarity: f32,
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
/// `values` are the responses' unit embeddings, `[responses][width]`; `miners` tells whose each is; `arrivals` holds, for
/// each prompt, its responses in the order in which they arrived, and every response once.
///
/// # Errors
/// [`Error::Usage`] if `nearest` is not between 1 and [`LONGEST`]; [`Error::Device`] if the device fails.
pub fn novelty(
    device: &Device,
    width: usize,
    values: &[f32],
    miners: &[u32],
    arrivals: &[Vec<u32>],
    bank: Bank<'_>,
    nearest: usize,
) -> Result<Vec<Novelty>> {
    check(nearest)?;

    // Prompt by prompt, in the order of arrival: what a row may be compared with is what stands before it.
    let order: Vec<usize> = arrivals.iter().flatten().map(|index| *index as usize).collect();
    let sorted: Vec<f32> = order.iter().flat_map(|index| &values[index * width..][..width]).copied().collect();
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

    let search = Search { device, width, nearest };
    let mut results = vec![Novelty { novelty: 1.0, nearest: None }; miners.len()];
    for start in (0..order.len()).step_by(BLOCK) {
        let block = start..(start + BLOCK).min(order.len());
        let mut list = search.begin(&sorted[block.start * width..block.end * width])?;
        search.fold(&mut list, &queries[block.clone()], &sorted, &owners, 0)?;
        search.fold(&mut list, &everything[block.clone()], bank.values, bank.miners, order.len())?;
        let similarities = device.download(&list.similarities)?;
        let candidates = device.download(&list.candidates)?;
        for (row, index) in order[block].iter().enumerate() {
            let listed = (row * nearest..(row + 1) * nearest).filter(|at| candidates[*at] != NOBODY);
            let (count, sum) = listed.fold((0, 0.0), |(count, sum), at| (count + 1, sum + similarities[at]));
            if count > 0 {
                let candidate = candidates[row * nearest] as usize;
                let earlier = order.get(candidate).copied().unwrap_or(candidate);
                results[*index] = Novelty {
                    novelty: (1.0 - sum / count as f32).clamp(0.0, 1.0),
                    nearest: Some(Neighbour { row: earlier, similarity: similarities[row * nearest] }),
                };
            }
        }
    }
    Ok(results)
}

struct Search<'a> {
    device: &'a Device,
    width: usize,
    nearest: usize,
}

/// The running list of a block of queries.
struct List {
    rows: usize,
    queries: Buffer<f32>,
    products: Buffer<f32>,
    similarities: Buffer<f32>,
    candidates: Buffer<u32>,
}

impl Search<'_> {
    fn begin(&self, queries: &[f32]) -> Result<List> {
        let rows = queries.len() / self.width;
        Ok(List {
            rows,
            queries: self.device.upload(queries)?,
            products: self.device.zeros(rows * BLOCK)?,
            similarities: self.device.zeros(rows * self.nearest)?,
            candidates: self.device.upload(&vec![NOBODY; rows * self.nearest])?,
        })
    }

    /// Folds the candidates `values` into the list. The first of them has the index `offset`.
    fn fold(&self, list: &mut List, queries: &[Query], values: &[f32], miners: &[u32], offset: usize) -> Result<()> {
        let wanted = queries.iter().filter(|query| query.start < query.end);
        let Some(start) = wanted.clone().map(|query| query.start as usize).min() else { return Ok(()) };
        let Some(end) = wanted.map(|query| query.end as usize).max() else { return Ok(()) };
        let asked = self.device.upload::<u32>(bytemuck::cast_slice(queries))?;
        for first in (start..end).step_by(BLOCK) {
            let rows = first - offset..end.min(first + BLOCK) - offset;
            let count = rows.len();
            let candidates = self.device.upload(&values[rows.start * self.width..rows.end * self.width])?;
            let owners = self.device.upload(&miners[rows])?;
            let products = list.products.range(0..list.rows * count);
            let params = nn::matmul::Params {
                rows: list.rows as u32,
                columns: count as u32,
                depth: self.width as u32,
                depth_stride: 1,
                column_stride: self.width as u32,
                bias: 0,
                activation: 0,
            };
            self.device.dispatch(
                &nn::matmul::KERNEL,
                &Call {
                    constants: &[],
                    params: bytes_of(&params),
                    bindings: &[list.queries.all(), candidates.all(), candidates.all(), products],
                    workgroups: nn::matmul::workgroups(list.rows, count),
                },
            )?;
            let params = Params { queries: list.rows as u32, candidates: count as u32, first: first as u32 };
            self.device.dispatch(
                &KERNEL,
                &Call {
                    constants: &[self.nearest as u32],
                    params: bytes_of(&params),
                    bindings: &[products, asked.all(), owners.all(), list.similarities.all(), list.candidates.all()],
                    workgroups: list.rows as u64,
                },
            )?;
        }
        Ok(())
    }
}
