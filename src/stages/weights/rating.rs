//! Ratings over rounds, as OpenSkill's.
//!
//! Weng & Lin 2011, "A Bayesian Approximation Method for Online Ranking" (JMLR 12), algorithm 4 (Plackett-Luce) with teams of one, and what
//! OpenSkill adds: `tau`, the factor gamma = sigma / c, and the ordinal. The crates there are do not serve: `skillratings` has another of
//! the paper's algorithms (Bradley-Terry) and the platform's exp, whose last digits differ between platforms; `openskill` is a first version of
//! 2023.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::memory::{Memory, Rating};
use super::table::{Column, Table};
use super::win_rate::Over;
use super::{Combine, Flaw, flaw};

/// Miners rated by whom they finish before. The value is the ordinal, `mu - deviations * sigma`, which a newcomer has at 0 and which may be
/// negative. Ratings are kept by hotkey; who took no part in the round keeps his.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatingStage {
    /// By what they are ranked.
    pub column: Column,
    /// In how many matches: one by the means, or one a prompt, in the order of the prompts' ids.
    pub over: Over,
    /// A newcomer's mean.
    pub mu: f64,
    /// A newcomer's standard deviation.
    pub sigma: f64,
    /// How much a single match varies.
    pub beta: f64,
    /// What each match adds to the standard deviation, so that nobody is settled for good.
    pub tau: f64,
    /// The least part of a variance that a match may leave.
    pub kappa: f64,
    /// How many standard deviations the ordinal lies below the mean.
    pub deviations: f64,
    /// What becomes of the values so far.
    pub combine: Combine,
}

impl Default for RatingStage {
    /// OpenSkill's defaults.
    fn default() -> Self {
        Self {
            column: Column::Score,
            over: Over::Mean,
            mu: 25.0,
            sigma: 25.0 / 3.0,
            beta: 25.0 / 6.0,
            tau: 25.0 / 300.0,
            kappa: 0.0001,
            deviations: 3.0,
            combine: Combine::Replace,
        }
    }
}

impl RatingStage {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        let fields = [("sigma", self.sigma, 1e-3), ("beta", self.beta, 1e-3), ("kappa", self.kappa, 1e-12)];
        let more = [("mu", self.mu, 0.0), ("tau", self.tau, 0.0), ("deviations", self.deviations, 0.0)];
        for (field, value, least) in fields.into_iter().chain(more) {
            if !(least..=1000.0).contains(&value) {
                return flaw(
                    field,
                    format!("{value} is not between {least} and 1000"),
                    "leave it out for OpenSkill's own",
                );
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>], memory: &mut Memory) {
        let means = table.column(self.column);
        let newcomer = Rating { mu: self.mu, sigma: self.sigma };
        let known =
            |index: usize, memory: &BTreeMap<String, Rating>| memory.get(&table.entrants[index].hotkey).copied();
        let mut ratings: Vec<Option<Rating>> = means
            .iter()
            .enumerate()
            .map(|(index, mean)| known(index, &memory.ratings).or(mean.map(|_| newcomer)))
            .collect();
        match self.over {
            Over::Mean => {
                let scores = means.iter().enumerate().filter_map(|(index, mean)| Some((index, (*mean)?)));
                self.rate(&mut ratings, scores.collect());
            }
            Over::Prompts => {
                for rows in table.by_prompt() {
                    let mut scores: Vec<(usize, f64)> =
                        rows.iter().map(|row| (row.entrant as usize, f64::from(row.get(self.column)))).collect();
                    if table.unanswered_is_zero {
                        let there: Vec<usize> = scores.iter().map(|(index, _)| *index).collect();
                        let missing = (0..means.len()).filter(|index| means[*index].is_some());
                        scores.extend(
                            missing.filter(|index| there.binary_search(index).is_err()).map(|index| (index, 0.0)),
                        );
                    }
                    self.rate(&mut ratings, scores);
                }
            }
        }
        for (entrant, rating) in table.entrants.iter().zip(&ratings) {
            if let Some(rating) = rating {
                memory.ratings.insert(entrant.hotkey.clone(), *rating);
            }
        }
        let ordinal = |rating: Option<Rating>| rating.map(|rating| rating.mu - self.deviations * rating.sigma);
        self.combine.apply(values, ratings.into_iter().map(ordinal).collect());
    }

    /// One match among those who have a score: the larger first, equal ones at the same rank.
    ///
    /// The paper sums over all pairs. As everybody's sums are over the ranks down to his own, they are running sums here.
    fn rate(&self, ratings: &mut [Option<Rating>], mut scores: Vec<(usize, f64)>) {
        if scores.len() < 2 {
            return;
        }
        scores.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for (index, _) in &scores {
            if let Some(rating) = &mut ratings[*index] {
                rating.sigma = libm::sqrt(rating.sigma * rating.sigma + self.tau * self.tau);
            }
        }
        let of = |index: usize| ratings[index].unwrap_or(Rating { mu: self.mu, sigma: self.sigma });
        let variance = |sum: f64, rating: Rating| sum + (rating.sigma * rating.sigma + self.beta * self.beta);
        let c = libm::sqrt(scores.iter().fold(0.0, |sum, (index, _)| variance(sum, of(*index))));
        let strengths: Vec<f64> = scores.iter().map(|(index, _)| libm::exp(of(*index).mu / c)).collect();
        let ranks: Vec<usize> = scores.chunk_by(|a, b| a.1 == b.1).map(<[_]>::len).collect();
        // SUM of the strengths of a rank and all below it.
        let mut sums = vec![0.0; ranks.len()];
        let (mut sum, mut end) = (0.0, scores.len());
        for (rank, tied) in ranks.iter().enumerate().rev() {
            sum += strengths[end - tied..end].iter().sum::<f64>();
            end -= tied;
            sums[rank] = sum;
        }
        let (mut inverse, mut square, mut start) = (0.0, 0.0, 0);
        let mut new = Vec::with_capacity(scores.len());
        for (tied, sum) in ranks.iter().zip(sums) {
            // The tied ones of a rank share its term.
            inverse += 1.0 / sum;
            square += 1.0 / (sum * sum);
            for at in start..start + tied {
                let (index, strength) = (scores[at].0, strengths[at]);
                let Rating { mu, sigma } = of(index);
                let omega = (1.0 / *tied as f64 - strength * inverse) * (sigma * sigma / c);
                let delta =
                    (strength * inverse - strength * strength * square) * (sigma * sigma / (c * c)) * (sigma / c);
                let left = if 1.0 - delta > self.kappa { 1.0 - delta } else { self.kappa };
                new.push((index, Rating { mu: mu + omega, sigma: sigma * libm::sqrt(left) }));
            }
            start += tied;
        }
        for (index, rating) in new {
            ratings[index] = Some(rating);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::table;

    fn rated(stage: &RatingStage, rounds: &[[Option<u16>; 5]]) -> (Memory, Vec<Option<f64>>) {
        let (mut memory, mut values) = (Memory::default(), vec![None; 5]);
        for round in rounds {
            let cells: Vec<[Option<u16>; 1]> = round.iter().map(|score| [*score]).collect();
            let table = table(&cells.iter().map(|row| row.as_slice()).collect::<Vec<_>>());
            stage.apply(&table, &mut values, &mut memory);
        }
        (memory, values)
    }

    const ROUNDS: [[Option<u16>; 5]; 4] = [
        [Some(4), Some(3), Some(3), Some(1), None],
        [Some(1), Some(2), Some(3), Some(4), Some(5)],
        [Some(7), Some(7), Some(7), None, Some(7)],
        [Some(9), Some(1), Some(1), Some(8), Some(0)],
    ];

    #[test]
    fn two_newcomers_by_hand() {
        // No tau: variances 625/9, beta^2 = 625/36, so c^2 = 2 * (625/9 + 625/36) = 2 * 86.80556. Equal strengths: each wins with 1/2.
        // Winner: omega = 1 - 1/2; loser: 0 - 1/2 (+ 1 - 1 of his own rank). delta = 1/4 for both, times sigma^2 / c^2 * sigma / c.
        let stage = RatingStage { tau: 0.0, ..RatingStage::default() };
        let (memory, _) = rated(&stage, &[[Some(2), Some(1), None, None, None]]);
        let (variance, c) = (625.0 / 9.0, (2.0_f64 * (625.0 / 9.0 + 625.0 / 36.0)).sqrt());
        let shift = 0.5 * variance / c;
        let left = (1.0 - 0.25 * variance / (c * c) * variance.sqrt() / c).sqrt();
        for (hotkey, mu) in [("m0000", 25.0 + shift), ("m0001", 25.0 - shift)] {
            let rating = memory.ratings[hotkey];
            assert!((rating.mu - mu).abs() < 1e-12, "{hotkey}: {} is {mu}", rating.mu);
            assert!((rating.sigma - variance.sqrt() * left).abs() < 1e-12, "{hotkey}: {}", rating.sigma);
        }
    }

    #[test]
    fn openskill_gives_the_same() {
        // openskill 6.2.0 (PyPI), PlackettLuce().rate(teams of one, scores=...), over ROUNDS; mu, sigma and ordinal of each.
        let defaults = [
            (25.759504778533408, 7.935966054189411, 1.9516066159651757),
            (23.32026267917601, 7.781703810258433, -0.024848751599286345),
            (24.571731087118366, 7.830687811757069, 1.07966765184716),
            (26.581675679843674, 8.009038213586438, 2.5545610390843585),
            (24.66346006396208, 8.041651828955764, 0.5385045770947876),
        ];
        // The same with beta=7, tau=0.1, as templar has them.
        let templar = [
            (25.753864594823796, 8.085954863923261, 1.4960000030540144),
            (23.446622090866573, 7.982757455843766, -0.5016502766647228),
            (24.607148128384207, 8.016542279845758, 0.5575212888469316),
            (26.333179284269427, 8.129635268704131, 1.944273478157033),
            (24.80836011917936, 8.159090904269272, 0.331087406371541),
        ];
        for (stage, wanted) in [
            (RatingStage::default(), defaults),
            (RatingStage { beta: 7.0, tau: 0.1, ..RatingStage::default() }, templar),
        ] {
            let (memory, values) = rated(&stage, &ROUNDS);
            for (index, (mu, sigma, ordinal)) in wanted.into_iter().enumerate() {
                let rating = memory.ratings[&format!("m{index:04}")];
                let close = |a: f64, b: f64| (a - b).abs() < 1e-12 * b.abs().max(1.0);
                assert!(close(rating.mu, mu) && close(rating.sigma, sigma), "{index}: {rating:?} is {mu}, {sigma}");
                assert!(close(values[index].expect("rated"), ordinal), "{index}: {:?} is {ordinal}", values[index]);
            }
        }
    }

    #[test]
    fn a_match_a_prompt_is_a_round_each() {
        let (by_round, _) = rated(&RatingStage::default(), &ROUNDS);
        let column = |index: usize| ROUNDS.map(|round| round[index]);
        let cells: Vec<[Option<u16>; 4]> = (0..5).map(column).collect();
        let mut table = table(&cells.iter().map(|row| row.as_slice()).collect::<Vec<_>>());
        table.unanswered_is_zero = false;
        let stage = RatingStage { over: Over::Prompts, ..RatingStage::default() };
        let mut by_prompt = Memory::default();
        stage.apply(&table, &mut [None; 5], &mut by_prompt);
        assert_eq!(by_prompt, by_round, "to the bit");
    }

    #[test]
    fn who_took_no_part_keeps_his_rating_and_one_alone_is_not_rated() {
        let (mut memory, _) = rated(&RatingStage::default(), &ROUNDS);
        memory.ratings.insert("elsewhere".into(), Rating { mu: 1.0, sigma: 2.0 });
        let before = memory.clone();
        let mut values = vec![None; 3];
        RatingStage::default().apply(&table(&[&[Some(1)], &[None], &[None]]), &mut values, &mut memory);
        assert_eq!(memory, before, "a match of one changes nothing");
        assert!(values[1].is_some_and(|value| value < 0.0), "his ordinal still counts: {values:?}");
        let mut newcomer = vec![None];
        RatingStage::default().apply(&table(&[&[Some(1)]]), &mut newcomer, &mut Memory::default());
        assert_eq!(newcomer, [Some(0.0)], "a newcomer's ordinal");
    }

    #[test]
    fn bad_fields_are_named() {
        let good = RatingStage::default();
        for (bad, field) in [
            (RatingStage { sigma: 0.0, ..good.clone() }, "sigma"),
            (RatingStage { beta: f64::NAN, ..good.clone() }, "beta"),
            (RatingStage { tau: -1.0, ..good.clone() }, "tau"),
            (RatingStage { mu: 1e9, ..good.clone() }, "mu"),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field, "named");
        }
    }
}
