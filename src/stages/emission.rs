//! Block emission by issuance, and how a subnet's share of it is split before the epoch (YUMA §13.1 and §13.2).
#![deny(clippy::float_arithmetic)]

use crate::fixed::U96F32;

/// The most that can ever be issued, in rao: 21 million TAO.
pub const TOTAL_SUPPLY: u64 = 21_000_000_000_000_000;

/// The emission of a block before the first halving, in rao: 1 TAO.
pub const FIRST_BLOCK_EMISSION: u64 = 1_000_000_000;

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
    let issued = U96F32::from_u64(issuance).safe_div(U96F32::from_u64(TOTAL_SUPPLY));
    let inverse = U96F32::ONE.safe_div(U96F32::ONE.saturating_sub(issued));
    // 1 / (1 - r) lies in 1 ..= 2^32, so its logarithm is the place of its highest bit above the fraction.
    let halvings = inverse.to_bits().checked_ilog2().unwrap_or(32).saturating_sub(32);
    let share = U96F32::from_bits(U96F32::ONE.to_bits() >> halvings);
    U96F32::from_u64(FIRST_BLOCK_EMISSION).saturating_mul(share).to_u64()
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
