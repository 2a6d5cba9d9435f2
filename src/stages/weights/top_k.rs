//! Shares of the best.

use serde::{Deserialize, Serialize};

use super::table::Table;
use super::{Flaw, between, flaw};

/// The best in tiers, each with a share of the whole; everybody else gets nothing.
///
/// A tier never pays its first more than the tier before it pays its last: where it would, it is scaled down until its first gets that, times
/// its decay (templar's guard). What is then missing, and the share of a tier that nobody reaches, goes to all who are paid, in proportion.
/// Who has no value above zero is in no tier. Of equal values the earlier submission comes first, then the smaller hotkey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// From the best down.
    pub tiers: Vec<Tier>,
}

/// So many ranks, and what they share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// How many ranks.
    pub count: usize,
    /// What they get together, in proportion to the other tiers' shares.
    pub share: f64,
    /// How they split it.
    #[serde(default)]
    pub split: Split,
}

/// How a tier splits its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// In proportion to the values.
    #[default]
    Value,
    /// Equally.
    Equal,
    /// In a straight line: the first gets so many times what the last gets.
    Ramp(f64),
    /// Each rank gets this part of what the rank before it gets.
    Decay(f64),
}

impl TopK {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.tiers.is_empty() {
            return flaw("tiers", "there is none", "give at least one, as in [{ count = 20, share = 1.0 }]");
        }
        for tier in &self.tiers {
            if tier.count == 0 {
                return flaw("tiers.count", "a tier of nobody", "leave the tier out");
            }
            if !(tier.share > 0.0 && tier.share <= 1.0) {
                return flaw(
                    "tiers.share",
                    format!("{} is not above 0 and at most 1", tier.share),
                    "give its part of the whole",
                );
            }
            match tier.split {
                Split::Value | Split::Equal => {}
                Split::Ramp(ratio) => between("tiers.split.ramp", ratio, 1.0, 1e6)?,
                Split::Decay(ratio) if ratio > 0.0 && ratio <= 1.0 => {}
                Split::Decay(ratio) => {
                    let problem = format!("{ratio} is not above 0 and at most 1");
                    return flaw("tiers.split.decay", problem, "0.5 halves with every rank");
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) {
        let ranking = table.ranking(values);
        values.iter_mut().flatten().for_each(|value| *value = 0.0);
        let (mut rest, mut least): (&[(usize, f64)], Option<f64>) = (&ranking, None);
        for tier in &self.tiers {
            let (members, below) = rest.split_at(tier.count.min(rest.len()));
            rest = below;
            let mut shares = tier.split.profile(members);
            scale(&mut shares, tier.share);
            let most = shares.first().copied().unwrap_or(0.0);
            if let Some(least) = least.filter(|least| most > *least) {
                let decay = if let Split::Decay(ratio) = tier.split { ratio } else { 1.0 };
                let factor = least / most * decay;
                shares.iter_mut().for_each(|share| *share *= factor);
            }
            least = shares.last().copied().or(least);
            for ((index, _), share) in members.iter().zip(&shares) {
                values[*index] = Some(*share);
            }
        }
        // In the order of the entrants, as all sums.
        let total: f64 = values.iter().flatten().sum();
        if total > 0.0 {
            values.iter_mut().flatten().for_each(|value| *value /= total);
        }
    }
}

impl Split {
    /// What the ranks get, up to a factor.
    fn profile(self, members: &[(usize, f64)]) -> Vec<f64> {
        let count = members.len();
        match self {
            Self::Value => members.iter().map(|(_, value)| *value).collect(),
            Self::Equal => vec![1.0; count],
            Self::Ramp(ratio) => {
                let steps = count.saturating_sub(1).max(1) as f64;
                (0..count).map(|rank| ratio - (ratio - 1.0) * (rank as f64 / steps)).collect()
            }
            Self::Decay(ratio) => {
                let mut part = 1.0;
                let next = || {
                    let this = part;
                    part *= ratio;
                    this
                };
                std::iter::repeat_with(next).take(count).collect()
            }
        }
    }
}

/// Scales what is above zero so that its sum is `to`.
fn scale(values: &mut [f64], to: f64) {
    let total: f64 = values.iter().sum();
    values.iter_mut().for_each(|value| *value = *value / total * to);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::one_prompt;

    fn run(tiers: &[(usize, f64, Split)], values: &[f64]) -> Vec<f64> {
        let table = one_prompt(&vec![(1, None); values.len()]);
        let tiers = tiers.iter().map(|(count, share, split)| Tier { count: *count, share: *share, split: *split });
        let mut values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
        TopK { tiers: tiers.collect() }.apply(&table, &mut values);
        values.into_iter().flatten().collect()
    }

    #[test]
    fn a_share_of_the_best_by_value_or_equally() {
        assert_eq!(run(&[(2, 1.0, Split::Value)], &[0.1, 0.75, 0.25]), [0.0, 0.75, 0.25], "the best two");
        assert_eq!(run(&[(2, 1.0, Split::Equal)], &[0.1, 0.7, 0.3]), [0.0, 0.5, 0.5], "equally");
        assert_eq!(run(&[(9, 1.0, Split::Equal)], &[0.0, 0.7, -1.0]), [0.0, 1.0, 0.0], "no share without a value");
        assert_eq!(run(&[(9, 1.0, Split::Value)], &[0.0, 0.0]), [0.0, 0.0], "nobody");
    }

    #[test]
    fn tiers_ramps_and_decay() {
        // Three in the first tier split 3/4 as 2 : 1.5 : 1, two in the second 1/4 as 2 : 1. The last of the first gets 1/6, the first of
        // the second would get as much: no guard is needed.
        let shares = run(&[(3, 0.75, Split::Ramp(2.0)), (2, 0.25, Split::Decay(0.5))], &[5.0, 4.0, 3.0, 2.0, 1.0, 0.5]);
        for (share, wanted) in shares.iter().zip([1.0 / 3.0, 0.25, 1.0 / 6.0, 1.0 / 6.0, 1.0 / 12.0, 0.0]) {
            assert!((share - wanted).abs() < 1e-15, "{shares:?}");
        }
        // One in the second tier: 1/4 is more than the 1/6 of the last before it, so it becomes 1/6 * 0.5 = 1/12, and the sum 10/12.
        let shares = run(&[(3, 0.75, Split::Ramp(2.0)), (2, 0.25, Split::Decay(0.5))], &[5.0, 4.0, 3.0, 2.0]);
        for (share, wanted) in shares.iter().zip([0.4, 0.3, 0.2, 0.1]) {
            assert!((share - wanted).abs() < 1e-15, "{shares:?}");
        }
        assert_eq!(run(&[(3, 0.75, Split::Ramp(2.0)), (2, 0.25, Split::Equal)], &[5.0]), [1.0], "one gets all");
    }

    #[test]
    fn bad_tiers_are_named() {
        let tier = |count, share, split| TopK { tiers: vec![Tier { count, share, split }] };
        for (bad, field) in [
            (TopK { tiers: vec![] }, "tiers"),
            (tier(0, 1.0, Split::Equal), "tiers.count"),
            (tier(1, 0.0, Split::Equal), "tiers.share"),
            (tier(1, 1.0, Split::Ramp(0.5)), "tiers.split.ramp"),
            (tier(1, 1.0, Split::Decay(f64::NAN)), "tiers.split.decay"),
        ] {
            assert_eq!(bad.check().expect_err(field).field, field, "named");
        }
    }
}
