//! What an entry says, and its canonical bytes: [Borsh](https://borsh.io), in which a value has one form only. Changing a type of this file, or
//! one of those in it, is a new version of the format.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{Approval, Digest, PublicKey, Signature, Tally, Voter, merkle};
use crate::stages::weights::{Entrant, Memory, Table};

const HEAD: &str = "tauscore 2026-11 ledger: head of an entry";
const BODY: &str = "tauscore 2026-11 ledger: body of an entry";
const RESPONSE: &str = "tauscore 2026-11 ledger: response";
const SCORE: &str = "tauscore 2026-11 ledger: score";
const WEIGHT: &str = "tauscore 2026-11 ledger: weight";

/// An entry: a head of a few hundred bytes that commits to everything else.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Entry {
    /// What its digest is over.
    pub head: Head,
    /// What happened.
    pub body: Body,
    /// The signature of [`Head::message`] by [`Head::signer`], where there is one.
    pub signature: Option<Signature>,
}

/// What an entry concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The subnet.
    pub netuid: u16,
    /// The mechanism within the subnet.
    pub mechanism: u8,
    /// The block, or 0.
    pub block: u64,
}

/// What an entry commits to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its number, from 1.
    pub number: u64,
    /// The digest of the entry before it; zeros at the first.
    pub previous: Digest,
    /// The subnet.
    pub netuid: u16,
    /// The mechanism within the subnet.
    pub mechanism: u8,
    /// The block of the round, where one is known; else 0.
    pub block: u64,
    /// The criteria from here on: BLAKE3 of their TOML.
    pub criteria: Digest,
    /// Merkle root over the responses ([`Round::response_leaves`]); zeros without a round.
    pub responses: Digest,
    /// Merkle root over their scores ([`Round::score_leaves`]).
    pub scores: Digest,
    /// Merkle root over the weights ([`Round::weight_leaves`]).
    pub weights: Digest,
    /// The digest of the body.
    pub body: Digest,
    /// Who signs it, if anybody does.
    pub signer: Option<PublicKey>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub enum Body {
    /// A round was scored.
    Round(Box<Round>),
    /// Other criteria are in force from the next round on.
    CriteriaChanged(CriteriaChanged),
}

/// A round that was scored: all that its weights and its epoch were computed from, and digests of what its scores were computed from.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct Round {
    /// The version of tauscore.
    pub engine: String,
    /// The device that it ran on.
    pub device: String,
    /// Digest of the kernels' shaders.
    pub shaders: Digest,
    /// The models that judged, in the order in which the criteria name them.
    pub models: Vec<Model>,
    /// The criteria as TOML, in the ledger's first entry only: later ones come by [`CriteriaChanged`].
    pub criteria: Option<String>,
    /// How far a score may be from this one's when it is computed again elsewhere, in 65535ths: 0 where everything is integers.
    pub step: u16,
    /// What the round is told by ([`state::digest`](crate::state::digest)): who answered what to which prompt, and when.
    pub round: Digest,
    /// Digest of prompts and references ([`prompts`](super::prompts)).
    pub prompts: Digest,
    /// The earlier rounds that count as answered before, each as told by [`Round::round`].
    pub history: Vec<Digest>,
    /// The round as it was weighed.
    pub table: Table,
    /// The digest of each answer's text, in the order of [`Table::answers`].
    pub texts: Vec<Digest>,
    /// What the stages of the weights remembered before the round; nothing without such stages.
    pub memory: Memory,
    /// The weight row as the chain takes it, one for each of [`Table::entrants`].
    pub weights: Vec<u16>,
    /// The epoch, if one ran.
    pub epoch: Option<Epoch>,
}

/// A model that judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, BorshSerialize, BorshDeserialize)]
pub struct Model {
    /// `encoder` or `loss`, as the criteria call its section.
    pub role: String,
    /// Its name.
    pub name: String,
    /// The SHA-256 of its weights, in hexadecimal.
    pub weights: String,
    /// The SHA-256 of its tokenizer, in hexadecimal; of a model in one file, that of the file.
    pub tokenizer: String,
}

/// An epoch that ran on the round's row.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Epoch {
    /// Whose row it is: a uid.
    pub validator: u16,
    /// The subnet's state before it, without the row, as JSON.
    pub state: String,
    /// What the chain would store, as JSON.
    pub chain: String,
}

/// Other criteria.
#[derive(Clone, Debug, PartialEq, BorshSerialize, BorshDeserialize)]
pub struct CriteriaChanged {
    /// The digest of those that were in force.
    pub from: Digest,
    /// The digest of those that are now.
    pub to: Digest,
    /// These, as TOML.
    pub criteria: String,
    /// Whether averages and ratings made under the old ones go on; else they begin anew.
    pub keeps_memory: bool,
    /// What the subnet's validators said to it, if they were asked.
    pub vote: Option<Box<Vote>>,
}

/// A vote on other criteria, with all that it is counted from.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// Who could vote.
    pub voters: Vec<Voter>,
    /// The majority that is needed, in 65535ths of their stake.
    pub kappa: u16,
    /// Who approved.
    pub approvals: Vec<Approval>,
    /// What it came to.
    pub tally: Tally,
}

/// What a response's leaf is over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct ResponseLeaf<'a> {
    /// Who answered.
    pub hotkey: &'a str,
    /// To which prompt.
    pub prompt_id: &'a str,
    /// BLAKE3 of the answer's text.
    pub text: Digest,
}

/// What a score's leaf is over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct ScoreLeaf<'a> {
    /// Who answered.
    pub hotkey: &'a str,
    /// To which prompt.
    pub prompt_id: &'a str,
    /// The score in 65535ths.
    pub score: u16,
    /// The accuracy in 65535ths.
    pub accuracy: u16,
    /// The novelty in 65535ths.
    pub novelty: u16,
}

/// What a weight's leaf is over.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize)]
pub struct WeightLeaf<'a> {
    /// Who gets it.
    pub hotkey: &'a str,
    /// His uid, where one is known.
    pub uid: Option<u16>,
    /// As the chain takes it.
    pub weight: u16,
}

impl ResponseLeaf<'_> {
    /// The leaf.
    pub fn digest(&self) -> Digest {
        Digest::of_value(RESPONSE, self)
    }
}

impl ScoreLeaf<'_> {
    /// The leaf.
    pub fn digest(&self) -> Digest {
        Digest::of_value(SCORE, self)
    }
}

impl WeightLeaf<'_> {
    /// The leaf.
    pub fn digest(&self) -> Digest {
        Digest::of_value(WEIGHT, self)
    }
}

impl Head {
    /// The head of entry `number`, which follows the one with the digest `previous`.
    pub fn new(
        (number, previous): (u64, Digest),
        place: Place,
        criteria: Digest,
        body: &Body,
        signer: Option<PublicKey>,
    ) -> Self {
        let Place { netuid, mechanism, block } = place;
        let [responses, scores, weights] = body.roots();
        let body = body.digest();
        Self { number, previous, netuid, mechanism, block, criteria, responses, scores, weights, body, signer }
    }

    /// What the entry is told by, and what the next one names.
    pub fn digest(&self) -> Digest {
        Digest::of_value(HEAD, self)
    }

    /// What is signed: text that a person can read and any signing tool takes.
    pub fn message(&self) -> String {
        format!("tauscore ledger entry 1\n{}\n", self.digest())
    }
}

impl Body {
    /// Its digest.
    pub fn digest(&self) -> Digest {
        Digest::of_value(BODY, self)
    }

    /// The Merkle roots over responses, scores and weights; zeros without a round.
    pub fn roots(&self) -> [Digest; 3] {
        match self {
            Self::Round(round) => [round.response_leaves(), round.score_leaves(), round.weight_leaves()]
                .map(|leaves| merkle::root(&leaves)),
            Self::CriteriaChanged(_) => [Digest::default(); 3],
        }
    }

    /// The round, if it is one.
    pub fn round(&self) -> Option<&Round> {
        match self {
            Self::Round(round) => Some(round),
            Self::CriteriaChanged(_) => None,
        }
    }

    /// The criteria as TOML, if it brings them.
    pub fn criteria(&self) -> Option<&str> {
        match self {
            Self::Round(round) => round.criteria.as_deref(),
            Self::CriteriaChanged(change) => Some(&change.criteria),
        }
    }
}

impl Round {
    /// Leaves over who answered what to which prompt, in the order of [`Table::answers`].
    pub fn response_leaves(&self) -> Vec<Digest> {
        let leaf = |((hotkey, prompt_id, _), text): ((&str, &str, _), &Digest)| {
            ResponseLeaf { hotkey, prompt_id, text: *text }.digest()
        };
        self.table.named().zip(&self.texts).map(leaf).collect()
    }

    /// Leaves over what was found of each answer, in the same order.
    pub fn score_leaves(&self) -> Vec<Digest> {
        self.scores().map(|leaf| leaf.digest()).collect()
    }

    /// What these are over.
    pub fn scores(&self) -> impl Iterator<Item = ScoreLeaf<'_>> {
        self.table.named().map(|(hotkey, prompt_id, answer)| {
            let (score, accuracy, novelty) = (answer.score, answer.accuracy, answer.novelty);
            ScoreLeaf { hotkey, prompt_id, score, accuracy, novelty }
        })
    }

    /// Leaves over what each entrant gets, in the order of [`Table::entrants`].
    pub fn weight_leaves(&self) -> Vec<Digest> {
        let leaf = |(entrant, weight): (&Entrant, &u16)| {
            WeightLeaf { hotkey: &entrant.hotkey, uid: entrant.uid, weight: *weight }.digest()
        };
        self.table.entrants.iter().zip(&self.weights).map(leaf).collect()
    }

    /// The row as it goes to the chain: (uid, weight) by ascending uid, without zeros.
    pub fn chain_row(&self) -> Vec<(u16, u16)> {
        let pairs = self.table.entrants.iter().zip(&self.weights);
        let mut row: Vec<_> = pairs.filter_map(|(entrant, weight)| Some((entrant.uid?, *weight))).collect();
        row.retain(|(_, weight)| *weight > 0);
        row.sort_unstable();
        row
    }
}
