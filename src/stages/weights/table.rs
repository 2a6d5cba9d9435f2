//! What the stages work on: a round as plain data.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::Tally;
use crate::{Error, Result};

/// Which of an answer's numbers a stage reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    /// The score.
    #[default]
    Score,
    /// The accuracy.
    Accuracy,
    /// The novelty.
    Novelty,
}

/// Whoever may get a weight: a miner of the round, one whom the memory knows, or the subnet's owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Entrant {
    /// Who he is.
    pub hotkey: String,
    /// His uid, where one is known.
    pub uid: Option<u16>,
    /// His coldkey, where the subnet's state tells.
    pub coldkey: Option<String>,
    /// When he first submitted. Where it is not known he counts as the latest.
    pub block: Option<u64>,
}

/// A miner's answer to a prompt, its numbers in 65535ths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Answer {
    /// Index into [`Table::prompts`].
    pub prompt: u32,
    /// Index into [`Table::entrants`].
    pub entrant: u32,
    /// The score.
    pub score: u16,
    /// The accuracy.
    pub accuracy: u16,
    /// The novelty.
    pub novelty: u16,
}

impl Answer {
    /// The number of a column.
    pub fn get(&self, column: Column) -> u16 {
        match column {
            Column::Score => self.score,
            Column::Accuracy => self.accuracy,
            Column::Novelty => self.novelty,
        }
    }
}

/// How much of what a miner answered was copied from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Copying {
    /// Who copied: index into [`Table::entrants`].
    pub entrant: u32,
    /// Whom: index into [`Table::entrants`].
    pub of: u32,
    /// How many of his answers count as copies of that miner's.
    pub answers: u32,
}

/// A round as the stages see it. Sums run in the order of the entrants, so that no order of a file changes a bit of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Table {
    /// Everybody, by ascending hotkey.
    pub entrants: Vec<Entrant>,
    /// Ids of the prompts, ascending.
    pub prompts: Vec<String>,
    /// The answers, by prompt and then by entrant, no pair twice. Who has none takes no part in the round.
    pub answers: Vec<Answer>,
    /// Whether a prompt that a miner of the round did not answer counts as zero for him; else it is left out.
    pub unanswered_is_zero: bool,
    /// Who copied whom.
    pub copies: Vec<Copying>,
    /// The current block, where it is known.
    pub block: Option<u64>,
    /// The subnet owner's uid, where the subnet's state tells.
    pub owner_uid: Option<u16>,
}

impl Table {
    /// Checks order and indices.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, problem: &str| {
            let remedy = "bring the table into the form that its documentation gives".into();
            Err(Error::Usage { argument: format!("table.{field}"), problem: problem.into(), remedy })
        };
        if !self.entrants.is_sorted_by(|a, b| a.hotkey < b.hotkey) {
            return refuse("entrants", "the hotkeys are not in ascending order, each once");
        }
        if !self.prompts.is_sorted_by(|a, b| a < b) {
            return refuse("prompts", "the ids are not in ascending order, each once");
        }
        let known = |entrant: u32| (entrant as usize) < self.entrants.len();
        if !self.answers.iter().all(|row| known(row.entrant) && (row.prompt as usize) < self.prompts.len()) {
            return refuse("answers", "one is by nobody or to no prompt of the table");
        }
        if !self.answers.is_sorted_by(|a, b| (a.prompt, a.entrant) < (b.prompt, b.entrant)) {
            return refuse("answers", "they are not in ascending order of prompt and entrant, each pair once");
        }
        if !self.copies.iter().all(|row| known(row.entrant) && known(row.of)) {
            return refuse("copies", "one is by or of nobody in the table");
        }
        Ok(())
    }

    /// The answers with their miners' hotkeys and their prompts' ids, in order; what belongs to nobody or to no prompt is passed over.
    pub fn named(&self) -> impl Iterator<Item = (&str, &str, &Answer)> {
        self.answers.iter().filter_map(|answer| {
            let hotkey = &self.entrants.get(answer.entrant as usize)?.hotkey;
            Some((hotkey.as_str(), self.prompts.get(answer.prompt as usize)?.as_str(), answer))
        })
    }

    /// The answers to each prompt that has any.
    pub fn by_prompt(&self) -> impl Iterator<Item = &[Answer]> {
        self.answers.chunk_by(|a, b| a.prompt == b.prompt)
    }

    /// How many answers each entrant gave.
    pub fn answered(&self) -> Vec<u32> {
        let mut counts = vec![0; self.entrants.len()];
        self.answers.iter().for_each(|row| counts[row.entrant as usize] += 1);
        counts
    }

    /// Each entrant's scores, over all prompts or over those that he answered.
    pub fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.entrants.len()];
        for row in &self.answers {
            let tally = &mut tallies[row.entrant as usize];
            tally.sum += u64::from(row.score);
            tally.prompts += 1;
        }
        if self.unanswered_is_zero {
            tallies.iter_mut().for_each(|tally| tally.prompts = self.prompts.len() as u64);
        }
        tallies
    }

    /// Each entrant's mean of `number`, a whole one, over all prompts or over those that he answered; `None` for who answered nothing. What
    /// was not answered counts as `missing` where it counts.
    pub(super) fn means(&self, missing: i64, number: impl Fn(&Answer) -> i64) -> Vec<Option<f64>> {
        let mut sums = vec![0_i64; self.entrants.len()];
        self.answers.iter().for_each(|row| sums[row.entrant as usize] += number(row));
        let (prompts, answered) = (self.prompts.len() as i64, self.answered());
        let mean = |(sum, answered): (i64, u32)| {
            let answered = i64::from(answered);
            let (sum, of) = match self.unanswered_is_zero {
                true => (sum + (prompts - answered) * missing, prompts),
                false => (sum, answered),
            };
            // Both are far below 2^53.
            (answered > 0).then(|| sum as f64 / of as f64)
        };
        sums.into_iter().zip(answered).map(mean).collect()
    }

    /// Each entrant's mean of a column, in [0, 1].
    pub(super) fn column(&self, column: Column) -> Vec<Option<f64>> {
        let means = self.means(0, |row| i64::from(row.get(column)));
        means.into_iter().map(|mean| mean.map(|mean| mean / 65_535.0)).collect()
    }

    /// The order of a rank: the larger value first, then who submitted first, then by hotkey. Values are finite.
    pub(super) fn before(&self, (a, value_a): (usize, f64), (b, value_b): (usize, f64)) -> std::cmp::Ordering {
        let block = |index: usize| self.entrants[index].block.unwrap_or(u64::MAX);
        // -0 and 0 are equal here, unlike in a total order of floats.
        let by_value = value_b.partial_cmp(&value_a).unwrap_or(std::cmp::Ordering::Equal);
        by_value.then_with(|| block(a).cmp(&block(b))).then(a.cmp(&b))
    }

    /// Those with a value above zero, the best first.
    pub(super) fn ranking(&self, values: &[Option<f64>]) -> Vec<(usize, f64)> {
        let positive = |(index, value): (usize, &Option<f64>)| Some((index, value.filter(|value| *value > 0.0)?));
        let mut ranking: Vec<(usize, f64)> = values.iter().enumerate().filter_map(positive).collect();
        ranking.sort_unstable_by(|a, b| self.before(*a, *b));
        ranking
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table of miners `m0`, `m1`, ... by the scores of each, prompt by prompt; `None` where one did not answer.
    pub fn table(scores: &[&[Option<u16>]]) -> Table {
        let prompts = scores.first().map_or(0, |row| row.len());
        let mut answers = Vec::new();
        for prompt in 0..prompts {
            for (entrant, row) in scores.iter().enumerate() {
                if let Some(score) = row[prompt] {
                    let (prompt, entrant) = (prompt as u32, entrant as u32);
                    answers.push(Answer { prompt, entrant, score, accuracy: score, novelty: 65_535 });
                }
            }
        }
        let entrant = |index: usize| Entrant { hotkey: format!("m{index:04}"), ..Entrant::default() };
        Table {
            entrants: (0..scores.len()).map(entrant).collect(),
            prompts: (0..prompts).map(|prompt| format!("p{prompt:04}")).collect(),
            answers,
            unanswered_is_zero: true,
            ..Table::default()
        }
    }

    /// The same of one prompt that all answered, with the block of each.
    pub fn one_prompt(scores: &[(u16, Option<u64>)]) -> Table {
        let rows: Vec<[Option<u16>; 1]> = scores.iter().map(|(score, _)| [Some(*score)]).collect();
        let mut table = table(&rows.iter().map(|row| row.as_slice()).collect::<Vec<_>>());
        for (entrant, (_, block)) in table.entrants.iter_mut().zip(scores) {
            entrant.block = *block;
        }
        table
    }

    #[test]
    fn a_mean_is_over_all_prompts_or_over_the_answered_ones() {
        let mut table = table(&[&[Some(65_535), Some(0)], &[Some(65_535), None], &[None, None]]);
        assert_eq!(table.column(Column::Score), [Some(0.5), Some(0.5), None], "an unanswered one is zero");
        assert_eq!(table.answered(), [2, 1, 0], "answers");
        table.unanswered_is_zero = false;
        assert_eq!(table.column(Column::Score), [Some(0.5), Some(1.0), None], "an unanswered one is left out");
        assert_eq!(table.column(Column::Novelty), [Some(1.0), Some(1.0), None], "another column");
    }

    #[test]
    fn ranks_prefer_the_earlier_and_leave_out_who_has_nothing() {
        let table = one_prompt(&[(1, Some(9)), (1, Some(5)), (1, None), (1, Some(5)), (1, Some(1))]);
        let values = [Some(0.5), Some(0.5), Some(0.5), Some(0.5), Some(0.0)];
        let order: Vec<usize> = table.ranking(&values).into_iter().map(|(index, _)| index).collect();
        assert_eq!(order, [1, 3, 0, 2], "by block, then by hotkey; an unknown block is the latest");
    }

    #[test]
    fn a_table_out_of_order_is_refused_by_its_field() {
        let good = table(&[&[Some(1), Some(2)], &[Some(3), None]]);
        good.check().expect("legal");
        let spoilt = |field: &str, spoil: &dyn Fn(&mut Table)| {
            let mut bad = good.clone();
            spoil(&mut bad);
            let error = bad.check().expect_err(field).to_string();
            assert!(error.contains(&format!("table.{field}")), "{error}");
        };
        spoilt("entrants", &|table| table.entrants.swap(0, 1));
        spoilt("prompts", &|table| table.prompts.swap(0, 1));
        spoilt("answers", &|table| table.answers.swap(0, 2));
        spoilt("answers", &|table| table.answers[0].entrant = 7);
        spoilt("copies", &|table| table.copies.push(Copying { entrant: 0, of: 2, answers: 1 }));
    }
}
