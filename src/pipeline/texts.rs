//! The distinct texts of a round, and where each one's embedding stands.

use std::collections::HashMap;
use std::time::Instant;

use super::Embedder;
use crate::data::Round;
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
            embeddings: Embeddings::new(Precision::F32, embedder.encoder().width()),
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

    /// All embeddings so far.
    pub(super) fn embeddings(&self) -> &Embeddings {
        &self.embeddings
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
        let row = |response: &crate::data::Response| match &response.embedding {
            None => Ok(self.row(&response.text)),
            Some(embedding) => {
                self.embeddings.append(Rows::F32(embedding.clone()))?;
                Ok(self.embeddings.count() as u32 - 1)
            }
        };
        round.responses().iter().map(row).collect()
    }
}
