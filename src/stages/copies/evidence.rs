//! How surely one answer is a copy of another, in integers.
//!
//! Of shingles that two answers share each counts by how rare it is: `log2((n - 1) / (d - 2 + 1/2))` bits, if `d` of the prompt's `n`
//! answers have it, the two among them. That is how surprising it would be in another author's answer. Words of the prompt and of its
//! reference tell nothing. What the pair shares, as a share of the one of the two that has less to say, is held against the
//! *usual* share: the upper median of what either shares with the others. So
//!
//! ```text
//! evidence = (bits shared + bits of what is known of the pair) * ((share - usual) / (1 - usual))^2
//! ```
//!
//! Bits are counted in 256ths, shares in 65536ths.
#![deny(clippy::float_arithmetic)]

/// A bit.
pub(super) const BIT: u64 = 256;

/// A share of all.
pub(super) const ALL: u64 = 1 << 16;

/// The usual share is at most a quarter: however many copy one text, what is made of it shares more.
const MOST_USUAL: u64 = ALL / 4;

/// A copy that somebody makes of each of another's answers counts this much more than one of a pair of strangers, before
/// the texts are looked at: ten bits.
const FAMILIAR: u64 = 1000;

/// The most that [`familiarity`] gives.
pub(super) const MOST_FAMILIAR: u64 = 10 * BIT;

/// log2(numerator / denominator) in 256ths, rounded down; 0 where that is negative. Both are above 0, and below 2^47.
pub(super) fn log2(numerator: u64, denominator: u64) -> u64 {
    if numerator <= denominator {
        return 0;
    }
    // A number in [1, 2) with 16 bits behind the point, squared for one bit of the logarithm at a time.
    let ratio = (numerator << 16) / denominator;
    let whole = u64::from(ratio.ilog2()) - 16;
    let (mut logarithm, mut rest) = (whole, ratio >> whole);
    for _ in 0..8 {
        rest = (rest * rest) >> 16;
        logarithm <<= 1;
        if rest >= 2 << 16 {
            rest >>= 1;
            logarithm |= 1;
        }
    }
    logarithm
}

/// What a shingle tells that `holders` of `answers` have, two of which are looked at.
pub(super) fn weight(answers: u64, holders: u64) -> u64 {
    log2(2 * answers.saturating_sub(1), 2 * holders.saturating_sub(2) + 1)
}

/// `part` of `whole`; none of nothing.
pub(super) fn share(part: u64, whole: u64) -> u64 {
    (part * ALL).checked_div(whole).unwrap_or(0).min(ALL)
}

/// Shares with the others in ascending order, and the one of them that is left out: the upper median of the rest.
pub(super) fn usual(ascending: &[u64], left_out: u64) -> u64 {
    let Some(rest) = ascending.len().checked_sub(1).filter(|rest| *rest > 0) else { return 0 };
    let median = ascending[rest / 2];
    if left_out <= median { ascending[rest / 2 + 1] } else { median }
}

/// The square of how far a share lies between the usual one and all.
pub(super) fn unusual(share: u64, usual: u64) -> u64 {
    let usual = usual.min(MOST_USUAL);
    let beyond = share.saturating_sub(usual) * ALL / (ALL - usual);
    beyond * beyond / ALL
}

/// What is known of a pair by its other prompts: on `copied` of `prompts` one copied the other.
pub(super) fn familiarity(copied: u64, prompts: u64) -> u64 {
    if prompts == 0 { 0 } else { log2(prompts + FAMILIAR * copied, prompts).min(MOST_FAMILIAR) }
}

/// Evidence of what two answers share by one kind of shingle.
pub(super) fn evidence(bits: u64, familiarity: u64, unusual: u64) -> u64 {
    if bits == 0 { 0 } else { (bits + familiarity) * unusual / ALL }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are floor(256 * log2(n / d)) by Python's `math.log2`, give or take the last bit.
    #[test]
    fn logarithms_are_logarithms() {
        for (numerator, denominator, expected) in [
            (1, 1, 0),
            (1, 2, 0),
            (2, 1, 256),
            (3, 1, 405),
            (10, 3, 444),
            (94, 1, 1677),
            (1001, 1, 2551),
            (1 << 40, 3, 9834),
        ] {
            let found = log2(numerator, denominator);
            assert!(found.abs_diff(expected) <= 1, "{numerator} / {denominator}: {found} where {expected} is right");
        }
        for number in 2..2000 {
            assert!(log2(number, 1) >= log2(number - 1, 1), "{number}");
        }
    }

    #[test]
    fn rare_shingles_weigh_more() {
        assert_eq!(weight(48, 1), weight(48, 2));
        assert!(weight(48, 2) > weight(48, 3) && weight(48, 30) > 0);
        assert_eq!(weight(48, 48), log2(94, 93));
        assert_eq!([weight(0, 0), weight(1, 1)], [0, 0]);
        assert_eq!(weight(2, 2), BIT);
    }

    #[test]
    fn the_usual_is_the_upper_median_of_the_others() {
        assert_eq!(usual(&[], 0), 0);
        assert_eq!(usual(&[5], 5), 0, "nobody else");
        assert_eq!(usual(&[1, 9], 9), 1);
        assert_eq!(usual(&[1, 9], 1), 9);
        assert_eq!(usual(&[1, 2, 3], 2), 3, "the upper one of 1 and 3");
        assert_eq!(usual(&[1, 2, 3, 4], 1), 3);
        assert_eq!(usual(&[1, 2, 3, 4], 4), 2);
        assert_eq!(usual(&[7, 7, 7, 7], 7), 7);
    }

    #[test]
    fn shares_count_by_what_is_unusual_of_them() {
        assert_eq!(unusual(ALL, 0), ALL);
        assert_eq!(unusual(ALL, ALL), ALL, "all is more than usual, whatever is usual");
        assert_eq!(unusual(ALL / 2, 0), ALL / 4);
        assert_eq!(unusual(ALL / 4, ALL / 4), 0);
        assert_eq!(unusual(ALL * 5 / 8, ALL / 2), ALL / 4, "no more than a quarter is usual");
        assert_eq!([share(1, 0), share(1, 2), share(3, 2)], [0, ALL / 2, ALL]);
        assert_eq!(evidence(0, 100, ALL), 0);
        assert_eq!(familiarity(0, 9), 0);
        assert_eq!(familiarity(9, 9), log2(1001, 1));
        assert_eq!(familiarity(1, 0), 0);
    }
}
