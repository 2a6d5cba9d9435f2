//! How alike miners answer: for each pair of them the mean over prompts of the cosine of their answers. It is what shows rings of copies as
//! blocks, and no part of any score.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ScoredMiner, ScoredResponse};
use crate::data::Round;
use crate::nn::exact::row::ONE;
use crate::nn::gemm::{self, Strides};
use crate::nn::products::{self, Matrix, Panels};
use crate::nn::{Embeddings, Rows};

/// Miners that are compared at most.
const MINERS: usize = 256;

/// Prompts that so many miners are compared by; fewer miners are compared by more, for the same work: at most 1.6e9 products of numbers
/// in rows of 384, where embedding so many answers of 100 tokens takes 1.7e13.
const PROMPTS: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// Hotkeys, the best first. Where there are too many to compare all, copiers and whom they copied are among them first.
    pub miners: Vec<String>,
    /// Prompts that they are compared by, spread evenly over those of the round.
    pub prompts: usize,
    /// For each miner the means with those before him and himself, in [-1, 1], to 4 digits; `None` where no prompt is common.
    pub similarity: Vec<Vec<Option<f64>>>,
}

/// Sums over the prompts of the cosines of all pairs, in 2^30ths, and how many there are. Integers, so that their order does not matter.
struct Sums {
    cosines: Vec<i64>,
    prompts: Vec<u32>,
}

impl Sums {
    fn new(miners: usize) -> Self {
        Self { cosines: vec![0; miners * miners], prompts: vec![0; miners * miners] }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.cosines.iter_mut().zip(&other.cosines).for_each(|(sum, more)| *sum += more);
        self.prompts.iter_mut().zip(&other.prompts).for_each(|(sum, more)| *sum += more);
        self
    }
}

/// Compares the miners of a round. `rows` says which of `embeddings` is each response's; `ranking` are indices of `miners`, the best first.
pub(super) fn similarity(
    round: &Round,
    embeddings: &Embeddings,
    rows: &[u32],
    (miners, ranking): (&[ScoredMiner], &[usize]),
    responses: &[ScoredResponse],
) -> Similarity {
    let chosen = chosen(round, (miners, ranking), responses);
    let mut place = vec![None; miners.len()];
    chosen.iter().enumerate().for_each(|(at, miner)| place[*miner] = Some(at));
    let mut answers = vec![Vec::new(); round.prompts().len()];
    for (response, row) in round.responses().iter().zip(rows) {
        if let (Some(at), Some(answers)) = (place[response.miner as usize], answers.get_mut(response.prompt as usize)) {
            answers.push((at, *row));
        }
    }
    let count = chosen.len();
    let prompts = answers.len().min((PROMPTS * MINERS * MINERS / (count * count).max(1)).max(PROMPTS));
    // The i-th of `prompts` out of all, evenly.
    let asked: Vec<&Vec<(usize, u32)>> = (0..prompts).map(|index| &answers[index * answers.len() / prompts]).collect();
    let sums = asked
        .par_iter()
        .fold(|| Sums::new(count), |sums, answers| add(sums, embeddings, answers, count))
        .reduce(|| Sums::new(count), |sums, other| sums.plus(&other));
    let mean = |at: usize| {
        let prompts = sums.prompts[at];
        let mean = sums.cosines[at] as f64 / (ONE as f64 * f64::from(prompts));
        (prompts > 0).then(|| (mean.clamp(-1.0, 1.0) * 1e4).round() / 1e4)
    };
    Similarity {
        miners: chosen.iter().map(|miner| miners[*miner].miner.clone()).collect(),
        prompts,
        similarity: (0..count).map(|a| (0..=a).map(|b| mean(a * count + b)).collect()).collect(),
    }
}

/// Whom to compare, as indices of miners in the order of `ranking`.
fn chosen(round: &Round, (miners, ranking): (&[ScoredMiner], &[usize]), responses: &[ScoredResponse]) -> Vec<usize> {
    let answered = round.miners().len();
    let mut concerned = vec![false; miners.len()];
    let copied: HashSet<&str> =
        responses.iter().filter_map(|scored| scored.copied.copy.as_ref()).map(|copy| copy.of.as_str()).collect();
    for (concerned, miner) in concerned.iter_mut().zip(miners) {
        *concerned = miner.copies > 0 || copied.contains(miner.miner.as_str());
    }
    // Who gets a weight without having answered stands behind those who have.
    let mut order: Vec<(usize, usize)> = ranking.iter().copied().enumerate().filter(|(_, at)| *at < answered).collect();
    order.sort_by_key(|(_, miner)| !concerned[*miner]);
    order.truncate(MINERS);
    order.sort_unstable();
    order.into_iter().map(|(_, miner)| miner).collect()
}

/// Adds the cosines of all pairs of `answers`: a miner's place and the row of what he answered.
fn add(mut sums: Sums, embeddings: &Embeddings, answers: &[(usize, u32)], count: usize) -> Sums {
    let (rows, width) = (answers.len(), embeddings.width);
    let of_prompt = embeddings.select(&answers.iter().map(|(_, row)| *row).collect::<Vec<_>>());
    let cosines: Vec<i64> = match of_prompt.rows {
        Rows::Exact(values) => {
            let inputs = width.next_multiple_of(4);
            let mut padded = vec![0; rows * inputs];
            for (padded, row) in padded.chunks_exact_mut(inputs.max(1)).zip(values.chunks_exact(width.max(1))) {
                padded[..width].copy_from_slice(row);
            }
            let panels = products::pack(&padded, rows, inputs);
            let mut out = vec![0; rows * rows];
            let matrix = Matrix { outputs: rows, depth: inputs / 4, panels: Panels::Halves(&panels) };
            products::multiply(&padded, matrix, &mut out);
            out.into_iter().map(i64::from).collect()
        }
        Rows::F32(values) => {
            let mut out = vec![0.0; rows * rows];
            let [across, down] = [Strides { row: width, column: 1 }, Strides { row: 1, column: width }];
            gemm::multiply(
                [rows, rows, width],
                (&values, across),
                (&values, down),
                (&mut out, Strides { row: rows, column: 1 }),
            );
            out.into_iter().map(|cosine| (f64::from(cosine) * ONE as f64).round() as i64).collect()
        }
    };
    for ((miner, _), cosines) in answers.iter().zip(cosines.chunks_exact(rows.max(1))) {
        for ((other, _), cosine) in answers.iter().zip(cosines) {
            sums.cosines[miner * count + other] += cosine;
            sums.prompts[miner * count + other] += 1;
        }
    }
    sums
}
