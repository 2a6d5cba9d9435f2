//! A round as the history bank holds it: who answered what to which prompt, and its embeddings.

use serde::{Deserialize, Serialize};

use super::Record;
use crate::data::{Options, Round, Row};
use crate::nn::{Precision, Rows};

/// A round without what scoring against it does not read: uids, references, the prompts' texts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What made the embeddings.
    encoder: String,
    precision: Precision,
    width: usize,
    prompts: Vec<String>,
    miners: Vec<String>,
    rows: Vec<Answer>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    /// Indices of prompt and miner.
    of: (u32, u32),
    text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    block: Option<u64>,
    /// Whether its embedding is kept.
    embedded: bool,
}

impl Kept {
    /// What is to be kept of a round, and the numbers of its embeddings as bytes.
    ///
    /// Integers are kept of all responses. Of floats, only those that came with the rows, as they came: to bring a row to unit length twice
    /// may move its last digit, so texts are embedded anew.
    pub(super) fn new(record: Record<'_>) -> (Self, Vec<u8>) {
        let (round, (embeddings, places)) = (record.round, record.embeddings);
        let precision = embeddings.precision();
        let mut numbers = Vec::new();
        let mut rows = Vec::with_capacity(round.responses().len());
        for (row, place) in round.responses().iter().zip(places) {
            let embedded = match (embeddings.row(*place as usize), &row.embedding) {
                (Rows::Exact(integers), _) => {
                    numbers.extend(integers.iter().flat_map(|number| number.to_le_bytes()));
                    true
                }
                (Rows::F32(_), Some(came)) => {
                    numbers.extend(came.iter().flat_map(|number| number.to_le_bytes()));
                    true
                }
                (Rows::F32(_), None) => false,
            };
            rows.push(Answer { of: (row.prompt, row.miner), text: row.text.clone(), block: row.block, embedded });
        }
        let kept = Self {
            encoder: record.encoder.to_owned(),
            precision,
            width: embeddings.width,
            prompts: round.prompts().iter().map(|prompt| prompt.id.clone()).collect(),
            miners: round.miners().iter().map(|miner| miner.hotkey.as_str().to_owned()).collect(),
            rows,
        };
        (kept, numbers)
    }

    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    pub(super) fn responses(&self) -> usize {
        self.rows.len()
    }

    /// Whether a miner answered.
    pub(super) fn has(&self, hotkey: &str) -> bool {
        self.miners.iter().any(|miner| miner == hotkey)
    }

    /// Gives a miner another name, unless he did not answer or the other one did. Tells whether it did so.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> bool {
        if self.has(to) {
            return false;
        }
        let miner = self.miners.iter_mut().find(|miner| *miner == from);
        miner.map(|miner| to.clone_into(miner)).is_some()
    }

    /// The round again, checked as any other.
    pub(super) fn restore(self, numbers: &[u8], encoder: &str) -> Result<Round, String> {
        let bytes = self.width
            * match self.precision {
                Precision::Exact => size_of::<i16>(),
                Precision::F32 => size_of::<f32>(),
            };
        let same = self.encoder == encoder;
        let mut embeddings = numbers.chunks_exact(bytes.max(1));
        let mut rows = Vec::with_capacity(self.rows.len());
        for answer in self.rows {
            let embedding = match answer.embedded {
                true => Some(embeddings.next().ok_or("fewer embeddings than responses that have one")?),
                false => None,
            };
            let name =
                |names: &[String], index: u32| names.get(index as usize).cloned().ok_or("an index without a name");
            rows.push(Row {
                prompt_id: name(&self.prompts, answer.of.0)?,
                miner: name(&self.miners, answer.of.1)?,
                response: answer.text,
                block: answer.block,
                embedding: embedding.filter(|_| same).map(|bytes| floats(bytes, self.precision)),
                ..Row::default()
            });
        }
        let (round, _) = Round::from_rows(rows, [], Options::default()).map_err(|error| error.to_string())?;
        Ok(round)
    }
}

/// The numbers of an embedding; integers as the floats that rows bring them in.
fn floats(bytes: &[u8], precision: Precision) -> Vec<f32> {
    match precision {
        Precision::Exact => bytes.as_chunks().0.iter().map(|number| f32::from(i16::from_le_bytes(*number))).collect(),
        Precision::F32 => bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect(),
    }
}

/// What a round is told by: BLAKE3 over who answered what to which prompt, in an order that is not the file's. References and criteria are
/// not part of it: a round that is judged anew is still the same round.
pub fn digest(round: &Round) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    // Every part says how long it is, so that no two rounds run together to the same bytes.
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    let mut prompts: Vec<_> = round.prompts().iter().zip(round.arrivals()).collect();
    prompts.sort_unstable_by(|left, right| left.0.id.cmp(&right.0.id));
    for (prompt, arrivals) in prompts {
        part(prompt.id.as_bytes());
        part(&(arrivals.len() as u64).to_le_bytes());
        for row in arrivals.iter().filter_map(|index| round.responses().get(*index as usize)) {
            part(round.miner_of(row).map_or("", |miner| miner.hotkey.as_str()).as_bytes());
            part(row.text.as_bytes());
            part(row.block.map(u64::to_le_bytes).as_ref().map_or(&[][..], |block| &block[..]));
            let numbers = row.embedding.iter().flatten().flat_map(|number| number.to_bits().to_le_bytes());
            part(&numbers.collect::<Vec<u8>>());
        }
    }
    *hasher.finalize().as_bytes()
}
