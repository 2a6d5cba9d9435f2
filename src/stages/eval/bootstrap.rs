//! How sure a figure is: the bootstrap over prompts, which asks what other prompts would have given.

use rayon::prelude::*;
use serde::Serialize;

use crate::device::Noise;

/// A figure, and between which bounds 95 % of the resamples put it. `None` where it is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Of the prompts as they are.
    pub value: Option<f64>,
    /// The 2.5th percentile of the resamples in which it is defined.
    pub low: Option<f64>,
    /// The 97.5th.
    pub high: Option<f64>,
}

impl Estimate {
    /// Of the figure, and of what each resample gave for it.
    pub fn new(value: Option<f64>, resamples: impl IntoIterator<Item = Option<f64>>) -> Self {
        let mut defined: Vec<f64> = resamples.into_iter().flatten().collect();
        defined.sort_unstable_by(f64::total_cmp);
        Self { value, low: quantile(&defined, 0.025), high: quantile(&defined, 0.975) }
    }

    /// Whether the interval holds numbers of one sign only, and not 0.
    pub fn has_a_sign(&self) -> bool {
        self.low.is_some_and(|low| low > 0.0) || self.high.is_some_and(|high| high < 0.0)
    }
}

/// The `share` quantile (0 to 1) of ascending numbers, between two of them in proportion, as `numpy.quantile`; `None` of no number.
pub fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let place = share * ascending.len().checked_sub(1)? as f64;
    let (below, part) = (place.floor(), place.fract());
    let low = *ascending.get(below as usize)?;
    let high = *ascending.get(below as usize + 1).unwrap_or(&low);
    // numpy comes from the nearer side.
    Some(if part < 0.5 { low + (high - low) * part } else { high - (high - low) * (1.0 - part) })
}

/// Draws of all prompts with replacement: how often each draw holds each prompt. The same for the same numbers.
#[derive(Clone, Debug)]
pub struct Resamples {
    prompts: usize,
    /// [draws, prompts].
    counts: Vec<u32>,
}

impl Resamples {
    /// As many draws of `prompts` prompts (at least one).
    pub fn new(prompts: usize, draws: usize) -> Self {
        let mut noise = Noise::new(1);
        let mut counts = vec![0; draws * prompts];
        for draw in counts.chunks_exact_mut(prompts) {
            for _ in 0..prompts {
                draw[noise.below(prompts as u32) as usize] += 1;
            }
        }
        Self { prompts, counts }
    }

    /// What `statistic` says of each draw, given how often it holds each prompt.
    pub fn map<T: Send>(&self, statistic: impl Fn(&[u32]) -> T + Sync) -> Vec<T> {
        self.counts.par_chunks_exact(self.prompts).map(&statistic).collect()
    }

    /// What `statistic` says of the prompts as they are, with the interval.
    pub fn estimate(&self, statistic: impl Fn(&[u32]) -> Option<f64> + Sync) -> Estimate {
        Estimate::new(statistic(&vec![1; self.prompts]), self.map(&statistic))
    }
}

/// A number for each miner and prompt, NaN where there is none.
#[derive(Clone, Debug)]
pub struct Table {
    prompts: usize,
    /// [miners, prompts].
    values: Vec<f64>,
}

impl Table {
    /// A table with the same number everywhere.
    pub fn new(miners: usize, prompts: usize, value: f64) -> Self {
        Self { prompts, values: vec![value; miners * prompts] }
    }

    /// Puts a number to a miner and a prompt.
    pub fn set(&mut self, miner: usize, prompt: usize, value: f64) {
        self.values[miner * self.prompts + prompt] = value;
    }

    /// Each miner's mean over the prompts for which he has a number, each prompt as often as `counts` says; NaN where that is none.
    fn means(&self, counts: &[u32]) -> Vec<f64> {
        let mean = |row: &[f64]| {
            let (mut sum, mut total) = (0.0, 0_u64);
            for (value, count) in row.iter().zip(counts).filter(|(value, _)| !value.is_nan()) {
                sum += value * f64::from(*count);
                total += u64::from(*count);
            }
            sum / total as f64
        };
        self.values.chunks_exact(self.prompts).map(mean).collect()
    }

    /// Each miner's mean, over the prompts as they are and over each draw.
    pub fn resample(&self, resamples: &Resamples) -> Resampled {
        Resampled { value: self.means(&vec![1; self.prompts]), draws: resamples.map(|counts| self.means(counts)) }
    }
}

/// The means of a [`Table`]'s miners.
#[derive(Clone, Debug)]
pub struct Resampled {
    /// Over the prompts as they are, a number for each miner.
    pub value: Vec<f64>,
    /// Over each draw, likewise. NaN where a draw holds no prompt that the miner has a number for.
    pub draws: Vec<Vec<f64>>,
}

impl Resampled {
    /// What `statistic` says of the miners' means, with the interval. A draw in which a miner has no mean has no say.
    pub fn estimate(&self, statistic: impl Fn(&[f64]) -> Option<f64> + Sync) -> Estimate {
        self.estimate_with(self, |means, _| statistic(means))
    }

    /// What `statistic` says of these means and of the same draws' means of another table, with the interval.
    pub fn estimate_with(&self, other: &Self, statistic: impl Fn(&[f64], &[f64]) -> Option<f64> + Sync) -> Estimate {
        let defined = |means: &[f64]| means.iter().all(|mean| !mean.is_nan());
        let say =
            |own: &[f64], other: &[f64]| (defined(own) && defined(other)).then(|| statistic(own, other)).flatten();
        let draws: Vec<_> = self.draws.par_iter().zip(&other.draws).map(|(own, other)| say(own, other)).collect();
        Estimate::new(say(&self.value, &other.value), draws)
    }

    /// The standard error of a miner's mean: the standard deviation of the draws that have one; 0 of fewer than two.
    pub fn standard_error(&self, miner: usize) -> f64 {
        let means: Vec<f64> = self.draws.iter().map(|means| means[miner]).filter(|mean| !mean.is_nan()).collect();
        if means.len() < 2 {
            return 0.0;
        }
        let middle = means.iter().sum::<f64>() / means.len() as f64;
        let squares: f64 = means.iter().map(|mean| (mean - middle).powi(2)).sum();
        (squares / (means.len() - 1) as f64).sqrt()
    }
}

/// Each miner's mean over as many random prompts as `size` says, drawn without replacement, `draws` times over. The same for the same
/// numbers; `size` is at most the number of prompts.
pub fn subset_means(table: &Table, size: usize, draws: usize) -> Vec<Vec<f64>> {
    let mut noise = Noise::new(size as u64);
    let mut order: Vec<usize> = (0..table.prompts).collect();
    let subsets: Vec<Vec<u32>> = (0..draws)
        .map(|_| {
            let mut counts = vec![0; table.prompts];
            for at in 0..size {
                let other = at + noise.below((order.len() - at) as u32) as usize;
                order.swap(at, other);
                counts[order[at]] = 1;
            }
            counts
        })
        .collect();
    subsets.par_iter().map(|counts| table.means(counts)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `numpy.quantile` 2.4.6.
    #[test]
    fn quantiles_are_numpys() {
        let squares: Vec<f64> = (0..1000_u32).map(|i| f64::from(i * i) / 7.0).collect();
        let cases: [(&[f64], [f64; 6]); 4] = [
            (&[1.0], [1.0; 6]),
            (&[1.0, 2.0], [1.0, 1.025, 1.5, 1.7, 1.975, 2.0]),
            (&[-4.5, 0.1, 0.2, 0.7, 11.0], [-4.5, -4.04, 0.2, 0.5999999999999999, 9.969999999999999, 11.0]),
            (
                &squares,
                [0.0, 89.1107142857143, 35642.92857142857, 69860.09999999999, 135532.10357142857, 142571.57142857142],
            ),
        ];
        for (numbers, expected) in cases {
            for (share, expected) in [0.0, 0.025, 0.5, 0.7, 0.975, 1.0].into_iter().zip(expected) {
                let found = quantile(numbers, share).expect("numbers");
                assert!((found - expected).abs() <= 1e-15 * expected.abs(), "{share}: {found}, numpy has {expected}");
            }
        }
        assert_eq!(quantile(&[], 0.5), None, "of nothing");
    }

    /// Expected values are those of `numpy.nanmean` over repeated columns.
    #[test]
    fn means_are_over_what_there_is() {
        let nan = f64::NAN;
        let table = Table { prompts: 4, values: vec![1.0, nan, 3.0, 5.0, 0.5, 0.25, nan, nan] };
        for (counts, expected) in [([1, 1, 1, 1], [3.0, 0.375]), ([2, 0, 1, 1], [2.5, 0.5])] {
            assert_eq!(table.means(&counts), expected, "{counts:?}");
        }
        let found = table.means(&[0, 0, 3, 1]);
        assert!(found[0] == 3.5 && found[1].is_nan(), "he answered none of these: {found:?}");
    }

    /// For a mean the bootstrap is known in closed form: the standard error is that of the sample with n in the place of n - 1.
    #[test]
    fn the_bootstrap_of_a_mean_is_that_of_the_formula() {
        let (prompts, mut table) = (50, Table::new(2, 50, 0.0));
        for prompt in 0..prompts {
            table.set(0, prompt, (prompt * prompt % 17) as f64);
            table.set(1, prompt, 4.0);
        }
        let means = table.resample(&Resamples::new(prompts, 4000));
        let squares = table.values[..prompts].iter().map(|value| (value - means.value[0]).powi(2)).sum::<f64>();
        let expected = (squares / prompts as f64).sqrt() / (prompts as f64).sqrt();
        let found = means.standard_error(0);
        assert!((found / expected - 1.0).abs() < 0.05, "{found} where the formula has {expected}");
        assert_eq!(means.standard_error(1), 0.0, "all the same");
        let estimate = means.estimate(|means| Some(means[0]));
        for (bound, sign) in [(estimate.low, -1.0), (estimate.high, 1.0)] {
            let distance = (bound.expect("a bound") - means.value[0]) * sign / expected;
            assert!((1.8..2.1).contains(&distance), "{distance} standard errors away");
        }
        assert!(estimate.has_a_sign(), "{estimate:?}");
        assert!(!means.estimate(|means| Some(means[0] - means[0])).has_a_sign(), "nothing but 0 has none");
        let difference = means.estimate_with(&means, |own, other| Some(own[0] - other[0]));
        assert_eq!(difference, Estimate { value: Some(0.0), low: Some(0.0), high: Some(0.0) }, "the same draws");
    }

    #[test]
    fn a_draw_without_a_mean_has_no_say() {
        let mut table = Table::new(2, 3, 1.0);
        table.set(0, 0, f64::NAN);
        table.set(0, 1, f64::NAN);
        let means = table.resample(&Resamples::new(3, 100));
        let missing = means.draws.iter().filter(|means| means[0].is_nan()).count();
        assert!((10..50).contains(&missing), "about 8 of 27 draws miss the one prompt: {missing}");
        let estimate = means.estimate(|means| Some(means[0] + means[1]));
        assert_eq!(estimate, Estimate { value: Some(2.0), low: Some(2.0), high: Some(2.0) }, "the others have");
    }

    #[test]
    fn draws_are_fair_and_always_the_same() {
        let (prompts, draws) = (20, 1000);
        let resamples = Resamples::new(prompts, draws);
        assert_eq!(resamples.counts, Resamples::new(prompts, draws).counts, "the same");
        assert!(
            resamples.map(|counts| counts.iter().sum::<u32>()).iter().all(|sum| *sum == 20),
            "as many as there are"
        );
        for prompt in 0..prompts {
            let total: u32 = resamples.map(|counts| counts[prompt]).iter().sum();
            assert!((850..1150).contains(&total), "prompt {prompt} was drawn {total} times, not about 1000");
        }
        let mut table = Table::new(1, prompts, 0.0);
        table.set(0, 7, 1.0);
        for size in [1, 5, 20] {
            let means = subset_means(&table, size, draws);
            let holding = means.iter().filter(|means| (means[0] - (size as f64).recip()).abs() < 1e-12).count();
            let expected = draws * size / prompts;
            assert!(holding.abs_diff(expected) < 60, "{holding} of {draws} hold the prompt, not about {expected}");
            assert!(means.iter().all(|means| means[0] == 0.0 || means[0] >= 0.05), "each once");
        }
    }
}
