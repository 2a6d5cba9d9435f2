//! How unevenly something is held.
#![deny(clippy::float_arithmetic)]

use serde::Serialize;

/// Of how many of the largest holders the share is told.
pub const LARGEST: [usize; 4] = [1, 5, 10, 20];

/// How concentrated something is in few hands. Shares are in millionths, rounded down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Concentration {
    /// What is held: `stake`, `votes`, `incentive` or `dividends`.
    pub name: &'static str,
    /// How many could hold some of it.
    pub of: usize,
    /// How many do.
    pub holders: usize,
    /// Gini's coefficient over all who could (Gini 1912): 0 = all hold the same, (n - 1) / n = one holds everything.
    ///
    /// With x ascending: `G = (2 SUM i x_i - (n + 1) SUM x_i) / (n SUM x_i)`.
    pub gini_ppm: u32,
    /// The Nakamoto coefficient (Srinivasan and Lee 2017): the fewest who together hold more than half. 0 where there is nothing.
    pub nakamoto: usize,
    /// The fewest whose votes together reach kappa: what they agree on is consensus, whatever the others weigh (YUMA §6). Votes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub majority: Option<usize>,
    /// What the k largest hold together, for each k of [`LARGEST`].
    pub largest: Vec<(usize, u32)>,
}

impl Concentration {
    /// Of amounts that sum to less than 2^80, one for each of fewer than 2^16 who could hold some.
    pub fn new(name: &'static str, mut amounts: Vec<u128>, kappa: Option<u16>) -> Self {
        amounts.sort_unstable();
        let total: u128 = amounts.iter().sum();
        let n = amounts.len();
        let weighted: u128 = amounts.iter().zip(1..).map(|(amount, place)| amount * place).sum();
        let spread = (2 * weighted).saturating_sub((n as u128 + 1) * total);
        let fewest = |enough: &dyn Fn(u128) -> bool| {
            let mut held = 0;
            let count = amounts.iter().rev().position(|amount| {
                held += amount;
                held > 0 && enough(held)
            });
            count.map_or(0, |place| place + 1)
        };
        Self {
            name,
            of: n,
            holders: amounts.iter().filter(|amount| **amount > 0).count(),
            gini_ppm: ppm(spread, n as u128 * total),
            nakamoto: fewest(&|held| 2 * held > total),
            majority: kappa.map(|kappa| fewest(&|held| 65_535 * held >= u128::from(kappa) * total)),
            largest: LARGEST.map(|k| (k, ppm(amounts.iter().rev().take(k).sum(), total))).to_vec(),
        }
    }
}

/// A share in millionths, rounded down; 0 of nothing.
pub(super) fn ppm(part: u128, whole: u128) -> u32 {
    (part * 1_000_000).checked_div(whole).map_or(0, |ppm| u32::try_from(ppm).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(amounts: &[u128]) -> Concentration {
        Concentration::new("stake", amounts.to_vec(), None)
    }

    #[test]
    fn gini_is_that_of_numpy() {
        // numpy 2.4: numpy.abs(x[:, None] - x[None, :]).sum() / (2 * len(x) ** 2 * x.mean()), the mean difference by its definition.
        for (amounts, right) in [
            (&[1, 2, 3, 4][..], 250_000),
            (&[0, 0, 0, 1], 750_000),
            (&[5, 1, 1, 1, 1, 1], 333_333),
            (&[50_000, 30_000, 20_000, 0, 0, 0, 0, 0], 700_000),
            (&[3, 14, 15, 92, 65, 35, 89, 79, 32, 38], 378_354),
            (&[1, 10, 100, 1_000, 10_000, 100_000], 796_298),
        ] {
            assert_eq!(of(amounts).gini_ppm, right, "{amounts:?}");
        }
    }

    #[test]
    fn laws_of_gini_hold() {
        let mut noise = crate::device::Noise::new(3);
        for n in [1, 2, 3, 10, 256] {
            assert_eq!(of(&vec![7; n]).gini_ppm, 0, "{n} hold the same");
            let mut one = vec![0; n];
            one[n / 2] = 1 << 79;
            assert_eq!(of(&one).gini_ppm, ((n as u32 - 1) * 1_000_000) / n as u32, "one of {n} holds everything");
            let amounts: Vec<u128> = (0..n).map(|_| u128::from(noise.below(1_000))).collect();
            let right = of(&amounts);
            let times = |factor: u128| of(&amounts.iter().map(|amount| amount * factor).collect::<Vec<_>>());
            assert_eq!(times(1 << 60), right, "the unit does not matter");
            assert_eq!(of(&amounts.iter().rev().copied().collect::<Vec<_>>()), right, "nor does the order");
            let twice = [amounts.clone(), amounts.clone()].concat();
            assert_eq!(of(&twice).gini_ppm, right.gini_ppm, "nor the number of people");
        }
        // From the largest to the smallest: less uneven.
        assert!(of(&[1, 2, 3, 10]).gini_ppm > of(&[2, 2, 3, 9]).gini_ppm, "a gift to the poorest");
    }

    #[test]
    fn nakamoto_counts_until_more_than_half_is_held() {
        for (amounts, right) in [
            (&[1, 1][..], 2),
            (&[2, 1], 1),
            (&[5, 3, 2], 2),
            (&[6, 3, 2], 1),
            (&[1; 10], 6),
            (&[1; 11], 6),
            (&[0, 0, 9], 1),
            (&[0, 0], 0),
            (&[], 0),
        ] {
            assert_eq!(of(amounts).nakamoto, right, "{amounts:?}");
        }
        let majority = |kappa| Concentration::new("votes", vec![5, 3, 2], Some(kappa)).majority;
        assert_eq!(majority(32_767), Some(1), "slightly less than a half is reached by a half");
        assert_eq!(majority(32_768), Some(2), "and slightly more is not");
        assert_eq!(majority(65_535), Some(3), "all");
    }

    #[test]
    fn the_largest_are_added_up() {
        let found = of(&[1, 1, 1, 1, 1, 5]);
        assert_eq!((found.of, found.holders), (6, 6), "everybody holds some");
        assert_eq!(found.largest, [(1, 500_000), (5, 900_000), (10, 1_000_000), (20, 1_000_000)], "in millionths");
        let nothing = of(&[0, 0]);
        assert_eq!((nothing.of, nothing.holders, nothing.gini_ppm), (2, 0, 0), "nothing is held");
        assert_eq!(nothing.largest, LARGEST.map(|k| (k, 0)), "by nobody");
    }
}
