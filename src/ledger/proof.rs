//! What a miner keeps to show that his responses, their scores and his weight are in a record, without anybody else's.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Digest, Entry, Head, ResponseLeaf, ScoreLeaf, Signature, WeightLeaf, merkle};
use crate::data::read_text;
use crate::{Error, Result};

/// A file of a few kilobytes: an entry's head, and for each of a miner's answers the way from it to the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// 1.
    pub tauscore_proof: u32,
    /// The miner.
    pub hotkey: String,
    /// The entry's head.
    pub head: Head,
    /// The validator's signature of it, where it is signed.
    pub signature: Option<Signature>,
    /// How many answers the entry has.
    pub answers: usize,
    /// The miner's.
    pub responses: Vec<ProvedResponse>,
    /// How many the entry gives weights to.
    pub entrants: usize,
    /// The miner's weight.
    pub weight: ProvedWeight,
}

/// An answer on its way to the roots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedResponse {
    /// To which prompt.
    pub prompt_id: String,
    /// BLAKE3 of its text.
    pub text: Digest,
    /// The score in 65535ths.
    pub score: u16,
    /// The accuracy in 65535ths.
    pub accuracy: u16,
    /// The novelty in 65535ths.
    pub novelty: u16,
    /// Its place among the answers.
    pub index: usize,
    /// From the answer to the root over responses.
    pub response_path: Vec<Digest>,
    /// From its score to the root over scores.
    pub score_path: Vec<Digest>,
}

/// A weight on its way to the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvedWeight {
    /// His uid, where one is known.
    pub uid: Option<u16>,
    /// As the chain takes it.
    pub weight: u16,
    /// His place among the entrants.
    pub index: usize,
    /// From the weight to the root over weights.
    pub path: Vec<Digest>,
}

/// A claim of a proof that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proved {
    /// Which one.
    pub claim: String,
    /// The digest that it has to lead to.
    pub expected: Digest,
    /// The digest that it leads to; `None` where it leads nowhere.
    pub found: Option<Digest>,
}

/// What `hotkey` can show of a round; `None` if the entry is no round, or gives him nothing.
pub fn prove(entry: &Entry, hotkey: &str) -> Option<Proof> {
    let round = entry.body.round()?;
    let place = round.table.entrants.iter().position(|entrant| entrant.hotkey == hotkey)?;
    let (responses, scores, weights) = (round.response_leaves(), round.score_leaves(), round.weight_leaves());
    let rows = round.scores().zip(&round.texts).enumerate().filter(|(_, (score, _))| score.hotkey == hotkey);
    let row = |(index, (leaf, text)): (usize, (ScoreLeaf<'_>, &Digest))| ProvedResponse {
        prompt_id: leaf.prompt_id.to_owned(),
        text: *text,
        score: leaf.score,
        accuracy: leaf.accuracy,
        novelty: leaf.novelty,
        index,
        response_path: merkle::path(&responses, index),
        score_path: merkle::path(&scores, index),
    };
    Some(Proof {
        tauscore_proof: 1,
        hotkey: hotkey.to_owned(),
        head: entry.head.clone(),
        signature: entry.signature,
        answers: responses.len(),
        responses: rows.map(row).collect(),
        entrants: weights.len(),
        weight: ProvedWeight {
            uid: round.table.entrants.get(place)?.uid,
            weight: *round.weights.get(place)?,
            index: place,
            path: merkle::path(&weights, place),
        },
    })
}

impl Proof {
    /// Reads a proof.
    ///
    /// # Errors
    /// [`Error::File`] if it is none; [`Error::Io`] if it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path)?;
        let refuse = |field: String, problem: String| Error::File {
            file: path.display().to_string(),
            field,
            problem,
            remedy: "name a file that `tauscore prove` wrote".into(),
        };
        let proof: Self =
            serde_json::from_str(&text).map_err(|error| refuse(format!("line {}", error.line()), error.to_string()))?;
        match proof.tauscore_proof {
            1 => Ok(proof),
            other => Err(refuse("tauscore_proof".into(), format!("version {other}, and this build reads 1"))),
        }
    }

    /// Holds every claim to `root`, the digest of the entry. Empty if all of them hold.
    pub fn check(&self, root: Digest) -> Vec<Proved> {
        let mut wrong = Vec::new();
        let mut claim = |claim: String, expected: Digest, found: Option<Digest>| {
            if found != Some(expected) {
                wrong.push(Proved { claim, expected, found });
            }
        };
        claim(format!("the head of entry {}", self.head.number), root, Some(self.head.digest()));
        if let Some(signer) = &self.head.signer {
            let message = self.head.message();
            let holds = self.signature.is_some_and(|signature| signer.verify(message.as_bytes(), &signature));
            claim(format!("the signature of {signer}"), root, holds.then_some(root));
        }
        let hotkey = self.hotkey.as_str();
        for row in &self.responses {
            let ProvedResponse { prompt_id, text, score, accuracy, novelty, index, .. } = row;
            let (score, accuracy, novelty) = (*score, *accuracy, *novelty);
            let response = ResponseLeaf { hotkey, prompt_id, text: *text }.digest();
            let found = merkle::climb(response, *index, self.answers, &row.response_path);
            claim(format!("the response to {prompt_id:?}"), self.head.responses, found);
            let leaf = ScoreLeaf { hotkey, prompt_id, score, accuracy, novelty }.digest();
            let found = merkle::climb(leaf, *index, self.answers, &row.score_path);
            claim(format!("the score of {prompt_id:?}"), self.head.scores, found);
        }
        let ProvedWeight { uid, weight, index, path } = &self.weight;
        let leaf = WeightLeaf { hotkey, uid: *uid, weight: *weight }.digest();
        claim("the weight".into(), self.head.weights, merkle::climb(leaf, *index, self.entrants, path));
        wrong
    }
}
