//! Pareto dominance over environments.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::table::{Column, Table};
use super::{Combine, Flaw, between, flaw};

/// The most environments: there are 2^k - 1 sets of them.
const MAX_ENVIRONMENTS: usize = 10;

/// What a miner is worth in every set of environments in which nobody dominates him, as affine counts it (its scorer's stages 2 and 3).
///
/// In each environment the later of two wins if his mean is above `prior + clamp(margin * (1 - prior), margin_minimum, margin_maximum)`, where
/// `prior` is the earlier one's mean, and else the earlier. Who wins in all environments of a set dominates the other there. Those whom nobody
/// dominates share the set by the geometric mean of their means, times `decay ^ (rank - 1)`. A set of l environments counts
/// `2^(l - first) * k` over the number of sets of that size, where k is the number of environments and `first` the smallest size that counts.
/// The value is the sum over the sets. A set in which nobody is worth anything pays nobody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pareto {
    /// What the environments are.
    pub environments: Environments,
    /// With environments by prompt: what is compared.
    pub column: Column,
    /// By which part of his distance from 1 a later one must beat an earlier one, in [0, 1].
    pub margin: f64,
    /// The least that this comes to.
    pub margin_minimum: f64,
    /// The most that this comes to.
    pub margin_maximum: f64,
    /// What a rank keeps of its share; above 0, at most 1.
    pub decay: f64,
    /// How many sizes of sets count, from the largest down.
    pub layers: usize,
    /// Of an environment's prompts, the share that a miner must have answered to take part in it.
    pub completeness: f64,
    /// What becomes of the values so far.
    pub combine: Combine,
}

/// What the environments are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environments {
    /// Accuracy and novelty.
    #[default]
    Columns,
    /// A prompt's environment is what its id has before the last `:`.
    PromptIds,
}

impl Default for Pareto {
    fn default() -> Self {
        Self {
            environments: Environments::Columns,
            column: Column::Score,
            margin: 0.2,
            margin_minimum: 0.0,
            margin_maximum: 1.0,
            decay: 1.0,
            layers: 6,
            completeness: 0.0,
            combine: Combine::Replace,
        }
    }
}

impl Pareto {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        between("margin", self.margin, 0.0, 1.0)?;
        between("margin_minimum", self.margin_minimum, 0.0, 1.0)?;
        between("margin_maximum", self.margin_maximum, self.margin_minimum, 1.0)?;
        between("completeness", self.completeness, 0.0, 1.0)?;
        if !(self.decay > 0.0 && self.decay <= 1.0) {
            return flaw("decay", format!("{} is not above 0 and at most 1", self.decay), "1 leaves ranks out");
        }
        if self.layers == 0 {
            return flaw("layers", "no set of environments would count", "6 is affine's");
        }
        Ok(())
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) -> Result<(), Flaw> {
        let means = self.means(table);
        let environments = means.len();
        if environments > MAX_ENVIRONMENTS {
            let problem =
                format!("the prompts' ids name {environments} of them, and at most {MAX_ENVIRONMENTS} are taken");
            return flaw("environments", problem, "put less into the part of an id before its last colon");
        }
        let worth = self.worth(table, &means, &self.dominated(table, &means));
        self.combine.apply(values, worth);
        Ok(())
    }

    /// The means of each environment, by entrant; `None` for who takes no part in it.
    fn means(&self, table: &Table) -> Vec<Vec<Option<f64>>> {
        if self.environments == Environments::Columns {
            return vec![table.column(Column::Accuracy), table.column(Column::Novelty)];
        }
        let mut prompts: BTreeMap<&str, Table> = BTreeMap::new();
        let name = |id: &'_ str| id.rfind(':').map_or("", |end| &id[..end]).to_owned();
        let names: Vec<String> = table.prompts.iter().map(|id| name(id)).collect();
        let mut within = Vec::with_capacity(names.len());
        for name in &names {
            let part = prompts.entry(name).or_insert_with(|| Table {
                entrants: table.entrants.clone(),
                unanswered_is_zero: table.unanswered_is_zero,
                ..Table::default()
            });
            within.push(part.prompts.len() as u32);
            part.prompts.push(String::new());
        }
        for row in &table.answers {
            let prompt = row.prompt as usize;
            if let Some(part) = prompts.get_mut(names[prompt].as_str()) {
                part.answers.push(super::table::Answer { prompt: within[prompt], ..*row });
            }
        }
        let complete = |part: &Table| {
            let needed = self.completeness * part.prompts.len() as f64;
            let means = part.column(self.column).into_iter().zip(part.answered());
            means.map(|(mean, answered)| mean.filter(|_| f64::from(answered) >= needed)).collect()
        };
        prompts.values().map(complete).collect()
    }

    /// The mean from which on a later one beats an earlier one.
    fn required(&self, prior: f64) -> f64 {
        prior + (self.margin * (1.0 - prior)).clamp(self.margin_minimum, self.margin_maximum)
    }

    /// Who is dominated in which set of environments.
    fn dominated(&self, table: &Table, means: &[Vec<Option<f64>>]) -> Dominated {
        let count = table.entrants.len();
        let valid: Vec<u16> = (0..count)
            .map(|index| means.iter().enumerate().map(|(at, means)| u16::from(means[index].is_some()) << at).sum())
            .collect();
        let mut order: Vec<usize> = (0..count).filter(|index| valid[*index] != 0).collect();
        order.sort_by_key(|index| table.entrants[*index].block.unwrap_or(u64::MAX));
        // Side by side in the order of submission, as ranks among what is required: m > r where fewer lie below r than below m.
        let ranks = |means: &Vec<Option<f64>>| {
            let means: Vec<f64> = order.iter().map(|index| means[*index].unwrap_or(0.0)).collect();
            let required: Vec<f64> = means.iter().map(|mean| self.required(*mean)).collect();
            let mut sorted = required.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let rank = |number: &f64| sorted.partition_point(|other| other < number) as i32;
            (means.iter().map(rank).collect::<Vec<i32>>(), required.iter().map(rank).collect::<Vec<i32>>())
        };
        let ranks: Vec<(Vec<i32>, Vec<i32>)> = means.iter().map(ranks).collect();
        let mut dominated = Dominated { sets: 1 << means.len(), marks: vec![false; count << means.len()] };
        let mut won = vec![0_i32; order.len()];
        for (later, index) in order.iter().enumerate() {
            won[..later].fill(0);
            for (at, (own, required)) in ranks.iter().enumerate() {
                let (own, bit) = (own[later], 1 << at);
                for (won, required) in won[..later].iter_mut().zip(&required[..later]) {
                    *won |= if own > *required { bit } else { 0 };
                }
            }
            for (earlier, won) in order[..later].iter().zip(&won[..later]) {
                let (both, won) = (valid[*index] & valid[*earlier], *won as u16);
                dominated.mark(*earlier, both & won);
                dominated.mark(*index, both & !won);
            }
        }
        dominated.close(means.len());
        dominated
    }

    /// The sum over all sets of what each entrant has of them.
    fn worth(&self, table: &Table, means: &[Vec<Option<f64>>], dominated: &Dominated) -> Vec<Option<f64>> {
        let environments = means.len();
        let mut worth: Vec<Option<f64>> = (0..table.entrants.len())
            .map(|index| means.iter().any(|means| means[index].is_some()).then_some(0.0))
            .collect();
        let first = environments.saturating_sub(self.layers) as u32;
        for set in 1_usize..1 << environments {
            let size = set.count_ones();
            if size <= first {
                continue;
            }
            let here: Vec<&Vec<Option<f64>>> =
                means.iter().enumerate().filter(|(at, _)| set & (1 << at) != 0).map(|(_, means)| means).collect();
            let score = |index: usize| {
                let product = here.iter().try_fold(1.0, |product, means| Some(product * means[index]?))?;
                let root = if size == 1 { product } else { libm::pow(product, 1.0 / f64::from(size)) };
                Some(root).filter(|_| !dominated.is(index, set))
            };
            let scores: Vec<Option<f64>> = (0..table.entrants.len()).map(score).collect();
            let mut part = 1.0;
            let mut shares = vec![0.0; scores.len()];
            for (index, score) in table.ranking(&scores) {
                shares[index] = score * part;
                part *= self.decay;
            }
            let total: f64 = shares.iter().sum();
            let weight =
                (1_u64 << (size - first - 1)) as f64 * environments as f64 / choose(environments, size as usize);
            if total > 0.0 {
                for (worth, share) in worth.iter_mut().zip(&shares) {
                    *worth = worth.map(|worth| worth + weight * (share / total));
                }
            }
        }
        worth
    }
}

/// Who is dominated in which set of environments; a set is the bits of its environments.
struct Dominated {
    sets: usize,
    marks: Vec<bool>,
}

impl Dominated {
    /// Marks the largest set in which somebody is dominated.
    fn mark(&mut self, index: usize, set: u16) {
        self.marks[index * self.sets + usize::from(set)] = true;
    }

    /// Who is dominated in a set is so in all its subsets.
    fn close(&mut self, environments: usize) {
        for marks in self.marks.chunks_exact_mut(self.sets) {
            for at in 0..environments {
                for set in (0..self.sets).filter(|set| set & (1 << at) == 0) {
                    marks[set] |= marks[set | 1 << at];
                }
            }
        }
    }

    fn is(&self, index: usize, set: usize) -> bool {
        self.marks[index * self.sets + set]
    }
}

/// How many sets of `size` there are among `count`.
fn choose(count: usize, size: usize) -> f64 {
    (1..=size).fold(1.0, |sets, at| sets * (count - size + at) as f64 / at as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::table;

    /// Miners by their means in environments `e0`, `e1`, ..., one prompt each, the earlier first.
    fn environments(means: &[&[Option<f64>]]) -> Table {
        let cells: Vec<Vec<Option<u16>>> = means
            .iter()
            .map(|row| row.iter().map(|mean| mean.map(|mean| (mean * 65_535.0).round() as u16)).collect())
            .collect();
        let mut table = table(&cells.iter().map(Vec::as_slice).collect::<Vec<_>>());
        table.prompts = (0..means[0].len()).map(|at| format!("e{at}:1")).collect();
        table.entrants.iter_mut().zip(1..).for_each(|(entrant, block)| entrant.block = Some(block));
        table
    }

    fn run(pareto: &Pareto, table: &Table) -> Vec<Option<f64>> {
        let mut values = vec![None; table.entrants.len()];
        pareto.apply(table, &mut values).expect("few environments");
        values
    }

    fn by_prompt() -> Pareto {
        Pareto { environments: Environments::PromptIds, ..Pareto::default() }
    }

    #[test]
    fn a_later_one_must_beat_an_earlier_one_by_the_margin() {
        // 0.5 requires more than 0.6; 0.9 more than 0.92.
        let worth = |earlier, later| run(&by_prompt(), &environments(&[&[Some(earlier)], &[Some(later)]]));
        assert_eq!(worth(0.5, 0.59), [Some(1.0), Some(0.0)], "too little");
        assert_eq!(worth(0.5, 0.61), [Some(0.0), Some(1.0)], "enough");
        assert_eq!(worth(0.9, 0.93), [Some(0.0), Some(1.0)], "less is enough above");
        let clamped = Pareto { margin_minimum: 0.02, margin_maximum: 0.1, ..by_prompt() };
        for (prior, required) in [(0.0, 0.1), (0.5, 0.6), (0.8, 0.84), (0.95, 0.97), (0.99, 1.01)] {
            assert!((clamped.required(prior) - required).abs() < 1e-15, "{prior}");
        }
    }

    #[test]
    fn sets_are_shared_by_those_whom_nobody_dominates() {
        // Environments e0, e1. A (0.5, 0.5), B (0.8, 0.4), C (0.45, 0.45), in the order of submission.
        // e0: B beats A (0.8 > 0.6); A beats C, B beats C. e1: A beats B and C. Both: A and B win one each, so neither dominates;
        // C is dominated by A everywhere. C against B in e1: 0.45 < 0.4 + 0.12, so B wins there too.
        // Sets: {e0}: B alone, weight 2 / 2 = 1. {e1}: A alone, 1. {e0, e1}: A sqrt(0.25) = 0.5, B sqrt(0.32), weight 2 * 2 / 1 = 4.
        let table = environments(&[&[Some(0.5), Some(0.5)], &[Some(0.8), Some(0.4)], &[Some(0.45), Some(0.45)]]);
        let total = 0.5 + 0.32_f64.sqrt();
        let wanted = [1.0 + 4.0 * 0.5 / total, 1.0 + 4.0 * 0.32_f64.sqrt() / total, 0.0];
        for (worth, wanted) in run(&by_prompt(), &table).iter().zip(wanted) {
            assert!((worth.expect("takes part") - wanted).abs() < 1e-4, "{worth:?} is {wanted}: scores have 16 bits");
        }
        // With a decay of one half the better, B, keeps his share and A has half of his.
        let total = 0.25 + 0.32_f64.sqrt();
        let wanted = [1.0 + 4.0 * 0.25 / total, 1.0 + 4.0 * 0.32_f64.sqrt() / total];
        let decayed = run(&Pareto { decay: 0.5, ..by_prompt() }, &table);
        for (worth, wanted) in decayed.iter().zip(wanted) {
            assert!((worth.expect("takes part") - wanted).abs() < 1e-4, "{worth:?} is {wanted}");
        }
        // Only the largest set counts, once: 2 = k * 2^0 / 1.
        let largest: f64 = run(&Pareto { layers: 1, ..by_prompt() }, &table).into_iter().flatten().sum();
        assert!((largest - 2.0).abs() < 1e-12, "{largest}");
    }

    #[test]
    fn who_took_no_part_in_an_environment_is_in_no_set_with_it() {
        let table = environments(&[&[Some(0.5), None], &[Some(0.4), Some(0.4)], &[None, None]]);
        // e0: A dominates B. e1 and both: B alone. Weights 1, 1 and 4.
        assert_eq!(run(&by_prompt(), &table), [Some(1.0), Some(5.0), None], "sets of whom is there");
        let table = Table { unanswered_is_zero: false, ..table };
        assert_eq!(run(&Pareto { completeness: 1.0, ..by_prompt() }, &table), [Some(1.0), Some(5.0), None], "complete");
    }

    #[test]
    fn dominance_is_what_pair_by_pair_and_set_by_set_gives() {
        let mut state = 3_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for case in 0..100 {
            let (miners, count) = (1 + next(9) as usize, 1 + next(4) as usize);
            let mut rows = vec![vec![None; count]; miners];
            for cell in rows.iter_mut().flatten() {
                *cell = (next(6) > 0).then(|| next(11) as f64 / 10.0);
            }
            let mut table = environments(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
            table.entrants.iter_mut().for_each(|entrant| entrant.block = (next(4) > 0).then(|| next(3)));
            let pareto = by_prompt();
            let means = pareto.means(&table);
            let dominated = pareto.dominated(&table, &means);
            let mut order: Vec<usize> = (0..miners).collect();
            order.sort_by_key(|index| table.entrants[*index].block.unwrap_or(u64::MAX));
            for set in 1_usize..1 << count {
                let here: Vec<usize> = (0..count).filter(|at| set & (1 << at) != 0).collect();
                let there = |index: usize| here.iter().all(|at| means[*at][index].is_some());
                let mut plainly = vec![false; miners];
                for (at, a) in order.iter().copied().enumerate() {
                    for b in order[at + 1..].iter().copied().filter(|b| there(a) && there(*b)) {
                        let won = |at: &usize| means[*at][b] > means[*at][a].map(|prior| pareto.required(prior));
                        let wins = here.iter().filter(|at| won(at)).count();
                        plainly[a] |= wins == here.len();
                        plainly[b] |= wins == 0;
                    }
                }
                for index in (0..miners).filter(|index| there(*index)) {
                    assert_eq!(dominated.is(index, set), plainly[index], "case {case}, set {set:b}, miner {index}");
                }
            }
        }
    }

    #[test]
    fn columns_are_environments_too_and_nothing_earns_nothing() {
        let both = run(&Pareto::default(), &table(&[&[Some(65_535)]]));
        assert_eq!(both, [Some(6.0)], "alone: 1 + 1 + 4");
        let mut nothing = table(&[&[Some(0)], &[Some(0)]]);
        nothing.answers.iter_mut().for_each(|row| row.novelty = 0);
        assert_eq!(run(&Pareto::default(), &nothing), [Some(0.0), Some(0.0)], "no equal shares of nothing");
    }

    #[test]
    fn too_many_environments_and_bad_fields_are_refused() {
        let means = vec![Some(0.5); 11];
        let table = environments(&[&means]);
        assert_eq!(by_prompt().apply(&table, &mut [None]).expect_err("11").field, "environments", "named");
        let good = Pareto::default();
        for (bad, field) in [
            (Pareto { margin: 2.0, ..good.clone() }, "margin"),
            (Pareto { margin_minimum: 0.5, margin_maximum: 0.1, ..good.clone() }, "margin_maximum"),
            (Pareto { decay: 0.0, ..good.clone() }, "decay"),
            (Pareto { layers: 0, ..good.clone() }, "layers"),
            (Pareto { completeness: f64::NAN, ..good.clone() }, "completeness"),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field, "named");
        }
    }
}
