//! What models said before, by what they read: so that nothing has to be read twice, be it in the next round, after an interruption, or where a
//! round was split among machines.
//!
//! A model says the same of a text whatever else it reads with it (ARCHITECTURE.md), so what stands here is what it would say now.

mod file;

use std::collections::{HashMap, HashSet};

use safetensors::tensor::Dtype;

use super::judge::{Case, Judged, Reading};
use super::texts::Count;
use super::{Embedder, Judge};
use crate::Result;
use crate::nn::{Embeddings, Rows};
use crate::progress::Listener;

/// The BLAKE3 digest of what was read.
pub(super) type Digest = [u8; 32];

/// What is not asked for in so many rounds in a row is forgotten.
const KEPT: u32 = 2;

/// The models that judge, and what they said before.
#[derive(Debug)]
pub struct Models<'a> {
    pub(super) embedder: &'a Embedder,
    pub(super) judge: Option<&'a Judge>,
    pub(super) texts: TextMeasurements,
    pub(super) cases: CaseMeasurements,
}

/// Embeddings of texts.
#[derive(Debug)]
pub(super) struct TextMeasurements {
    place: HashMap<Digest, u32>,
    /// One for each row that is a text's.
    texts: Vec<KnownText>,
    /// First those of the texts; behind them what came with rows, until the next round.
    embeddings: Embeddings,
    round: u32,
}

/// A text that was embedded.
#[derive(Clone, Copy, Debug)]
struct KnownText {
    digest: Digest,
    count: Count,
    /// The last round that asked for it.
    asked: u32,
}

/// What a language model said of responses.
#[derive(Debug, Default)]
pub(super) struct CaseMeasurements {
    known: HashMap<Digest, KnownCase>,
    round: u32,
}

/// A response that was judged.
#[derive(Clone, Debug)]
struct KnownCase {
    verdict: Verdict,
    /// As in [`KnownText`].
    asked: u32,
}

/// What came of a case, or why it cannot be judged.
pub(super) type Verdict = std::result::Result<Judged, String>;

impl<'a> Models<'a> {
    /// With nothing known yet. `judge` is the language model that the criteria's kind of loss needs
    /// ([`LossConfig::reading`](crate::config::LossConfig::reading)).
    pub fn new(embedder: &'a Embedder, judge: Option<&'a Judge>) -> Self {
        Self { embedder, judge, texts: TextMeasurements::new(embedder), cases: CaseMeasurements::default() }
    }

    /// How many texts and how many cases are known.
    pub fn known(&self) -> (usize, usize) {
        (self.texts.texts.len(), self.cases.known.len())
    }

    /// The embeddings of the last round, its history and its references.
    pub fn embeddings(&self) -> &Embeddings {
        self.texts.embeddings()
    }

    /// Begins a round. What is asked for from now on is kept; what the last rounds did not ask for is forgotten.
    pub(super) fn begin(&mut self) {
        self.texts.begin();
        self.cases.begin();
    }
}

impl TextMeasurements {
    pub fn new(embedder: &Embedder) -> Self {
        Self {
            place: HashMap::new(),
            texts: Vec::new(),
            embeddings: Embeddings::new(embedder.precision(), embedder.width()),
            round: 0,
        }
    }

    /// See [`Models::begin`].
    fn begin(&mut self) {
        self.round += 1;
        self.trim();
        let oldest = self.round.saturating_sub(KEPT);
        if self.texts.iter().all(|text| text.asked >= oldest) {
            return;
        }
        let kept: Vec<u32> =
            (0..).zip(&self.texts).filter(|(_, text)| text.asked >= oldest).map(|(row, _)| row).collect();
        self.embeddings = self.embeddings.select(&kept);
        self.texts = kept.iter().map(|row| self.texts[*row as usize]).collect();
        self.place = self.texts.iter().map(|text| text.digest).zip(0..).collect();
    }

    /// The row of a text, if it is known.
    pub fn ask(&mut self, digest: &Digest) -> Option<u32> {
        let row = *self.place.get(digest)?;
        self.texts[row as usize].asked = self.round;
        Some(row)
    }

    /// All rows.
    pub fn embeddings(&self) -> &Embeddings {
        &self.embeddings
    }

    /// The rows of texts, and of what type their numbers are.
    fn rows(&self) -> (Dtype, &[u8]) {
        let count = self.texts.len() * self.embeddings.width;
        match &self.embeddings.rows {
            Rows::Exact(rows) => (Dtype::I16, bytemuck::cast_slice(&rows[..count])),
            Rows::F32(rows) => (Dtype::F32, bytemuck::cast_slice(&rows[..count])),
        }
    }

    /// How long the text of a row is.
    pub fn count(&self, row: u32) -> Count {
        self.texts[row as usize].count
    }

    /// Adds a row that came along, and tells which it is.
    pub fn append(&mut self, row: Rows) -> Result<u32> {
        self.embeddings.append(row)?;
        Ok(self.embeddings.count() as u32 - 1)
    }

    /// Takes away the rows that came along.
    fn trim(&mut self) {
        self.embeddings.truncate(self.texts.len());
    }

    /// Adds those of some texts that are not known.
    fn add_unknown(&mut self, texts: impl Iterator<Item = (Digest, Count)>, all: Embeddings) -> Result<()> {
        self.trim();
        let mut seen = HashSet::new();
        let unknown =
            (0..).zip(texts).filter(|(_, (digest, _))| !self.place.contains_key(digest) && seen.insert(*digest));
        let (rows, texts): (Vec<u32>, Vec<_>) = unknown.unzip();
        let all = if rows.len() == all.count() { all } else { all.select(&rows) };
        self.add(texts.into_iter(), all.rows)
    }

    /// Adds texts that are not known, with their rows, behind the other texts.
    pub fn add(&mut self, texts: impl Iterator<Item = (Digest, Count)>, rows: Rows) -> Result<()> {
        self.embeddings.append(rows)?;
        for (digest, count) in texts {
            self.place.insert(digest, self.texts.len() as u32);
            self.texts.push(KnownText { digest, count, asked: self.round });
        }
        Ok(())
    }
}

/// A language model with what it said before.
pub(super) struct Judging<'a> {
    pub judge: &'a Judge,
    pub known: &'a mut CaseMeasurements,
}

impl Judging<'_> {
    /// As [`Judge::judge`]; only what is not known is judged.
    pub fn judge(&mut self, cases: &[Case<'_>], reading: &Reading, listen: Listener<'_>) -> Result<Vec<Verdict>> {
        let digests: Vec<Digest> = cases.iter().map(|case| digest(case, reading)).collect();
        let mut wanted = HashSet::new();
        let unknown = cases.iter().zip(&digests);
        let unknown = unknown.filter(|(_, digest)| self.known.ask(digest).is_none() && wanted.insert(**digest));
        let (unknown, new): (Vec<Case<'_>>, Vec<&Digest>) = unknown.map(|(case, digest)| (*case, digest)).unzip();
        let verdicts = self.judge.judge(&unknown, reading, listen)?;
        new.into_iter().zip(verdicts).for_each(|(digest, verdict)| self.known.add(*digest, verdict));
        Ok(digests.iter().filter_map(|digest| self.known.ask(digest).cloned()).collect())
    }
}

/// Of all that a verdict depends on, but for the model.
fn digest(case: &Case<'_>, reading: &Reading) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let reference = case.reference.filter(|_| reading.judgement.needs_reference()).unwrap_or_default();
    let lengths = format!("{:?} {} {}", reading.judgement, reading.response_tokens, reading.reference_tokens);
    for part in [&lengths, case.prompt, case.response, reference] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

impl CaseMeasurements {
    /// See [`Models::begin`].
    fn begin(&mut self) {
        self.round += 1;
        let oldest = self.round.saturating_sub(KEPT);
        self.known.retain(|_, case| case.asked >= oldest);
    }

    /// What came of a case, if it is known.
    pub fn ask(&mut self, digest: &Digest) -> Option<&Verdict> {
        let case = self.known.get_mut(digest)?;
        case.asked = self.round;
        Some(&case.verdict)
    }

    /// Adds what came of a case.
    pub fn add(&mut self, digest: Digest, verdict: Verdict) {
        self.known.insert(digest, KnownCase { verdict, asked: self.round });
    }
}
