//! Copies: which answers are made of somebody else's, how surely, and of whose.
//!
//! Texts are read as they look (`text.rs`), cut into shingles of three words and of five letters, and all answers to one prompt
//! are held against each other (`shared.rs`). What two share counts by how unusual it is among that prompt's answers (`evidence.rs`), so there
//! is no similarity from which on something is a copy: what everybody says is no evidence, and short answers have little to show.
//! Earlier rounds are searched by words (`bank.rs`). Only earlier arrivals by other miners can be sources; who came first owes nothing.
//!
//! Everything is integers, so that every machine finds the same.
#![deny(clippy::float_arithmetic)]

mod bank;
mod evidence;
mod kind;
pub(crate) mod shared;
mod text;

use std::collections::HashMap;

use bytemuck::bytes_of;
use rayon::prelude::*;

pub use kind::Kind;
pub use text::excerpt;

use crate::Result;
use crate::device::{Call, Device};
use bank::Bank;
use evidence::BIT;
use shared::Params;
use text::{LETTERS_READ, Shingles};

/// Stands for a miner of earlier rounds who has no answer in this one.
pub const NOBODY: u32 = u32::MAX;

/// Pairs of one dispatch, 3 MiB of them and their sums; of so many the answers are on the host together.
const PAIRS: usize = 1 << 18;

/// Shingles of all answers to one prompt that are kept at most, of each kind: 128 MiB, the least that any device binds.
const SHINGLES: usize = 1 << 25;

/// Candidates that are kept for each answer until all prompts have been looked at.
const CANDIDATES: usize = 8;

/// Shingles of five letters overlap more than those of three words do, and one change spoils more of them.
const LETTERS_TO_A_WORD: u64 = 6;

/// What somebody answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The text. It may be empty.
    pub text: &'a str,
    /// Whose it is, or [`NOBODY`].
    pub miner: u32,
}

/// The answers to one prompt.
#[derive(Clone, Debug, Default)]
pub struct Question<'a> {
    /// Texts that everybody may quote: the prompt and its reference.
    pub known: Vec<&'a str>,
    /// In the order in which they arrived, one of each miner.
    pub answers: Vec<Answer<'a>>,
}

/// Where a copy comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An answer to the same prompt, by its place in [`Question::answers`].
    Answer(usize),
    /// An answer of an earlier round, by its place in the bank.
    Earlier(usize),
}

/// How surely an answer is a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// In 256ths of a bit; comparable between prompts.
    pub evidence: u64,
    /// Of whose answer, if there is any evidence. Of copies of one text it is the first.
    pub source: Option<Source>,
}

impl Finding {
    /// The evidence in bits.
    pub fn bits(self) -> f64 {
        // Integers below 2^53, and a power of two.
        #[expect(clippy::float_arithmetic, reason = "an exact quotient, for people")]
        let bits = self.evidence as f64 / 256.0;
        bits
    }

    /// Whether it is enough to call the answer a copy.
    pub fn counts(self, bits: u32) -> bool {
        self.evidence >= u64::from(bits) * BIT
    }

    /// The share of its novelty that the answer loses, in 65536ths: none below `bits` of evidence, all from twice as much on.
    pub fn certainty(self, bits: u32) -> u32 {
        let least = u64::from(bits) * BIT;
        evidence::share(self.evidence.saturating_sub(least), least) as u32
    }
}

/// Looks for copies: a [`Finding`] for each answer of each question. `bits` is the evidence from which on one counts as a copy, and makes its pair
/// of miners suspect on other prompts. `bank` has answers of earlier rounds.
///
/// # Errors
/// [`Error::Device`](crate::Error::Device) if the device fails.
pub fn copies(
    device: &Device,
    questions: &[Question<'_>],
    bank: &[Answer<'_>],
    bits: u32,
) -> Result<Vec<Vec<Finding>>> {
    let bank = Bank::new(bank);
    let least = u64::from(bits) * BIT;
    let mut all = Vec::with_capacity(questions.len());
    let mut rest = questions;
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(batch(rest));
        all.extend(candidates(device, batch, &bank)?);
        rest = later;
    }
    let pairs = Pairs::new(questions, &all, least);
    let pairs = &pairs;
    let answered = questions.par_iter().zip(&all);
    Ok(answered.map(|(question, candidates)| findings(question, candidates, pairs, least)).collect())
}

/// Compares a copy with its source: in what way it differs, and the longest run of words that both have.
pub fn compare(copy: &str, source: &str) -> (Kind, String) {
    kind::compare(&text::words(copy), &text::words(source))
}

/// How many of the questions go to the device together: at least one.
fn batch(questions: &[Question<'_>]) -> usize {
    let (mut pairs, mut letters) = (0, 0);
    let fits = |question: &&Question<'_>| {
        pairs += question.answers.len().pow(2) / 2;
        letters += question.answers.iter().map(|answer| answer.text.len().min(LETTERS_READ)).sum::<usize>();
        pairs <= PAIRS && letters <= SHINGLES
    };
    questions.iter().take_while(fits).count().max(1)
}

/// What two answers share by one kind of shingle.
#[derive(Clone, Copy, Debug, Default)]
struct Likeness {
    /// In 256ths of a bit.
    bits: u64,
    /// See [`evidence::unusual`].
    unusual: u64,
}

/// An earlier answer that another one may be a copy of.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    source: Source,
    owner: u32,
    words: Likeness,
    letters: Likeness,
}

impl Candidate {
    fn evidence(&self, familiarity: u64) -> u64 {
        let of = |likeness: Likeness| evidence::evidence(likeness.bits, familiarity, likeness.unusual);
        of(self.words).max(of(self.letters))
    }
}

/// The candidates of each answer of each question, those with most evidence.
fn candidates(device: &Device, questions: &[Question<'_>], bank: &Bank) -> Result<Vec<Vec<Vec<Candidate>>>> {
    let prepared: Vec<Prepared> = questions.par_iter().map(|question| Prepared::new(question, bank)).collect();
    let words = sums(device, prepared.iter().map(|prepared| &prepared.words))?;
    let letters = sums(device, prepared.iter().map(|prepared| &prepared.letters))?;
    let mut starts = vec![0];
    for question in questions {
        starts.push(starts[starts.len() - 1] + pairs_of(question.answers.len()));
    }
    let of_each = questions.par_iter().zip(&prepared).zip(starts.par_windows(2));
    Ok(of_each
        .map(|((question, prepared), range)| {
            let range = range[0]..range[1];
            let words = Likenesses::new(&prepared.words, &words[range.clone()], 1);
            let letters = Likenesses::new(&prepared.letters, &letters[range], LETTERS_TO_A_WORD);
            (0..question.answers.len()).map(|at| of_answer(question, prepared, &words, &letters, bank, at)).collect()
        })
        .collect())
}

/// The candidates of one answer.
fn of_answer(
    question: &Question<'_>,
    prepared: &Prepared,
    words: &Likenesses,
    letters: &Likenesses,
    bank: &Bank,
    at: usize,
) -> Vec<Candidate> {
    let miner = question.answers[at].miner;
    let earlier = question.answers[..at].iter().enumerate().filter(|(_, answer)| answer.miner != miner);
    let mut found: Vec<Candidate> = earlier
        .map(|(source, answer)| Candidate {
            source: Source::Answer(source),
            owner: answer.miner,
            words: words.of(at, source),
            letters: letters.of(at, source),
        })
        .collect();
    found.extend(bank.search(miner, prepared, at, words.usual(at)).into_iter().map(|hit| Candidate {
        source: Source::Earlier(hit.index),
        owner: hit.miner,
        words: hit.likeness,
        letters: Likeness::default(),
    }));
    found.retain(|candidate| candidate.evidence(0) > 0);
    // The most that there can be of it; of equal ones those that came first stay.
    found.sort_by_key(|candidate| {
        (std::cmp::Reverse(candidate.evidence(evidence::MOST_FAMILIAR)), order(candidate.source))
    });
    found.truncate(CANDIDATES);
    found.shrink_to_fit();
    found
}

/// Shingles of one kind of all answers to a prompt.
#[derive(Debug, Default)]
struct Lists {
    /// What each answer's shingles weigh together.
    totals: Vec<u64>,
    /// Of each answer, ascending: the numbers of those shingles that somebody else has too and that tell something.
    shared: Vec<Vec<u32>>,
    /// By number.
    weights: Vec<u32>,
}

/// How many answers to a prompt have a hash: 1 of what is not in it, 0 of what everybody may quote.
type Holders = HashMap<u64, u32>;

impl Lists {
    /// `known` ascends. `holders`, if they are wanted, are filled.
    fn new(own: &[Vec<u64>], known: &[u64], mut holders: Option<&mut Holders>) -> Self {
        let answers = own.len();
        let mut every: Vec<(u64, u32)> =
            own.iter().zip(0..).flat_map(|(hashes, answer)| hashes.iter().map(move |hash| (*hash, answer))).collect();
        every.sort_unstable();
        let (mut totals, mut shared) = (vec![0; answers], vec![Vec::new(); answers]);
        let mut weights = Vec::new();
        let mut count = |hash: u64, of: usize| {
            if let Some(holders) = &mut holders {
                holders.insert(hash, of as u32);
            }
        };
        for group in every.chunk_by(|a, b| a.0 == b.0) {
            let hash = group[0].0;
            if known.binary_search(&hash).is_ok() {
                count(hash, 0);
                continue;
            }
            let weight = evidence::weight(answers as u64, group.len() as u64);
            let number = weights.len() as u32;
            for (_, answer) in group {
                totals[*answer as usize] += weight;
                if group.len() > 1 && weight > 0 {
                    shared[*answer as usize].push(number);
                }
            }
            if group.len() > 1 {
                count(hash, group.len());
                if weight > 0 {
                    weights.push(weight as u32);
                }
            }
        }
        Self { totals, shared, weights }
    }
}

/// A question's answers as shingles.
struct Prepared {
    words: Lists,
    letters: Lists,
    /// What the bank is searched by, if there is one: each answer's shingles of words.
    own: Vec<Vec<u64>>,
    holders: Holders,
}

impl Prepared {
    fn new(question: &Question<'_>, bank: &Bank) -> Self {
        let most = SHINGLES / question.answers.len().max(1);
        let of = |answer: &Answer<'_>| Shingles::telling(answer.text, most);
        let (mut own, letters): (Vec<_>, Vec<_>) =
            question.answers.par_iter().map(of).map(|of| (of.words, of.letters)).unzip();
        let mut known = Shingles::default();
        for text in &question.known {
            let of = Shingles::all(text);
            known.words.extend(of.words);
            known.letters.extend(of.letters);
        }
        known.words.sort_unstable();
        known.letters.sort_unstable();
        let mut holders = Holders::new();
        let searched = !bank.is_empty();
        let words = Lists::new(&own, &known.words, searched.then_some(&mut holders));
        let letters = Lists::new(&letters, &known.letters, None);
        if !searched {
            own.clear();
        }
        Self { words, letters, own, holders }
    }
}

/// Pairs of so many answers.
fn pairs_of(answers: usize) -> usize {
    answers * answers.saturating_sub(1) / 2
}

/// The place of a pair among those of its question.
fn pair(at: usize, other: usize) -> usize {
    let (low, high) = (at.min(other), at.max(other));
    pairs_of(high) + low
}

/// What each pair of each question shares, question by question.
fn sums<'a>(device: &Device, lists: impl Iterator<Item = &'a Lists>) -> Result<Vec<u32>> {
    let (mut starts, mut shingles, mut weights) = (vec![0_u32], Vec::new(), Vec::new());
    let mut pairs: Vec<[u32; 2]> = Vec::new();
    for list in lists {
        let (first, offset) = (starts.len() as u32 - 1, weights.len() as u32);
        for answer in &list.shared {
            shingles.extend(answer.iter().map(|number| number + offset));
            starts.push(shingles.len() as u32);
        }
        weights.extend_from_slice(&list.weights);
        let answers = list.shared.len() as u32;
        pairs.extend((0..answers).flat_map(|high| (0..high).map(move |low| [first + low, first + high])));
    }
    if shingles.is_empty() {
        return Ok(vec![0; pairs.len()]);
    }
    let (starts, shingles, weights) = (device.upload(&starts)?, device.upload(&shingles)?, device.upload(&weights)?);
    let mut sums = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(PAIRS) {
        let both = device.upload::<u32>(bytemuck::cast_slice(pairs))?;
        let of_each = device.zeros::<u32>(pairs.len())?;
        device.dispatch(
            &shared::KERNEL,
            &Call {
                constants: &[],
                params: bytes_of(&Params { pairs: pairs.len() as u32 }),
                bindings: &[starts.all(), shingles.all(), weights.all(), both.all(), of_each.all()],
                workgroups: shared::workgroups(pairs.len()),
            },
        )?;
        sums.extend(device.download(&of_each)?);
    }
    Ok(sums)
}

/// How alike the answers to one prompt are by one kind of shingle.
struct Likenesses<'a> {
    totals: &'a [u64],
    sums: &'a [u32],
    /// By answer: its shares with all others, ascending.
    shares: Vec<Vec<u64>>,
    /// What sums are divided by.
    scale: u64,
}

impl<'a> Likenesses<'a> {
    fn new(lists: &'a Lists, sums: &'a [u32], scale: u64) -> Self {
        let answers = lists.totals.len();
        let mut likenesses = Self { totals: &lists.totals, sums, shares: Vec::new(), scale };
        likenesses.shares = (0..answers)
            .map(|at| {
                let others = (0..answers).filter(|other| *other != at);
                let mut shares: Vec<u64> = others.map(|other| likenesses.share(at, other)).collect();
                shares.sort_unstable();
                shares
            })
            .collect();
        likenesses
    }

    fn share(&self, at: usize, other: usize) -> u64 {
        evidence::share(u64::from(self.sums[pair(at, other)]), self.totals[at].min(self.totals[other]))
    }

    /// The usual share of an answer with the others.
    fn usual(&self, at: usize) -> u64 {
        evidence::usual(&self.shares[at], None)
    }

    /// What an answer shares with an earlier one.
    fn of(&self, at: usize, source: usize) -> Likeness {
        let sum = u64::from(self.sums[pair(at, source)]);
        let share = self.share(at, source);
        let usual = |at: usize| evidence::usual(&self.shares[at], Some(share));
        let directed = evidence::share_of(sum, self.totals[at], self.totals[source]);
        Likeness {
            bits: evidence::found(sum / self.scale, self.totals.len() as u64),
            unusual: evidence::unusual(directed, usual(at).max(usual(source))),
        }
    }
}

/// Whom an answer copies by itself, whatever is known of the pair elsewhere; ascending, each once.
fn copied_owners(candidates: &[Candidate], least: u64) -> Vec<u32> {
    let copied = candidates.iter().filter(|candidate| candidate.evidence(0) >= least);
    let mut owners: Vec<u32> = copied.map(|candidate| candidate.owner).collect();
    owners.sort_unstable();
    owners.dedup();
    owners
}

/// How often one miner copied another, and how many prompts he answered.
struct Pairs {
    copied: HashMap<(u32, u32), u64>,
    prompts: HashMap<u32, u64>,
}

impl Pairs {
    fn new(questions: &[Question<'_>], candidates: &[Vec<Vec<Candidate>>], least: u64) -> Self {
        let mut pairs = Self { copied: HashMap::new(), prompts: HashMap::new() };
        for (question, candidates) in questions.iter().zip(candidates) {
            for (answer, candidates) in question.answers.iter().zip(candidates) {
                *pairs.prompts.entry(answer.miner).or_default() += 1;
                for owner in copied_owners(candidates, least).into_iter().filter(|owner| *owner != NOBODY) {
                    *pairs.copied.entry((answer.miner, owner)).or_default() += 1;
                }
            }
        }
        pairs
    }

    /// On how many prompts a miner copied another.
    fn copied(&self, miner: u32, owner: u32) -> u64 {
        self.copied.get(&(miner, owner)).copied().unwrap_or(0)
    }

    /// What the other prompts say of a miner and another one, whom he copied here or not.
    fn familiarity(&self, miner: u32, owner: u32, here: bool) -> u64 {
        let prompts = self.prompts.get(&miner).copied().unwrap_or(0);
        evidence::familiarity(self.copied(miner, owner).saturating_sub(u64::from(here)), prompts.saturating_sub(1))
    }
}

/// The findings of one question.
fn findings(question: &Question<'_>, candidates: &[Vec<Candidate>], pairs: &Pairs, least: u64) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::with_capacity(question.answers.len());
    for (answer, candidates) in question.answers.iter().zip(candidates) {
        let owners = copied_owners(candidates, least);
        let weighed: Vec<(u64, &Candidate)> = candidates
            .iter()
            .map(|candidate| {
                let here = owners.binary_search(&candidate.owner).is_ok();
                (candidate.evidence(pairs.familiarity(answer.miner, candidate.owner, here)), candidate)
            })
            .collect();
        let most = weighed.iter().map(|(evidence, _)| *evidence).max().unwrap_or(0);
        // Of those that are as good, up to a thousandth: whom he copies elsewhere, then who came first.
        let best =
            weighed.iter().filter(|(evidence, _)| evidence + most / 1024 >= most).min_by_key(|(_, candidate)| {
                (std::cmp::Reverse(pairs.copied(answer.miner, candidate.owner)), order(candidate.source))
            });
        let mut source = best.map(|(_, candidate)| candidate.source);
        // A copy of what is surely a copy is one of what that was made of, if it can be seen.
        if let Some(Source::Answer(at)) = source
            && let Finding { evidence, source: Some(origin) } = findings[at]
            && evidence >= 2 * least
            && weighed.iter().any(|(evidence, candidate)| *evidence >= least && candidate.source == origin)
        {
            source = Some(origin);
        }
        findings.push(Finding { evidence: most, source: source.filter(|_| most > 0) });
    }
    findings
}

/// The order of arrival: earlier rounds first.
fn order(source: Source) -> (bool, usize) {
    match source {
        Source::Earlier(index) => (false, index),
        Source::Answer(index) => (true, index),
    }
}
