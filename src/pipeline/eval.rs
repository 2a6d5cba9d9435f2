//! How good the engine is at what it is used for, measured by what is known: people's scores of pairs of texts, the quality of miners,
//! and responses that are copies.

mod copies;
mod quality;

use std::time::Instant;

use serde::Serialize;

pub use copies::{CopyRates, CopyReport, Told, Verdict, copies};
pub use quality::{ColumnReport, Correlation, MinerReport, Neighbours, QualityReport, SubsetReport, quality};

use super::Embedder;
use crate::Result;
use crate::data::Pair;
use crate::progress::{Event, Listener};
use crate::stages::eval::{pair_similarities, spearman};

/// How well similarities put pairs of texts into the order of people's scores.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextSimilarity {
    /// Pairs compared.
    pub pairs: usize,
    /// Spearman's rank correlation of similarities and scores, -1 to 1; `None` if all similarities are the same.
    pub spearman: Option<f64>,
    /// Tokens that were embedded.
    pub tokens: u64,
    /// Texts that were longer than the limit and were cut.
    pub truncated: usize,
    /// How long embedding took, in seconds.
    pub seconds: f64,
}

/// Compares the similarity of both texts of each pair with its score.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn text_similarity(embedder: &Embedder, pairs: &[Pair], listen: Listener<'_>) -> Result<TextSimilarity> {
    let began = Instant::now();
    listen(Event::Began { stage: "embedding", total: pairs.len() as u64, unit: "pairs" });
    let (mut similarities, mut tokens, mut truncated) = (Vec::with_capacity(pairs.len()), 0, 0);
    for chunk in pairs.chunks(embedder.chunk().div_ceil(2)) {
        let texts: Vec<&str> = chunk.iter().flat_map(|pair| [pair.a.as_str(), &pair.b]).collect();
        let (lists, rows) = embedder.embed(&texts)?;
        similarities.extend(pair_similarities(&rows));
        tokens += lists.iter().map(|list| list.ids.len() as u64).sum::<u64>();
        truncated += lists.iter().filter(|list| list.truncated).count();
        listen(Event::Advanced { stage: "embedding", done: similarities.len() as u64 });
    }
    let seconds = began.elapsed().as_secs_f64();
    listen(Event::Ended { stage: "embedding", seconds });
    let scores: Vec<f64> = pairs.iter().map(|pair| pair.score).collect();
    let spearman = spearman(&similarities, &scores);
    Ok(TextSimilarity { pairs: pairs.len(), spearman, tokens, truncated, seconds })
}
