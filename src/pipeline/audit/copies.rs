//! Which validators' rows are near-copies of others'.
//!
//! That two rows agree shows nothing: honest validators agree, and in some subnets to the last digit. A row is called a near-copy where it is
//! [`CLOSER`] times nearer to another one than at least half of the validators are to the two, and where besides chance cannot explain it:
//! either the two give the very same number to many miners (independent measurements hardly ever do), or what they deviate by from the others
//! goes together. Deviations are from medians of two halves of the others that have nobody in common, so that neither precise validators among
//! careless ones nor the others' own errors look alike. Where nobody's rows differ by [`TELLING`], nothing can be told.
//!
//! The consensus that the last epoch stored (this one's where none is stored) is copied, too. It has an error of its own: about that of a validator over the square root of
//! their number. Who is nearer to it than half of that has not measured anything himself.
#![deny(clippy::float_arithmetic)]

use std::cmp::Reverse;
use std::collections::BTreeSet;

use rayon::prelude::*;
use serde::Serialize;

use super::concentration::ppm;
use super::{Neuron, percent};
use crate::fixed::{I32F32, max_upscale_u16};
use crate::stages::yuma::State;

/// The most rows that are compared, those with most votes: more permits than any subnet gives.
pub(super) const COMPARED: usize = 512;

/// How many times farther from two rows others have to be.
const CLOSER: u64 = 3;

/// The distance between rows below which they count as the same measurement, 0.2 %.
const TELLING: u64 = ONE / 500;

/// From how many standard deviations on deviations that go together are no chance.
const SIGMAS: u32 = 5;

/// Over how many miners they have to be spread.
const SPREAD: u128 = 12;

/// The most that one miner's deviation counts, four times what all of a row is to one who has it all: products fit.
const MOST_DEVIATION: i64 = 1 << 18;

/// How many different numbers have to be equal to show something.
const EQUAL: usize = 8;

/// Others who are asked for medians at most.
const ASKED: usize = 32;

/// Who has more than a third of the votes makes consensus where the others are divided: that he agrees with it shows nothing.
const MAKES_CONSENSUS: u64 = 3;

/// Stands for the uid of the consensus; nobody has it.
const CONSENSUS: u16 = u16::MAX;

/// A distance of 1: nothing in common.
const ONE: u64 = 1 << 32;

/// A validator whose row is a near-copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CopiedRow {
    /// Whose row it is: of two alike who set his later; at the same block who has less stake.
    pub validator: Neuron,
    /// Whose row it is like; `None` for the consensus that the last epoch stored, or this one's where none is stored.
    pub of: Option<Neuron>,
    /// What the two rows have in common: 1 - half of the sum of their shares' differences, in millionths.
    pub agreement_ppm: u32,
    /// What the others have in common with the two, the median, in millionths.
    pub usual_ppm: u32,
    /// How many different numbers both give to the same miner, their largest apart.
    pub equal: usize,
    /// How many different numbers the row has, its largest apart.
    pub different: usize,
    /// In how many numbers the others are equal to this row, the median.
    pub usual_equal: usize,
    /// Miners who have the same rank in both rows.
    pub same_rank: usize,
    /// Miners whom both weigh.
    pub ranked: usize,
    /// By how many standard deviations deviations from the others go together more than chance lets them, at most 99; `None` where there are
    /// too few miners or validators to tell.
    pub sigmas: Option<u32>,
    /// Blocks by which the row was set later than the other one; `None` for consensus.
    pub blocks_after: Option<i64>,
    /// Whether both validators are one owner's; `None` where coldkeys are not known.
    pub same_coldkey: Option<bool>,
    /// All of it as a sentence.
    pub evidence: String,
}

/// A validator's row: what it gives to others, by ascending uid, without zeros.
struct Row {
    uid: u16,
    entries: Vec<(u16, u16)>,
    /// Of the numbers, at least 1.
    sum: u64,
    largest: u16,
}

impl Row {
    /// `None` where there is nothing in it. Of a uid's repeated numbers the last counts, as in the epoch's consensus.
    fn new(uid: u16, given: impl Iterator<Item = (u16, u16)>) -> Option<Self> {
        let mut entries: Vec<(u16, u16)> = given.filter(|(to, _)| *to != uid).collect();
        entries.reverse();
        entries.sort_by_key(|(to, _)| *to);
        entries.dedup_by_key(|(to, _)| *to);
        entries.retain(|(_, value)| *value > 0);
        let sum = entries.iter().map(|(_, value)| u64::from(*value)).sum();
        let largest = entries.iter().map(|(_, value)| *value).max()?;
        Some(Self { uid, entries, sum, largest })
    }

    /// Whom either weighs: the numbers of this row and of the other one.
    fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (u16, u16)> + 'a {
        let (mut own, mut theirs) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        std::iter::from_fn(move || {
            let next = [own.peek(), theirs.peek()].into_iter().flatten().map(|(to, _)| *to).min()?;
            let a = own.next_if(|(to, _)| *to == next).map_or(0, |(_, value)| *value);
            let b = theirs.next_if(|(to, _)| *to == next).map_or(0, |(_, value)| *value);
            Some((a, b))
        })
    }

    /// Half of the sum of the differences of shares, in 2^-32.
    fn distance(&self, other: &Self) -> u64 {
        let [a, b] = [self.sum, other.sum].map(u128::from);
        let apart = |(own, theirs): (u16, u16)| (u128::from(own) * b).abs_diff(u128::from(theirs) * a);
        let apart: u128 = self.beside(other).map(apart).sum();
        // Sums are below 2^32, and the shares' differences sum to 2 at most.
        ((apart << 31) / (a * b)) as u64
    }

    /// How many different numbers both give to the same miner.
    fn equal(&self, other: &Self) -> usize {
        let same = self.beside(other).filter(|(a, b)| a == b && *a < self.largest.max(other.largest));
        same.map(|(a, _)| a).collect::<BTreeSet<u16>>().len()
    }

    fn different(&self) -> usize {
        self.entries
            .iter()
            .map(|(_, value)| *value)
            .filter(|value| *value < self.largest)
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Miners by rank, the first the best.
    fn ranking(&self) -> Vec<u16> {
        let mut order = self.entries.clone();
        order.sort_by_key(|(to, value)| (Reverse(*value), *to));
        order.into_iter().map(|(to, _)| to).collect()
    }

    /// Shares in 2^-24, by uid.
    fn shares(&self, n: usize) -> Vec<i64> {
        let mut shares = vec![0; n];
        for (to, value) in &self.entries {
            if let Some(share) = shares.get_mut(usize::from(*to)) {
                *share = ((u64::from(*value) << 24) / self.sum) as i64;
            }
        }
        shares
    }
}

/// What is found about two rows.
struct Likeness {
    distance: u64,
    usual: u64,
    equal: usize,
    usual_equal: usize,
    sigmas: Option<u32>,
}

impl Likeness {
    /// Whether many numbers are the same, which others' are not.
    fn is_equal(&self, different: usize) -> bool {
        self.equal >= EQUAL && 2 * self.equal >= different && 4 * self.usual_equal <= self.equal
    }
}

/// How many rows were compared, and the near-copies among them. `votes` are shares of the active stake in 2^-32, by uid.
/// `consensus` is in 65535ths.
pub(super) fn find(state: &State, permit: &[bool], votes: &[I32F32], consensus: &[u16]) -> (usize, Vec<CopiedRow>) {
    let n = state.n();
    let mut rows: Vec<Row> =
        (0..n).filter(|uid| permit[*uid]).filter_map(|uid| Row::new(uid as u16, state.weights.row(uid))).collect();
    if rows.len() > COMPARED {
        rows.sort_by_key(|row| (Reverse(votes[usize::from(row.uid)]), row.uid));
        rows.truncate(COMPARED);
        rows.sort_by_key(|row| row.uid);
    }
    let distances: Vec<Vec<u64>> =
        rows.par_iter().map(|row| rows.iter().map(|other| row.distance(other)).collect()).collect();
    let order = |at: &usize| {
        let uid = usize::from(rows[*at].uid);
        (last_update(state, uid), Reverse(state.stake[uid]), uid)
    };

    let of_consensus = consensus_copies(state, &rows, votes, consensus);
    let copies_consensus: Vec<bool> =
        rows.iter().map(|row| of_consensus.iter().any(|copy| copy.validator.uid == row.uid)).collect();
    let found: Vec<CopiedRow> = (0..rows.len())
        .into_par_iter()
        .filter_map(|at| {
            let earlier = (0..rows.len()).filter(|other| order(other) < order(&at));
            let mut earlier: Vec<usize> =
                earlier.filter(|other| !(copies_consensus[at] && copies_consensus[*other])).collect();
            earlier.sort_by_key(order);
            let (source, likeness) = earlier.into_iter().find_map(|source| {
                let likeness = compare(&rows, &distances, at, source, n)?;
                let is_copy =
                    likeness.is_equal(rows[at].different()) || likeness.sigmas.is_some_and(|sigmas| sigmas >= SIGMAS);
                is_copy.then_some((source, likeness))
            })?;
            Some(CopiedRow::new(state, &rows[at], &rows[source], likeness))
        })
        .collect();
    (rows.len(), found.into_iter().chain(of_consensus).collect())
}

/// Compares two rows with what is usual; `None` where the others are not farther from both than the two are from each other.
fn compare(rows: &[Row], distances: &[Vec<u64>], at: usize, source: usize, n: usize) -> Option<Likeness> {
    let distance = distances[at][source];
    let others = rows.len() - 2;
    let far = |other: &usize| {
        let near = distances[at][*other].min(distances[source][*other]);
        *other != at && *other != source && near > CLOSER * distance
    };
    let outside: Vec<usize> = (0..rows.len()).filter(far).collect();
    if outside.len() < 2 || 2 * outside.len() < others {
        return None;
    }
    let usual = of_sorted(outside.iter().map(|other| (distances[at][*other] + distances[source][*other]) / 2), 2);
    if usual < TELLING {
        return None;
    }
    Some(Likeness {
        distance,
        usual,
        equal: rows[at].equal(&rows[source]),
        usual_equal: of_sorted(outside.iter().map(|other| rows[at].equal(&rows[*other]) as u64), 2) as usize,
        sigmas: together(&rows[at], &rows[source], &independent(rows, distances, &outside, usual), n),
    })
}

/// Of these rows those that are not near-copies of each other: the halves must not share errors.
fn independent<'a>(rows: &'a [Row], distances: &[Vec<u64>], outside: &[usize], usual: u64) -> Vec<&'a Row> {
    let mut taken: Vec<usize> = Vec::new();
    for other in outside.iter().step_by(outside.len().div_ceil(ASKED)) {
        if taken.iter().all(|earlier| CLOSER * distances[*earlier][*other] > usual) {
            taken.push(*other);
        }
    }
    taken.into_iter().map(|other| &rows[other]).collect()
}

/// By how many standard deviations two rows' deviations from the others go together.
///
/// With `a` and `b` the medians of two halves of the others, deviations are `x - a` and `y - b`, and the other way round. They are counted as
/// shares of what the two give the miner and of its square root, and the larger result is taken: so the best miners do not outweigh the rest,
/// whether errors grow with the weight or not. Not of what the others give, or their errors would look alike.
fn together(row: &Row, source: &Row, others: &[&Row], n: usize) -> Option<u32> {
    let others: Vec<Vec<i64>> = others.iter().map(|other| other.shares(n)).collect();
    if others.len() < 2 {
        return None;
    }
    let (x, y) = (row.shares(n), source.shares(n));
    let medians = [0, 1].map(|first| {
        let half = |to: usize| others.iter().skip(first).step_by(2).map(|shares| shares[to]).collect();
        (0..n).map(|to| middle(half(to))).collect::<Vec<i64>>()
    });
    let both = |to: usize| (x[to] + y[to]) as u64;
    let by = |scale: &dyn Fn(usize) -> i64| {
        let deviation = |shares: &[i64], half: usize, to: usize| {
            let scaled = ((shares[to] - medians[half][to]) << 16).checked_div(scale(to)).unwrap_or(0);
            i128::from(scaled.clamp(-MOST_DEVIATION, MOST_DEVIATION))
        };
        sigmas((0..n).map(|to| [0, 1].map(|half| (deviation(&x, half, to), deviation(&y, 1 - half, to)))))
    };
    by(&|to| both(to) as i64).max(by(&|to| (both(to) << 24).isqrt() as i64))
}

/// By how many standard deviations the pairs' first numbers correlate with their second ones, at most 99; 0 where they do not.
///
/// With r the correlation, `r^2 (m - 2) / (1 - r^2)` is the square of Student's t. m is not how many there are but over how many the products
/// are spread, `3 (SUM |t|)^2 / SUM t^2` (of Gaussian ones a third takes part): `None` where that is too little to tell.
fn sigmas(pairs: impl Iterator<Item = [(i128, i128); 2]>) -> Option<u32> {
    let (mut together, mut size, mut size_squared) = (0_i128, 0_u128, 0_u128);
    let (mut own, mut theirs, mut count) = (0_u128, 0_u128, 0_u128);
    for pairs in pairs {
        let product: i128 = pairs.iter().map(|(x, y)| x * y).sum();
        together += product;
        size += product.unsigned_abs();
        size_squared += product.unsigned_abs().pow(2);
        own += pairs.iter().map(|(x, _)| x.unsigned_abs().pow(2)).sum::<u128>();
        theirs += pairs.iter().map(|(_, y)| y.unsigned_abs().pow(2)).sum::<u128>();
        count += u128::from(product != 0);
    }
    let spread = (3 * size * size).checked_div(size_squared)?.min(count);
    if spread < SPREAD {
        return None;
    }
    let explained = together.max(0).unsigned_abs().pow(2);
    let left = (own * theirs).saturating_sub(explained);
    let squared = (explained * (spread - 2)).checked_div(left).unwrap_or(u128::MAX);
    Some(squared.isqrt().min(99) as u32)
}

/// The validators whose rows are the consensus.
fn consensus_copies(state: &State, rows: &[Row], votes: &[I32F32], consensus: &[u16]) -> Vec<CopiedRow> {
    let stored: Vec<I32F32> = consensus.iter().map(|value| I32F32::from_u16(*value)).collect();
    // As it would be submitted.
    let submitted = (0..state.n() as u16).zip(max_upscale_u16(&stored));
    let Some(consensus) = Row::new(CONSENSUS, submitted) else { return Vec::new() };
    if rows.len() < 4 {
        return Vec::new();
    }
    let distances: Vec<u64> = rows.iter().map(|row| row.distance(&consensus)).collect();
    let equals: Vec<usize> = rows.iter().map(|row| row.equal(&consensus)).collect();
    // Those whose errors are small determine it: the nearest quarter of the others is what is usual.
    let without = |at: usize, of: &dyn Fn(usize) -> u64, part: usize| {
        of_sorted((0..rows.len()).filter(|other| *other != at).map(of), part)
    };
    let copy = |at: usize| {
        let distance = distances[at];
        let usual = without(at, &|other| distances[other], 4);
        let votes = votes[usize::from(rows[at].uid)].to_bits() as u64;
        let near = 4 * rows.len() as u128 * u128::from(distance).pow(2) < u128::from(usual).pow(2);
        let equal = equals[at];
        let usual_equal = without(at, &|other| equals[other] as u64, 2) as usize;
        let likeness = Likeness { distance, usual, equal, usual_equal, sigmas: None };
        (near && usual >= TELLING && MAKES_CONSENSUS * votes <= ONE && rows[at].different() >= EQUAL)
            .then(|| CopiedRow::new(state, &rows[at], &consensus, likeness))
    };
    (0..rows.len()).filter_map(copy).collect()
}

impl CopiedRow {
    fn new(state: &State, row: &Row, source: &Row, likeness: Likeness) -> Self {
        let agreement = |distance: u64| ppm((ONE - distance.min(ONE)).into(), ONE.into());
        let (same_rank, ranked) = same_rank(row, source);
        let blocks = |row: &Row| i128::from(last_update(state, row.uid.into()));
        let coldkey = |row: &Row| state.coldkeys.get(usize::from(row.uid));
        let of = (source.uid != CONSENSUS).then_some(source);
        let found = Self {
            validator: Neuron::of(state, row.uid.into()),
            of: of.map(|source| Neuron::of(state, source.uid.into())),
            agreement_ppm: agreement(likeness.distance),
            usual_ppm: agreement(likeness.usual),
            equal: likeness.equal,
            different: row.different(),
            usual_equal: likeness.usual_equal,
            same_rank,
            ranked,
            sigmas: likeness.sigmas,
            blocks_after: of.and_then(|source| i64::try_from(blocks(row) - blocks(source)).ok()),
            same_coldkey: of.and_then(|source| Some(coldkey(row)? == coldkey(source)?)),
            evidence: String::new(),
        };
        Self { evidence: found.sentence(), ..found }
    }

    fn sentence(&self) -> String {
        let mut parts = vec![
            format!("{} in common, where the others have {}", percent(self.agreement_ppm), percent(self.usual_ppm)),
            format!("{} of {} numbers are the same, usually {}", self.equal, self.different, self.usual_equal),
            format!("{} of {} miners have the same rank", self.same_rank, self.ranked),
        ];
        parts.extend(
            self.sigmas.map(|sigmas| format!("deviations from the others go together by {sigmas} standard deviations")),
        );
        parts.extend(self.blocks_after.map(|blocks| match blocks {
            0 => "set in the same block".to_owned(),
            blocks => format!("set {blocks} blocks later"),
        }));
        if self.same_coldkey == Some(true) {
            parts.push("both are of one coldkey".to_owned());
        }
        parts.join("; ")
    }
}

/// How many miners have the same rank in both rows, of how many whom both weigh.
fn same_rank(row: &Row, other: &Row) -> (usize, usize) {
    let same = row.ranking().iter().zip(other.ranking()).filter(|(a, b)| **a == *b).count();
    (same, row.beside(other).filter(|(a, b)| *a > 0 && *b > 0).count())
}

fn last_update(state: &State, uid: usize) -> u64 {
    state.last_update.get(uid).copied().unwrap_or(0)
}

/// The value below which the first of so many parts lies: of two the lower median. 0 of none.
fn of_sorted(values: impl Iterator<Item = u64>, parts: usize) -> u64 {
    let mut values: Vec<u64> = values.collect();
    let at = values.len().saturating_sub(1) / parts;
    if values.is_empty() { 0 } else { *values.select_nth_unstable(at).1 }
}

/// The middle value, between the two middle ones where there are two; 0 of none.
fn middle(mut values: Vec<i64>) -> i64 {
    values.sort_unstable();
    let at = values.len() / 2;
    match (values.len() % 2, values.get(at)) {
        (_, None) => 0,
        (1, Some(value)) => *value,
        (_, Some(value)) => (values[at - 1] + value) / 2,
    }
}
