//! How often a miner beats the others.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use super::table::{Column, Table};
use super::{Combine, Flaw, between, flaw};

/// Each miner's share of duels won, in [0, 1], as taoverse counts them (`compute_wins`, SN9): the loss of a miner is 1 - his number, that of
/// the one who submitted earlier counts `1 - epsilon` times, and the smaller one wins. Equal ones win nothing. Who has no duel has 1.
///
/// Sorted, and counted in the order of submission with two trees of counts (Fenwick 1994): n log n instead of n^2 steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WinRate {
    /// What is compared.
    pub column: Column,
    /// In how many duels.
    pub over: Over,
    /// The earlier one's advantage, in [0, 1].
    pub epsilon: f64,
    /// To what it shrinks with the age of the earlier submission; the same if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_end: Option<f64>,
    /// After how many blocks it has shrunk, in a straight line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_blocks: Option<u64>,
    /// Whether a cluster of copies has a seat for each of its miners.
    pub clones: Clones,
    /// With `clones = "once"`: from which share of copied answers on a miner is one of the cluster, above 0, at most 1.
    pub copied_share: f64,
    /// What becomes of the values so far.
    pub combine: Combine,
}

/// Which numbers meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// The miners' means: one duel a pair.
    #[default]
    Mean,
    /// Their numbers at each prompt: one duel a pair and prompt.
    Prompts,
}

/// How copies count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clones {
    /// Each miner for himself.
    #[default]
    Each,
    /// A cluster has one seat: its least copied miner's. The others win nothing, and nobody wins anything from them, so that uploading clones,
    /// losing ones or good ones, moves nobody's rate.
    Once,
}

impl Default for WinRate {
    fn default() -> Self {
        Self {
            column: Column::Score,
            over: Over::Mean,
            epsilon: 0.0,
            epsilon_end: None,
            decay_blocks: None,
            clones: Clones::Each,
            copied_share: 0.5,
            combine: Combine::Replace,
        }
    }
}

impl WinRate {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        between("epsilon", self.epsilon, 0.0, 1.0)?;
        if let Some(end) = self.epsilon_end {
            between("epsilon_end", end, 0.0, 1.0)?;
        }
        if self.epsilon_end.is_some() != self.decay_blocks.is_some() || self.decay_blocks == Some(0) {
            let problem = "epsilon_end and decay_blocks belong together, and decay_blocks is above 0";
            return flaw("decay_blocks", problem, "two days are 14400 blocks");
        }
        if self.copied_share > 0.0 && self.copied_share <= 1.0 {
            return Ok(());
        }
        flaw("copied_share", format!("{} is not above 0 and at most 1", self.copied_share), "0.5 is the default")
    }

    /// What an earlier submission's loss is multiplied with, by its age.
    fn discount(&self, block: Option<u64>, now: Option<u64>) -> f64 {
        let epsilon = match (self.epsilon_end, self.decay_blocks, block, now) {
            (Some(end), Some(blocks), Some(block), Some(now)) => {
                let age = (now.saturating_sub(block) as f64 / blocks as f64).min(1.0);
                self.epsilon - age * (self.epsilon - end)
            }
            _ => self.epsilon,
        };
        1.0 - epsilon
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) {
        let now = table.block.or_else(|| table.entrants.iter().filter_map(|entrant| entrant.block).max());
        let means = table.column(self.column);
        let mut seated: Vec<bool> = means.iter().map(Option::is_some).collect();
        if self.clones == Clones::Once {
            self.unseat(table, &mut seated);
        }
        let mut order: Vec<usize> = (0..seated.len()).filter(|index| seated[*index]).collect();
        let block = |index: usize| table.entrants[index].block.unwrap_or(u64::MAX);
        order.sort_by_key(|index| block(*index));
        let discounts: Vec<f64> = table.entrants.iter().map(|entrant| self.discount(entrant.block, now)).collect();
        let mut duels = Duels::new(seated.len());
        let player =
            |index: usize, loss: f64| Player { index, block: block(index), loss, discounted: discounts[index] * loss };
        match self.over {
            Over::Mean => {
                let losses = order.iter().map(|index| player(*index, 1.0 - means[*index].unwrap_or(0.0)));
                duels.meet(losses.collect());
            }
            Over::Prompts => {
                let mut numbers = vec![None; seated.len()];
                for rows in table.by_prompt() {
                    rows.iter().for_each(|row| numbers[row.entrant as usize] = Some(row.get(self.column)));
                    let missing = table.unanswered_is_zero.then_some(0);
                    let players = order.iter().filter_map(|index| {
                        let number = numbers[*index].or(missing)?;
                        Some(player(*index, f64::from(u16::MAX - number)))
                    });
                    duels.meet(players.collect());
                    rows.iter().for_each(|row| numbers[row.entrant as usize] = None);
                }
                if table.unanswered_is_zero {
                    // Prompts that nobody answered: everybody's loss is the same.
                    let silent = table.prompts.len() - table.by_prompt().count();
                    order.iter().for_each(|index| duels.met[*index] += (silent * (order.len() - 1)) as u64);
                }
            }
        }
        let rates =
            means.iter().zip(&seated).zip(duels.won.iter().zip(&duels.met)).map(|((mean, seated), (won, met))| {
                mean.map(|_| match (seated, met) {
                    (false, _) => 0.0,
                    (true, 0) => 1.0,
                    (true, met) => *won as f64 / *met as f64,
                })
            });
        self.combine.apply(values, rates.collect());
    }

    /// Takes the seats of all of a cluster of copies but the one of its least copied miner; of equal ones the earliest keeps it.
    fn unseat(&self, table: &Table, seated: &mut [bool]) {
        let answered = table.answered();
        let block = |index: usize| table.entrants[index].block.unwrap_or(u64::MAX);
        let mut copied = vec![0_u32; seated.len()];
        let mut sources: Vec<Option<(u32, usize)>> = vec![None; seated.len()];
        for row in table.copies.iter().filter(|row| row.answers > 0) {
            let (source, of) = (&mut sources[row.entrant as usize], row.of as usize);
            copied[row.entrant as usize] += row.answers;
            let more =
                |(answers, other)| (row.answers, Reverse((block(of), of))) > (answers, Reverse((block(other), other)));
            if source.is_none_or(more) {
                *source = Some((row.answers, of));
            }
        }
        // Whoever copies enough, from whomever, joins him from whom he copied most, and nobody else: who copies from two miners must not
        // make one cluster of them.
        let mut cluster: Vec<usize> = (0..seated.len()).collect();
        for (index, source) in sources.into_iter().enumerate() {
            let enough = f64::from(copied[index]) >= self.copied_share * f64::from(answered[index]);
            if let Some((_, of)) = source.filter(|_| enough) {
                let (a, b) = (root(&mut cluster, index), root(&mut cluster, of));
                cluster[a.max(b)] = a.min(b);
            }
        }
        let mut holders: Vec<Option<usize>> = vec![None; seated.len()];
        for index in (0..seated.len()).filter(|index| seated[*index]) {
            // Shares compared as products, without a division.
            let share = |other: usize| u64::from(copied[other]) * u64::from(answered[index].max(1));
            let own = |other: usize| u64::from(copied[index]) * u64::from(answered[other].max(1));
            let holder = &mut holders[root(&mut cluster, index)];
            if holder.is_none_or(|other| (own(other), block(index)) < (share(other), block(other))) {
                *holder = Some(index);
            }
        }
        for (index, seat) in seated.iter_mut().enumerate() {
            *seat = *seat && holders[root(&mut cluster, index)] == Some(index);
        }
    }
}

/// The least index of a cluster, on the way to which the path is halved.
fn root(cluster: &mut [usize], mut index: usize) -> usize {
    while cluster[index] != index {
        cluster[index] = cluster[cluster[index]];
        index = cluster[index];
    }
    index
}

/// Who meets the others, and with what loss: his own, and as it counts against later ones.
#[derive(Clone, Copy)]
struct Player {
    index: usize,
    block: u64,
    loss: f64,
    discounted: f64,
}

/// Duels won and met, by entrant.
struct Duels {
    won: Vec<u64>,
    met: Vec<u64>,
}

impl Duels {
    fn new(entrants: usize) -> Self {
        Self { won: vec![0; entrants], met: vec![0; entrants] }
    }

    /// Lets everybody meet everybody. The players come by ascending block.
    fn meet(&mut self, players: Vec<Player>) {
        let sorted = |number: fn(&Player) -> f64| {
            let mut numbers: Vec<f64> = players.iter().map(number).collect();
            numbers.sort_unstable_by(f64::total_cmp);
            numbers
        };
        let (losses, discounted) = (sorted(|player| player.loss), sorted(|player| player.discounted));
        let above = |numbers: &[f64], number: f64| numbers.partition_point(|other| *other <= number);
        let below = |numbers: &[f64], number: f64| numbers.partition_point(|other| *other < number);
        // Against those who came later: how many of their losses lie above the discounted one. Against those who came earlier: how many of
        // their discounted losses lie above the own. Against those of the same block: the losses as they are.
        let (mut later, mut earlier) = (Counts::new(players.len()), Counts::new(players.len()));
        players.iter().for_each(|player| later.add(below(&losses, player.loss), 1));
        for same in players.chunk_by(|a, b| a.block == b.block) {
            same.iter().for_each(|player| later.add(below(&losses, player.loss), -1));
            let mut own: Vec<f64> = same.iter().map(|player| player.loss).collect();
            own.sort_unstable_by(f64::total_cmp);
            for player in same {
                let won = later.from(above(&losses, player.discounted))
                    + earlier.from(above(&discounted, player.loss))
                    + (own.len() - above(&own, player.loss)) as i64;
                self.won[player.index] += won.unsigned_abs();
                self.met[player.index] += players.len() as u64 - 1;
            }
            same.iter().for_each(|player| earlier.add(below(&discounted, player.discounted), 1));
        }
    }
}

/// Counts by rank that can be changed and summed in log n steps each.
struct Counts {
    tree: Vec<i32>,
    total: i64,
}

impl Counts {
    fn new(ranks: usize) -> Self {
        Self { tree: vec![0; ranks + 1], total: 0 }
    }

    /// Adds to the count of a rank.
    fn add(&mut self, rank: usize, count: i32) {
        self.total += i64::from(count);
        let mut at = rank + 1;
        while at < self.tree.len() {
            self.tree[at] += count;
            at += at & at.wrapping_neg();
        }
    }

    /// The sum of the counts from a rank on.
    fn from(&self, rank: usize) -> i64 {
        let mut below = 0;
        let mut at = rank;
        while at > 0 {
            below += i64::from(self.tree[at]);
            at &= at - 1;
        }
        self.total - below
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::Copying;
    use crate::stages::weights::table::tests::{one_prompt, table};

    fn run(stage: &WinRate, table: &Table) -> Vec<Option<f64>> {
        let mut values = vec![None; table.entrants.len()];
        stage.apply(table, &mut values);
        values
    }

    /// `compute_wins` of taoverse, literally: pair by pair.
    fn plainly(stage: &WinRate, table: &Table) -> Vec<Option<f64>> {
        let now = table.block.or_else(|| table.entrants.iter().filter_map(|entrant| entrant.block).max());
        let means = table.column(stage.column);
        let block = |index: usize| table.entrants[index].block.unwrap_or(u64::MAX);
        let discount = |index: usize| stage.discount(table.entrants[index].block, now);
        let wins = |i: usize, j: usize, loss_i: f64, loss_j: f64| {
            let loss_i = if block(i) < block(j) { discount(i) * loss_i } else { loss_i };
            let loss_j = if block(j) < block(i) { discount(j) * loss_j } else { loss_j };
            loss_i < loss_j
        };
        let players: Vec<usize> = (0..means.len()).filter(|index| means[*index].is_some()).collect();
        let rate = |i: usize| {
            let (mut won, mut met) = (0_u64, 0_u64);
            for j in players.iter().copied().filter(|j| *j != i) {
                match stage.over {
                    Over::Mean => {
                        met += 1;
                        won +=
                            u64::from(wins(i, j, 1.0 - means[i].expect("a player"), 1.0 - means[j].expect("a player")));
                    }
                    Over::Prompts => {
                        for prompt in 0..table.prompts.len() as u32 {
                            let loss = |of: usize| {
                                let mut rows = table.answers.iter();
                                let row = rows.find(|row| row.prompt == prompt && row.entrant as usize == of);
                                let number = row.map(|row| row.get(stage.column));
                                let number = number.or(table.unanswered_is_zero.then_some(0));
                                number.map(|number| f64::from(u16::MAX - number))
                            };
                            if let (Some(loss_i), Some(loss_j)) = (loss(i), loss(j)) {
                                met += 1;
                                won += u64::from(wins(i, j, loss_i, loss_j));
                            }
                        }
                    }
                }
            }
            if met == 0 { 1.0 } else { won as f64 / met as f64 }
        };
        (0..means.len()).map(|index| means[index].map(|_| rate(index))).collect()
    }

    #[test]
    fn the_earlier_one_has_an_advantage_that_decays() {
        // Losses 0.5 and 0.49: with epsilon 0.05 the earlier one's counts as 0.475 and wins; with 0.01 it counts as 0.495 and loses.
        let scores = [(32_768, Some(10)), (33_423, Some(20))];
        let rates = |epsilon| run(&WinRate { epsilon, ..WinRate::default() }, &one_prompt(&scores));
        assert_eq!(rates(0.05), [Some(1.0), Some(0.0)], "the earlier one wins");
        assert_eq!(rates(0.01), [Some(0.0), Some(1.0)], "the better one wins");
        // From 0.05 to 0 over 100 blocks: 0.04 after 20 blocks (0.48 < 0.49), 0.01 after 80 (0.495 > 0.49), 0 from 100 on.
        let stage = WinRate { epsilon: 0.05, epsilon_end: Some(0.0), decay_blocks: Some(100), ..WinRate::default() };
        for (block, earlier_wins) in [(30, true), (90, false), (1000, false)] {
            let table = Table { block: Some(block), ..one_prompt(&scores) };
            assert_eq!(run(&stage, &table)[0], Some(f64::from(u8::from(earlier_wins))), "block {block}");
        }
        let unknown = one_prompt(&[(32_768, None), (33_423, Some(20))]);
        let rates = run(&WinRate { epsilon: 0.05, ..WinRate::default() }, &unknown);
        assert_eq!(rates, [Some(0.0), Some(1.0)], "an unknown block is no advantage");
    }

    #[test]
    fn equal_ones_win_nothing_and_one_alone_has_all() {
        assert_eq!(
            run(&WinRate::default(), &one_prompt(&[(5, None), (5, None), (4, None)])),
            [Some(0.5), Some(0.5), Some(0.0)],
            "ties"
        );
        assert_eq!(run(&WinRate::default(), &one_prompt(&[(0, None)])), [Some(1.0)], "no duel");
        assert_eq!(
            run(&WinRate::default(), &table(&[&[None], &[Some(1)]])),
            [None, Some(1.0)],
            "who took no part is no opponent"
        );
    }

    #[test]
    fn it_counts_what_pair_by_pair_counts() {
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for case in 0..300 {
            let (miners, prompts) = (1 + next(14) as usize, 1 + next(4) as usize);
            let (coarse, blocks) = (1 + next(40), 1 + next(5));
            let mut rows = vec![vec![None; prompts]; miners];
            for cell in rows.iter_mut().flatten() {
                *cell = (next(5) > 0).then(|| (next(coarse) * 65_535 / coarse) as u16);
            }
            let mut table = table(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
            table.entrants.iter_mut().for_each(|entrant| entrant.block = (next(6) > 0).then(|| next(blocks) * 50));
            table.unanswered_is_zero = next(2) == 0;
            table.block = (next(2) == 0).then(|| 100 + next(200));
            let over = if next(2) == 0 { Over::Mean } else { Over::Prompts };
            let decay = next(2) == 0;
            let stage = WinRate {
                over,
                epsilon: next(20) as f64 / 20.0,
                epsilon_end: decay.then_some(0.01),
                decay_blocks: decay.then_some(120),
                ..WinRate::default()
            };
            assert_eq!(run(&stage, &table), plainly(&stage, &table), "case {case}: {stage:?} {table:?}");
        }
    }

    #[test]
    fn clones_move_nobodys_rate_if_they_count_once() {
        // Honest: 60, 50, 40. Then two clones of the worst, and two of the best by somebody who rephrases a little.
        let honest = [(60_000, Some(1)), (50_000, Some(2)), (40_000, Some(3))];
        let clones = [(39_000, Some(4)), (39_500, Some(5)), (59_000, Some(6)), (60_500, Some(7))];
        let crowd: Vec<_> = honest.iter().chain(&clones).copied().collect();
        let mut table = one_prompt(&crowd);
        let copy = |entrant, of| Copying { entrant, of, answers: 1 };
        table.copies = vec![copy(3, 2), copy(4, 3), copy(5, 0), copy(6, 0)];
        let each = run(&WinRate::default(), &table);
        assert_eq!(each[2], Some(2.0 / 6.0), "counted for themselves, losing clones lift the worst: from 0 to 1/3");
        let once = run(&WinRate { clones: Clones::Once, ..WinRate::default() }, &table);
        let without = run(&WinRate::default(), &one_prompt(&honest));
        assert_eq!(once[..3], without[..], "counted once, they change nothing");
        assert!(once[3..].iter().all(|rate| *rate == Some(0.0)), "and win nothing: {once:?}");
    }

    #[test]
    fn a_cluster_keeps_the_seat_of_its_least_copied_miner() {
        let mut table = table(&[&[Some(9), Some(9)], &[Some(9), Some(9)], &[Some(5), Some(5)]]);
        let stage = WinRate { clones: Clones::Once, ..WinRate::default() };
        let copy = |entrant, of, answers| Copying { entrant, of, answers };
        // Both took one answer from the other: the same share, so the earlier one stays.
        table.copies = vec![copy(0, 1, 1), copy(1, 0, 1)];
        table.entrants[0].block = Some(8);
        table.entrants[1].block = Some(3);
        assert_eq!(run(&stage, &table), [Some(0.0), Some(1.0), Some(0.0)], "the earlier one");
        table.copies = vec![copy(0, 1, 1), copy(1, 0, 2)];
        assert_eq!(run(&stage, &table), [Some(1.0), Some(0.0), Some(0.0)], "the less copied one");
        table.copies = vec![copy(0, 1, 1)];
        let stage = WinRate { copied_share: 0.6, ..stage };
        assert_eq!(run(&stage, &table), [Some(0.5), Some(0.5), Some(0.0)], "half is too little for 0.6");
    }

    #[test]
    fn who_copies_from_two_makes_no_cluster_of_them() {
        let mut table = one_prompt(&[(9, Some(2)), (8, Some(1)), (7, Some(3)), (6, Some(4))]);
        table.copies = [0, 1].map(|of| Copying { entrant: 2, of, answers: 1 }).to_vec();
        let rates = run(&WinRate { clones: Clones::Once, ..WinRate::default() }, &table);
        assert_eq!(rates, [Some(1.0), Some(0.5), Some(0.0), Some(0.0)], "both keep their seats, the copier has none");
    }

    #[test]
    fn bad_fields_are_named() {
        let good = WinRate::default();
        for (bad, field) in [
            (WinRate { epsilon: -0.1, ..good.clone() }, "epsilon"),
            (WinRate { epsilon_end: Some(f64::NAN), decay_blocks: Some(1), ..good.clone() }, "epsilon_end"),
            (WinRate { epsilon_end: Some(0.1), ..good.clone() }, "decay_blocks"),
            (WinRate { decay_blocks: Some(0), epsilon_end: Some(0.1), ..good.clone() }, "decay_blocks"),
            (WinRate { copied_share: 0.0, ..good.clone() }, "copied_share"),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field, "named");
        }
    }
}
