//! Answers of earlier rounds, searched by their words.
//!
//! All pairs would be too many, so there is an index from shingles of three words to the answers that have them. Of a large bank it
//! holds only a part of the shingles, by hash: the same ones of every text, so that shares are estimated without bias however long the
//! texts are. Unlike in a MinHash of fixed length, a short text inside a long one is found as well.
#![deny(clippy::float_arithmetic)]

use std::collections::HashMap;

use rayon::prelude::*;

use super::evidence::{self, BIT};
use super::text;
use super::{Answer, Likeness, NOBODY, Prepared};

/// Entries of the index at most, or a little more: 16 bytes each.
const ENTRIES: usize = 1 << 24;

/// A shingle that more of the bank's answers have than one in so many tells too little to be worth the search.
const COMMON: usize = 16;

/// See the module.
pub(super) struct Bank {
    miners: Vec<u32>,
    /// By hash, then by answer.
    entries: Vec<(u64, u32)>,
    /// By answer: what its shingles in the index weigh together.
    totals: Vec<u64>,
    /// One shingle in so many is in the index; a power of two.
    every: u64,
}

/// An answer of the bank that is like another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub index: usize,
    pub miner: u32,
    pub likeness: Likeness,
}

impl Bank {
    pub fn new(answers: &[Answer<'_>]) -> Self {
        // A word with its space has about six letters, and of a long text only so many are read.
        let words: usize = answers.iter().map(|answer| (answer.text.len() / 6 + 1).min(text::READ)).sum();
        let every = words.div_ceil(ENTRIES).next_power_of_two() as u64;
        let mut entries: Vec<(u64, u32)> = answers
            .par_iter()
            .zip(0..answers.len() as u32)
            .flat_map_iter(|(answer, index)| {
                let hashes = text::telling_words(&text::words(answer.text));
                hashes.into_iter().filter(move |hash| hash % every == 0).map(move |hash| (hash, index))
            })
            .collect();
        entries.par_sort_unstable();
        let mut totals = vec![0; answers.len()];
        for group in entries.chunk_by(|a, b| a.0 == b.0) {
            let weight = evidence::weight(answers.len() as u64 + 1, group.len() as u64 + 1);
            group.iter().for_each(|(_, answer)| totals[*answer as usize] += weight);
        }
        Self { miners: answers.iter().map(|answer| answer.miner).collect(), entries, totals, every }
    }

    /// Whether there is nothing to be found in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Who has a shingle.
    fn holders(&self, hash: u64) -> &[(u64, u32)] {
        let start = self.entries.partition_point(|entry| entry.0 < hash);
        let count = self.entries[start..].partition_point(|entry| entry.0 == hash);
        &self.entries[start..start + count]
    }

    /// What of the bank is like the answer at a place of a question, by other miners. `usual` is what that answer shares with the others
    /// to its prompt. Who said as much himself before another did owes that one nothing.
    pub fn search(&self, miner: u32, question: &Prepared, at: usize, usual: u64) -> Vec<Hit> {
        if self.is_empty() {
            return Vec::new();
        }
        let earlier_answers = self.miners.len() as u64;
        let answers = earlier_answers + question.own.len() as u64;
        // By answer of the bank: bits, and what counts for the share, in which the bank's own totals are.
        let (mut total, mut sums) = (0, HashMap::<u32, (u64, u64)>::new());
        for hash in question.own[at].iter().filter(|hash| **hash % self.every == 0) {
            let among = match question.holders.get(hash) {
                // Everybody may quote it.
                Some(0) => continue,
                Some(holders) => u64::from(*holders),
                None => 1,
            };
            let earlier = self.holders(*hash);
            let part = evidence::weight(earlier_answers + 1, earlier.len() as u64 + 1);
            total += part;
            if earlier.len() <= self.miners.len().div_ceil(COMMON).max(COMMON) {
                let bits = evidence::weight(answers, earlier.len() as u64 + among);
                for (_, index) in earlier {
                    let sum = sums.entry(*index).or_default();
                    *sum = (sum.0 + bits, sum.1 + part);
                }
            }
        }
        let own: Vec<(u32, u64)> = sums
            .iter()
            .filter(|(index, _)| miner != NOBODY && self.miners[**index as usize] == miner)
            .map(|(index, sum)| (*index, sum.1))
            .collect();
        let mut hits: Vec<Hit> = sums
            .into_iter()
            .filter(|(index, sum)| !own.iter().any(|(before, part)| before <= index && *part >= sum.1))
            .map(|(index, (bits, part))| {
                let index = index as usize;
                let share = evidence::share_of(part, total, self.totals[index]);
                let likeness =
                    Likeness { bits: evidence::found(bits, answers), unusual: evidence::unusual(share, usual) };
                Hit { index, miner: self.miners[index], likeness }
            })
            .filter(|hit| (hit.miner == NOBODY || hit.miner != miner) && hit.likeness.bits >= BIT)
            .collect();
        // A map has no order of its own.
        hits.sort_unstable_by_key(|hit| hit.index);
        hits
    }
}
