//! Block emission by issuance and its schedule, and how a subnet's share of it is split around the epoch (YUMA §13.1 and §13.2).
#![deny(clippy::float_arithmetic)]

use crate::fixed::U96F32;

/// The most that can ever be issued, in rao: 21 million TAO.
pub const TOTAL_SUPPLY: u64 = 21_000_000_000_000_000;

/// The emission of a block before the first halving, in rao: 1 TAO.
pub const FIRST_BLOCK_EMISSION: u64 = 1_000_000_000;

/// Blocks of a day, one every 12 seconds.
pub const BLOCKS_A_DAY: u64 = 7_200;

/// What a hotkey keeps of its stakers' dividends unless it says otherwise, in 65535ths: about 18 %.
pub const DELEGATE_TAKE: u16 = 11_796;

/// The owner's cut on the chain, in 65535ths: about 18 %.
pub const OWNER_CUT: u16 = 11_796;

/// Emission of one block in rao, by what has been issued so far in rao.
///
/// ```text
/// r = issuance / 21e15
/// L = floor(log2(1 / (1 - r)))
/// emission = floor(10^9 / 2^L), and 0 from the total supply on
/// ```
///
/// It halves whenever half of what was left has been issued, first at 10.5e15 rao, and becomes 0 after the thirtieth halving. The
/// same function of a subnet's alpha issuance gives its alpha per block.
pub fn block_emission(issuance: u64) -> u64 {
    if issuance >= TOTAL_SUPPLY {
        return 0;
    }
    let share = U96F32::from_bits(U96F32::ONE.to_bits() >> halvings(issuance));
    U96F32::from_u64(FIRST_BLOCK_EMISSION).saturating_mul(share).to_u64()
}

/// How often a block's emission has been halved when so much has been issued, in rao: 0 to 32, the most also from the total supply on.
pub fn halvings(issuance: u64) -> u32 {
    let issued = U96F32::from_u64(issuance).safe_div(U96F32::from_u64(TOTAL_SUPPLY));
    let inverse = U96F32::ONE.safe_div(U96F32::ONE.saturating_sub(issued));
    // 1 / (1 - r) lies in 1 ..= 2^32, so its logarithm is the place of its highest bit above the fraction.
    inverse.to_bits().checked_ilog2().map_or(32, |place| place.saturating_sub(32))
}

/// The first issuance, in rao, at which the emission has been halved so often: `ceil(21e15 (1 - 2^-halvings))`.
pub fn halving_threshold(halvings: u32) -> u64 {
    TOTAL_SUPPLY - TOTAL_SUPPLY.checked_shr(halvings).unwrap_or(0)
}

/// Blocks that all emit the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// How often the emission has been halved.
    pub halvings: u32,
    /// What has been issued when the first of the blocks comes, in rao.
    pub issuance: u64,
    /// What each emits, in rao.
    pub emission: u64,
    /// How many they are.
    pub blocks: u64,
}

/// What is still to come from an issuance (rao) on, one period after the other until nothing is emitted any more.
///
/// Exact, as if every block's emission were added to the issuance: a period ends with the block that reaches the next threshold, and
/// the next begins with what that block left. What is recycled takes issuance back and puts all that follows off; that is not foreseen.
pub fn schedule(issuance: u64) -> impl Iterator<Item = Period> {
    let mut issuance = issuance;
    std::iter::from_fn(move || {
        let (emission, halvings) = (block_emission(issuance), halvings(issuance));
        let left = halving_threshold(halvings + 1).saturating_sub(issuance);
        let blocks = (emission > 0).then(|| left.div_ceil(emission))?;
        let period = Period { halvings, issuance, emission, blocks };
        issuance += period.blocks * emission;
        Some(period)
    })
}

/// A block's alpha of one subnet, split. All in rao; each part is floored, so together they are at most what went in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The subnet owner's cut.
    pub owner: u64,
    /// What miners earn through incentive.
    pub server: u64,
    /// What validators earn through dividends.
    pub validator: u64,
    /// What root stakers earn; recycled while the subnets' summed moving prices are not above 1.
    pub root: u64,
}

impl Split {
    /// Splits a block's alpha (rao), with the owner's cut in 65535ths (0 where it is off) and [`root_proportion`].
    ///
    /// ```text
    /// owner     = alpha * cut
    /// rest      = alpha - owner
    /// root      = root_proportion * rest / 2
    /// server    = rest / 2
    /// validator = rest - server - root
    /// ```
    pub fn new(alpha: u64, owner_cut: u16, root_proportion: U96F32) -> Self {
        let alpha = U96F32::from_u64(alpha);
        let cut = U96F32::from_u64(owner_cut.into()).safe_div(U96F32::from_u64(u16::MAX.into()));
        let owner = alpha.saturating_mul(cut);
        let rest = alpha.saturating_sub(owner);
        let root = root_proportion.saturating_mul(rest).saturating_mul(U96F32::HALF);
        let server = rest.saturating_mul(U96F32::HALF);
        let validator = rest.saturating_sub(root).saturating_sub(server);
        Self { owner: owner.to_u64(), server: server.to_u64(), validator: validator.to_u64(), root: root.to_u64() }
    }

    /// What the epoch distributes: server, validator and root together, in rao.
    pub fn pot(&self) -> u64 {
        self.server.saturating_add(self.validator).saturating_add(self.root)
    }
}

/// What a hotkey keeps of a dividend (rao) before its stakers get the rest, for a take in 65535ths.
pub fn take(dividend: u64, take: u16) -> u64 {
    let share = U96F32::from_u64(take.into()).safe_div(U96F32::from_u64(u16::MAX.into()));
    U96F32::from_u64(dividend).saturating_mul(share).to_u64()
}

/// The share of validators' alpha that belongs to root stakers, in 0 ..= 1.
///
/// `T / (T + alpha_issuance)` with `T = root_tao * tao_weight / (2^64 - 1)`; stakes and issuance in rao.
pub fn root_proportion(root_tao: u64, tao_weight: u64, alpha_issuance: u64) -> U96F32 {
    let weight = U96F32::from_u64(tao_weight).safe_div(U96F32::from_u64(u64::MAX));
    let weighted = U96F32::from_u64(root_tao).saturating_mul(weight);
    weighted.safe_div(weighted.saturating_add(U96F32::from_u64(alpha_issuance)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_never_gives_more_than_it_got() {
        for alpha in [0, 1, 2, 7, 999_999_999, FIRST_BLOCK_EMISSION, u64::MAX] {
            for cut in [0, 1, OWNER_CUT, u16::MAX] {
                for issuance in [0, 1, 1_000_000_000_000, u64::MAX] {
                    let proportion = root_proportion(5_000_000_000_000_000, 971_718_665_099_567_868, issuance);
                    assert!(proportion <= U96F32::ONE, "a proportion above 1");
                    let split = Split::new(alpha, cut, proportion);
                    let total = u128::from(split.owner) + u128::from(split.pot());
                    assert!(total <= u128::from(alpha), "{split:?} of {alpha}");
                    assert!(total + 4 > u128::from(alpha), "{split:?} of {alpha} lost more than dust");
                }
            }
        }
    }

    #[test]
    fn thresholds_are_where_the_emission_changes() {
        for times in 0..=30 {
            let threshold = halving_threshold(times);
            assert_eq!(halvings(threshold), times, "from {threshold} on");
            if let Some(before) = threshold.checked_sub(1) {
                assert_eq!(halvings(before), times - 1, "until {before}");
            }
        }
        assert_eq!(halvings(u64::MAX), 32, "all of it issued");
    }

    #[test]
    fn the_schedule_is_what_adding_block_by_block_gives() {
        // Where periods are short enough to walk through.
        for start in [20_999_999_374_151_229, 20_999_999_687_000_003, 20_999_999_960_884_452, 20_999_999_980_442_225] {
            let (mut issuance, mut emission, mut blocks) = (start, block_emission(start), 0);
            let mut walked = Vec::new();
            let mut first = start;
            while emission > 0 {
                issuance += emission;
                blocks += 1;
                if block_emission(issuance) != emission {
                    walked.push(Period { halvings: halvings(first), issuance: first, emission, blocks });
                    (first, emission, blocks) = (issuance, block_emission(issuance), 0);
                }
            }
            assert_eq!(schedule(start).collect::<Vec<_>>(), walked, "from {start}");
        }
        for nothing in [20_999_999_980_442_226, TOTAL_SUPPLY - 1, TOTAL_SUPPLY, u64::MAX] {
            assert_eq!(schedule(nothing).count(), 0, "nothing is left at {nothing}");
        }
    }

    #[test]
    fn a_take_is_floored() {
        assert_eq!(take(1_000_000_000, DELEGATE_TAKE), 179_995_422, "as the owner's cut");
        assert_eq!((take(7, 0), take(7, u16::MAX), take(u64::MAX, u16::MAX)), (0, 7, u64::MAX), "none and all");
    }

    #[test]
    fn a_block_at_the_default_cut() {
        // By hand: cut = floor(11796 * 2^32 / 65535) / 2^32; owner = floor(1e9 * cut) = 179995422; half of the rest each.
        let split = Split::new(FIRST_BLOCK_EMISSION, OWNER_CUT, U96F32::ZERO);
        assert_eq!(
            split,
            Split { owner: 179_995_422, server: 410_002_288, validator: 410_002_288, root: 0 },
            "default split"
        );
    }
}
