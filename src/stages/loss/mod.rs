//! Reference loss: how far a response is from the reference.
#![deny(clippy::float_arithmetic)]

mod answer;
mod arrays;
pub(crate) mod cosine;
mod exact;
mod hollow;
mod logits;
pub mod relative;

pub use answer::Matcher;
pub use arrays::Fault;
pub use hollow::is_hollow;
pub use logits::{Judged, LARGEST_LOSS, logits, logprobs};
use regex::Regex;

use crate::Result;
use crate::device::Device;
use crate::nn::{Embeddings, Rows};

/// The embedding loss 1 - cosine of each response to its reference: in [0, 2], 0 = the same direction.
///
/// Response `i` has the row `responses[i]` of `embeddings`, its reference the row `references[i]`.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn embedding(device: &Device, embeddings: &Embeddings, responses: &[u32], references: &[u32]) -> Result<Vec<f64>> {
    let width = embeddings.width;
    match &embeddings.rows {
        Rows::Exact(values) => Ok(exact::losses(width, values, responses, references)),
        Rows::F32(values) => cosine::losses(device, width, values, responses, references),
    }
}

#[expect(clippy::expect_used, reason = "the patterns are constants of this room, and its tests compile each of them")]
fn known(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a pattern")
}
