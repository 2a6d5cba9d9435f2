//! From scores to a weight row without floats: u16 scores in, max-upscaled u16 weights out. What counts where the criteria declare no
//! stages.
#![deny(clippy::float_arithmetic)]

use crate::fixed::{I32F32, max_upscale_u16};

/// A miner's scores over a round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sum of the responses' scores in 65535ths.
    pub sum: u64,
    /// Prompts that the mean is over.
    pub prompts: u64,
}

impl Tally {
    /// The mean score in 65535ths, truncated to 32 fraction bits; 0 over no prompt.
    pub fn mean(self) -> I32F32 {
        let bits = (u128::from(self.sum) << I32F32::FRACTION_BITS).checked_div(u128::from(self.prompts)).unwrap_or(0);
        I32F32::from_bits(i64::try_from(bits).unwrap_or(i64::MAX))
    }
}

/// The weight row: mean scores upscaled so that the largest is 65535, as the chain stores it (YUMA §13.5).
pub fn row(tallies: &[Tally]) -> Vec<u16> {
    max_upscale_u16(&tallies.iter().map(|tally| tally.mean()).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_mean_gets_everything_and_the_rest_their_share() {
        let tally = |sum, prompts| Tally { sum, prompts };
        assert_eq!(row(&[tally(100, 10), tally(50, 10), tally(0, 10)]), [65_535, 32_768, 0], "means, not sums");
        assert_eq!(row(&[tally(100, 10), tally(10, 1)]), [65_535, 65_535], "equal means, equal weights");
        assert_eq!(row(&[tally(0, 5), tally(0, 0)]), [0, 0], "nothing earned, nothing paid");
        assert_eq!(row(&[]), Vec::<u16>::new(), "nobody");
    }

    #[test]
    fn a_million_prompts_do_not_overflow() {
        let tally = Tally { sum: 65_535 * 1_000_000, prompts: 1_000_000 };
        assert_eq!(tally.mean(), I32F32::from_u16(65_535), "the best mean");
    }
}
