//! How good the engine is at what it is used for: plain statistics of what it computed and what is known. Nothing here reads or prints.

mod bootstrap;
mod detection;
mod rank;
mod similarity;
mod words;

pub use bootstrap::{Estimate, Resampled, Resamples, Table, quantile, subset_means};
pub use detection::{Detection, Rates};
pub use rank::{partial_spearman, spearman};
pub use similarity::pair_similarities;
pub use words::rouge_l;
