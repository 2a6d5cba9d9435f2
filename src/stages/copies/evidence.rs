//! How surely one answer is a copy of another, in integers.
//!
//! Of shingles that two answers share each counts by how rare it is: `log2((n - 1) / (d - 2 + 1/2))` bits, 6 at most, if `d` of the prompt's
//! `n` answers have it, the two among them. That is how surprising it would be in another author's answer. Words of the prompt and of its
//! reference tell nothing. From the sum goes what the search costs: among `n` answers one that is like this is found by chance the more often
//! the more there are, `log2(2 (n - 1))` bits.
//!
//! What the pair shares, as a share of the one of the two that has less to say, but of an eighth of the source at least (a dictionary is
//! nobody's source), is held against the *usual* share: the upper median of what either shares with the others. So
//!
//! ```text
//! evidence = (bits shared - bits of the search + bits of what is known of the pair) * ((share - usual) / (1 - usual))^2
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

/// The most that one shingle tells, however many answers there are: it overlaps with the next one, and a phrase goes on as phrases do.
const MOST_TOLD: u64 = 6 * BIT;

/// What a shingle tells that `holders` of `answers` have, two of which are looked at.
pub(super) fn weight(answers: u64, holders: u64) -> u64 {
    log2(2 * answers.saturating_sub(1), 2 * holders.saturating_sub(2) + 1).min(MOST_TOLD)
}

/// What is left of the bits that a pair shares when the search among `answers` is paid for.
pub(super) fn found(bits: u64, answers: u64) -> u64 {
    bits.saturating_sub(log2(2 * answers.saturating_sub(1), 1))
}

/// `part` of `whole`; none of nothing.
pub(super) fn share(part: u64, whole: u64) -> u64 {
    (part * ALL).checked_div(whole).unwrap_or(0).min(ALL)
}

/// The share of its source that a copy has at least to be, to count in full: an eighth.
const LEAST_OF_SOURCE: u64 = 8;

/// What a copy shares with its source, of what the poorer of both has, but of a part of the source at least.
pub(super) fn share_of(part: u64, copy: u64, source: u64) -> u64 {
    share(part, copy.min(source).max(source / LEAST_OF_SOURCE))
}

/// The upper median of an answer's shares with the others, in ascending order, one of which may be left out.
pub(super) fn usual(ascending: &[u64], left_out: Option<u64>) -> u64 {
    let Some(left_out) = left_out else { return ascending.get(ascending.len() / 2).copied().unwrap_or(0) };
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
        assert_eq!(weight(1 << 20, 2), MOST_TOLD);
        assert_eq!([found(10 * BIT, 33), found(5 * BIT, 33)], [4 * BIT, 0], "32 others, and half of one");
    }

    #[test]
    fn the_usual_is_the_upper_median_of_the_others() {
        assert_eq!(usual(&[], Some(0)), 0);
        assert_eq!(usual(&[5], Some(5)), 0, "nobody else");
        assert_eq!(usual(&[1, 9], Some(9)), 1);
        assert_eq!(usual(&[1, 9], Some(1)), 9);
        assert_eq!(usual(&[1, 2, 3], Some(2)), 3, "the upper one of 1 and 3");
        assert_eq!(usual(&[1, 2, 3, 4], Some(1)), 3);
        assert_eq!(usual(&[1, 2, 3, 4], Some(4)), 2);
        assert_eq!(usual(&[7, 7, 7, 7], Some(7)), 7);
        assert_eq!([usual(&[1, 2, 3], None), usual(&[1, 2], None), usual(&[], None)], [2, 2, 0], "all of them");
    }

    #[test]
    fn shares_count_by_what_is_unusual_of_them() {
        assert_eq!(unusual(ALL, 0), ALL);
        assert_eq!(unusual(ALL, ALL), ALL, "all is more than usual, whatever is usual");
        assert_eq!(unusual(ALL / 2, 0), ALL / 4);
        assert_eq!(unusual(ALL / 4, ALL / 4), 0);
        assert_eq!(unusual(ALL * 5 / 8, ALL / 2), ALL / 4, "no more than a quarter is usual");
        assert_eq!([share(1, 0), share(1, 2), share(3, 2)], [0, ALL / 2, ALL]);
        assert_eq!(share_of(8, 8, 64), ALL, "a part of its source");
        assert_eq!(share_of(8, 8, 128), ALL / 2, "a dictionary is nobody's source");
        assert_eq!(share_of(8, 128, 8), ALL, "however much is put around it");
        assert_eq!(evidence(0, 100, ALL), 0);
        assert_eq!(familiarity(0, 9), 0);
        assert_eq!(familiarity(9, 9), log2(1001, 1));
        assert_eq!(familiarity(1, 0), 0);
    }
}
