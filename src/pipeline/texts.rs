//! The distinct texts of a round, and where each one's embedding stands.

use std::collections::HashMap;
use std::time::Instant;

use super::Embedder;
use crate::data::{Response, Round};
use crate::device::Device;
use crate::nn::{Embeddings, Precision, Rows};
use crate::progress::{Event, Listener};
use crate::{Error, Result};

/// Distinct texts and, once embedded, their embeddings, together with those that came with rows. Equal texts are embedded once.
pub(super) struct Texts<'a> {
    embedder: &'a Embedder,
    order: Vec<&'a str>,
    place: HashMap<&'a str, u32>,
    /// First those of the texts, in order.
    embeddings: Embeddings,
    counts: Vec<Count>,
    tokens: u64,
}

/// A round's responses among the texts: the row of each.
#[derive(Clone, Copy)]
pub(super) struct Embedded<'a> {
    pub(super) texts: &'a Texts<'a>,
    pub(super) rows: &'a [u32],
}

/// How long a text is.
#[derive(Clone, Copy)]
pub(super) struct Count {
    pub(super) tokens: u32,
    pub(super) truncated: bool,
}

impl<'a> Texts<'a> {
    pub(super) fn new(embedder: &'a Embedder) -> Self {
        Self {
            embedder,
            order: Vec::new(),
            place: HashMap::new(),
            embeddings: Embeddings::new(embedder.precision(), embedder.width()),
            counts: Vec::new(),
            tokens: 0,
        }
    }

    /// Notes a text to embed.
    pub(super) fn want(&mut self, text: &'a str) {
        self.place.entry(text).or_insert_with(|| {
            self.order.push(text);
            self.order.len() as u32 - 1
        });
    }

    /// Embeds all texts that are wanted.
    pub(super) fn embed(&mut self, listen: Listener<'_>) -> Result<()> {
        let began = Instant::now();
        listen(Event::Began { stage: "embedding", total: self.order.len() as u64, unit: "texts" });
        for chunk in self.order.chunks(self.embedder.chunk()) {
            let (tokens, embeddings) = self.embedder.embed(chunk)?;
            self.embeddings.append(embeddings.rows)?;
            for text in tokens {
                self.tokens += text.ids.len() as u64;
                self.counts.push(Count { tokens: text.ids.len() as u32, truncated: text.truncated });
            }
            listen(Event::Advanced { stage: "embedding", done: self.counts.len() as u64 });
        }
        listen(Event::Ended { stage: "embedding", seconds: began.elapsed().as_secs_f64() });
        Ok(())
    }

    /// Where texts are embedded and compared.
    pub(super) fn device(&self) -> &Device {
        self.embedder.device()
    }

    /// All embeddings so far.
    pub(super) fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// All embeddings, once nothing else is asked.
    pub(super) fn into_embeddings(self) -> Embeddings {
        self.embeddings
    }

    /// How many tokens were embedded.
    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    /// The row of a text that was wanted.
    pub(super) fn row(&self, text: &str) -> u32 {
        self.place[text]
    }

    /// The length of a text that was wanted.
    pub(super) fn count(&self, text: &str) -> Count {
        self.counts[self.row(text) as usize]
    }

    /// The row of each response of a round. Embeddings that came along are added to the others.
    pub(super) fn rows(&mut self, round: &Round) -> Result<Vec<u32>> {
        let width = self.embeddings.width;
        if let Some(length) = round.embedding_length().filter(|length| *length != width) {
            return Err(Error::Usage {
                argument: "embedding".into(),
                problem: format!("the rows' embeddings have {length} numbers, the model's have {width}"),
                remedy: "leave the embeddings out, or name the model that made them in [encoder] of the criteria"
                    .into(),
            });
        }
        let row = |response: &Response| match &response.embedding {
            None => Ok(self.row(&response.text)),
            Some(numbers) => {
                let row = match self.embedder.precision() {
                    Precision::Exact => {
                        Rows::Exact(integers(numbers).map_err(|problem| refuse(round, response, problem))?)
                    }
                    Precision::F32 => Rows::F32(unit(numbers)),
                };
                self.embeddings.append(row)?;
                Ok(self.embeddings.count() as u32 - 1)
            }
        };
        round.responses().iter().map(row).collect()
    }
}

/// How far the length of a row in integers may be from 32768: no rounding of numbers takes it further.
const SLACK: u64 = 32;

/// The integers of an embedding that came with a row, as the exact encoder makes them; else what is wrong with it.
fn integers(numbers: &[f32]) -> Result<Vec<i16>, String> {
    let mut row = Vec::with_capacity(numbers.len());
    for number in numbers {
        if number.fract() != 0.0 || *number < f32::from(i16::MIN) || *number > f32::from(i16::MAX) {
            return Err(format!("holds {number}, and the exact encoder's are integers in 32768ths"));
        }
        row.push(*number as i16);
    }
    let length = row.iter().map(|number| u64::from(number.unsigned_abs()).pow(2)).sum::<u64>().isqrt();
    if length.abs_diff(1 << 15) > SLACK {
        return Err(format!("is a row of length {length}, and the exact encoder's are of length 32768"));
    }
    Ok(row)
}

/// An embedding that came with a row, scaled to unit length in f64, in order, so that every machine gets the same bits. Its
/// numbers are finite and not all zero.
fn unit(numbers: &[f32]) -> Vec<f32> {
    let length = numbers.iter().map(|&number| f64::from(number) * f64::from(number)).sum::<f64>().sqrt();
    numbers.iter().map(|&number| (f64::from(number) / length) as f32).collect()
}

fn refuse(round: &Round, response: &Response, problem: String) -> Error {
    let remedy =
        "give what `tauscore embed` prints, leave it out, or set precision = \"f32\" in [encoder] of the criteria";
    round.refuse(response, "embedding", problem, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_brought_to_unit_length() {
        assert_eq!(unit(&[3.0, 4.0]), [0.6, 0.8], "a row of length 5");
        // Squares of these overflow and underflow f32; the unit length is right all the same.
        for size in [f32::MAX, f32::from_bits(1)] {
            assert_eq!(unit(&[size, 0.0]), [1.0, 0.0], "{size}");
        }
    }

    #[test]
    fn integers_are_taken_as_they_are_or_refused() {
        assert_eq!(integers(&[-32_768.0, 0.0]), Ok(vec![-32_768, 0]), "the longest number");
        assert_eq!(integers(&[23_170.0, -23_171.0]), Ok(vec![23_170, -23_171]), "rounded");
        assert_eq!(integers(&[32_736.0, 0.0]), Ok(vec![32_736, 0]), "as short as may be");
        for (numbers, problem) in [
            (&[0.6, 0.8][..], "holds 0.6"),
            (&[32_768.0], "holds 32768"),
            (&[1e30, 0.0], "holds 1000000"),
            (&[1.0, 0.0], "of length 1,"),
            (&[32_735.0], "of length 32735,"),
            (&[30_000.0, 30_000.0], "of length 42426,"),
        ] {
            let refused = integers(numbers).expect_err("no row of integers");
            assert!(refused.contains(problem), "{refused}");
        }
    }
}
