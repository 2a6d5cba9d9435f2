//! The operations that the encoder in integers is made of. Each gives the same bits on every machine; sums may run in any order.
//!
//! The same in WGSL: `shaders/shared/exact.wgsl`. Where a model other than a checked one could pass the ranges given here, numbers wrap as
//! they do there, so that the bits still agree and nothing panics.
#![deny(clippy::float_arithmetic)]

/// The largest magnitude of an input to a matrix product, 127 * 64: it splits into two signed numbers of 7 bits.
pub const LIMIT_14: u32 = 8128;
/// The largest magnitude of a query or key as attention multiplies it.
pub const LIMIT_8: u32 = 127;
/// Entries of the GELU table.
pub const GELU_ENTRIES: usize = 514;

/// The number of significant bits, 0 for 0.
#[inline(always)]
pub fn bit_length(x: u32) -> u32 {
    32 - x.leading_zeros()
}

/// `x / 2^shift`, halves rounded up, for `shift` from 0 to 31.
#[inline(always)]
pub fn round_shift(x: i32, shift: u32) -> i32 {
    // Half a unit is not added to x, which would leave i32 where x is near its end: a unit row comes there.
    let half = (1_u32 << shift) >> 1;
    (x >> shift) + i32::from(x as u32 & half != 0)
}

/// `a * m / 2^shift`, halves rounded up, for `shift` from 1 to 63: the low 32 bits of the exact result.
#[inline(always)]
pub fn multiply_shift(a: i32, m: u32, shift: u32) -> i32 {
    round_product(i64::from(a) * i64::from(m), shift)
}

/// The low 32 bits of a product divided by 2^shift, halves rounded up, for `shift` from 1 to 63.
#[inline(always)]
fn round_product(product: i64, shift: u32) -> i32 {
    // It is below 2^63, and half a unit more wraps as it does in two words.
    (product.wrapping_add(1 << (shift - 1)) >> shift) as i32
}

/// The integer square root, rounded down.
#[inline(always)]
pub fn square_root(m: u32) -> u32 {
    let mut root = 0;
    let mut bit = 1 << 15;
    while bit > 0 {
        let candidate = root | bit;
        // candidate < 2^16
        if candidate * candidate <= m {
            root = candidate;
        }
        bit >>= 1;
    }
    root
}

/// What brings numbers of a row to 16 bits: `x / 2^down` rounded, or `x * 2^up`. From the row's largest magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaling {
    down: u32,
    up: u32,
}

impl Scaling {
    /// For a row whose largest magnitude is `largest`.
    #[inline(always)]
    pub fn new(largest: u32) -> Self {
        let bits = bit_length(largest);
        Self { down: bits.saturating_sub(15), up: 15_u32.saturating_sub(bits) }
    }

    /// `x`, scaled and cut to 15 bits and a sign.
    #[inline(always)]
    pub fn apply(self, x: i32) -> i32 {
        (round_shift(x, self.down) << self.up).clamp(-32_767, 32_767)
    }
}

/// The reciprocal length of a scaled row: `factor * 2^-(31 + exponent)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reciprocal {
    /// At most 65,535, so that its product with a scaled number fits i32.
    pub factor: i32,
    /// From -1 on: 4 for 512 numbers, 5 for more.
    pub exponent: i32,
}

impl Reciprocal {
    /// From the sum of squares of a row's scaled numbers, which is at least 2^28, or 0 for a row of zeros, and below 2^47.
    #[inline(always)]
    pub fn new(squares: u64) -> Self {
        if squares == 0 {
            return Self { factor: 0, exponent: 0 };
        }
        let exponent = (33 - squares.leading_zeros() as i32) >> 1;
        // In [2^30, 2^32).
        let scaled = if exponent < 0 { squares << 2 } else { squares >> (2 * exponent) };
        let root = square_root(scaled as u32);
        Self { factor: ((1_u32 << 31) / root.max(1)).min(65_535) as i32, exponent }
    }
}

/// The mean, rounded as its definition says: the floor of `sum / count` plus a half.
#[inline(always)]
pub fn mean(sum: i32, count: i32) -> i32 {
    sum.wrapping_add(count / 2).div_euclid(count)
}

/// One number of a norm: `scaled` (by [`Scaling`]) times the reciprocal length, times `gain`, plus `bias`.
#[inline(always)]
pub fn gained(scaled: i32, reciprocal: Reciprocal, gain: i32, bias: i32) -> i32 {
    // |scaled * factor| <= 32,767 * 65,535 < 2^31. The definition turns both signs where the gain is negative, which is the same product.
    let product = i64::from(scaled * reciprocal.factor) * i64::from(gain);
    round_product(product, (32 + reciprocal.exponent) as u32).wrapping_add(bias)
}

/// One number of a unit row, Q15.
#[inline(always)]
pub fn unit(scaled: i32, reciprocal: Reciprocal) -> i16 {
    // The product is as in `gained`. 2^15 comes only from a row with a single number other than zero; i16 ends below it.
    round_shift(scaled * reciprocal.factor, (16 + reciprocal.exponent) as u32).clamp(-32_768, 32_767) as i16
}

/// A step for numbers of magnitude up to `largest`, and its reciprocal, so that they fit `limit` steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub size: u32,
    inverse: i32,
    bits: u32,
}

impl Step {
    /// For inputs of matrix products: up to [`LIMIT_14`] steps.
    #[inline(always)]
    pub fn of_14(largest: u32) -> Self {
        Self::new(largest, LIMIT_14, 18)
    }

    /// For queries and keys: up to [`LIMIT_8`] steps.
    #[inline(always)]
    pub fn of_8(largest: u32) -> Self {
        Self::new(largest, LIMIT_8, 24)
    }

    #[inline(always)]
    fn new(largest: u32, limit: u32, bits: u32) -> Self {
        let size = largest.div_ceil(limit).max(1);
        Self { size, inverse: ((1 << bits) / size) as i32, bits }
    }

    /// How many steps `x` is, rounded. No magnitude above the one that the step was made for.
    #[inline(always)]
    pub fn count(self, x: i32) -> i32 {
        // |x| <= limit * size, so |x * inverse| <= limit * 2^bits < 2^31.
        round_shift(x.wrapping_mul(self.inverse), self.bits)
    }
}

/// The largest magnitude in a row.
#[inline(always)]
pub fn largest(row: &[i32]) -> u32 {
    row.iter().fold(0, |largest, x| x.unsigned_abs().max(largest))
}

/// 65,536 * 2^-`distance`, with `distance` in 65,536ths; at most 65,535, off by less than 2.7e-5 of the whole, and 0 from a distance of 16 on.
#[inline(always)]
pub fn exp2(distance: u32) -> u32 {
    let x = distance & 0xffff;
    let mut t = 452;
    for constant in [3491, 15_687, 45_415, 65_535] {
        // It has 16 bits; said so, vectors multiply with an instruction for numbers of 16 bits.
        t = (constant - ((x * t) >> 16)) & 0xffff;
    }
    t >> (distance >> 16).min(31)
}

/// The attention score of a query and a key: their product times both steps, Q16, in powers of two. That is [`multiply_shift`] by 14,
/// from parts of 7 bits, for products below 2^24.
#[inline(always)]
pub fn score(product: i32, query_step: u32, key_step: u32) -> i32 {
    let steps = query_step.wrapping_mul(key_step);
    let (upper, lower) = (((steps >> 7) & 127) as i32, (steps & 127) as i32);
    let below = (product * upper + ((product * lower + 8192) >> 7)) >> 7;
    product.wrapping_mul((steps >> 14) as i32).wrapping_add(below)
}

/// What turns [`exp2`] of scores into weights that sum to about 32,768.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    inverse: u32,
    shift: u32,
}

impl Share {
    /// From the sum over a query's keys, which is at least 65,535: the largest score gives that alone.
    #[inline(always)]
    pub fn new(sum: u32) -> Self {
        let bits = bit_length(sum).max(16);
        Self { inverse: (1 << 31) / (sum >> (bits - 16)).max(1 << 15), shift: bits - 1 }
    }

    /// One weight, Q15.
    #[inline(always)]
    pub fn of(self, exponential: u32) -> i32 {
        // exponential <= 65,535 and inverse <= 65,536.
        ((((exponential * self.inverse) >> self.shift) + 1) >> 1).min(32_767) as i32
    }
}

/// GELU of a Q15 number, by a table of what it lacks to `max(u, 0)`; off by less than 5.1e-5. `look` gives an entry below
/// [`GELU_ENTRIES`] - 1 and the rise from it to the next one.
#[inline(always)]
pub fn gelu(u: i32, look: impl Fn(usize) -> (i32, i32)) -> i32 {
    let a = u.unsigned_abs().min((1 << 18) - 1);
    let (entry, between) = ((a >> 9) as usize, (a & 511) as i32);
    let (lack, rise) = look(entry);
    let lack = lack.wrapping_add(rise.wrapping_mul(between).wrapping_add(256) >> 9);
    u.max(0).wrapping_sub(lack)
}

/// Splits an input of a matrix product into `128 * high + low`, both within [-64, 64].
#[inline(always)]
pub fn split(a: i32) -> (i8, i8) {
    let high = (a + 64) >> 7;
    (high as i8, (a - 128 * high) as i8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Noise;

    #[test]
    fn rounding_is_half_up_on_both_sides_of_zero() {
        for (x, shift, right) in [(3, 1, 2), (-3, 1, -1), (-1, 1, 0), (5, 2, 1), (6, 2, 2), (-6, 2, -1), (-7, 0, -7)] {
            assert_eq!(round_shift(x, shift), right, "{x} >> {shift}");
        }
        for x in [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX - 1, i32::MAX, 2_147_385_345, -2_147_385_345] {
            for shift in 0..32 {
                let right = (i64::from(x) + (1_i64 << shift >> 1)) >> shift;
                assert_eq!(i64::from(round_shift(x, shift)), right, "{x} >> {shift}, at the ends of 32 bits");
            }
        }
    }

    #[test]
    fn products_equal_those_in_128_bits() {
        let mut noise = Noise::new(1);
        for _ in 0..20_000 {
            let a = (noise.bits() as i32) >> noise.below(31);
            let m = noise.bits() >> noise.below(31);
            let shift = 1 + noise.below(62);
            let exact = (i128::from(a) * i128::from(m) + (1 << (shift - 1))) >> shift;
            if i64::from(a).abs() * i64::from(m) < i64::MAX - (1 << (shift - 1)) {
                assert_eq!(multiply_shift(a, m, shift), exact as i32, "{a} * {m} >> {shift}");
            }
        }
    }

    #[test]
    fn roots_are_floors() {
        for m in [0, 1, 2, 3, 4, 15, 16, u32::MAX, 65_535 * 65_535, 65_535 * 65_535 - 1, 1 << 30, (1 << 30) - 1] {
            let root = u64::from(square_root(m));
            assert!(root * root <= u64::from(m) && (root + 1) * (root + 1) > u64::from(m), "{m}: {root}");
        }
    }

    #[test]
    fn a_unit_row_has_the_right_direction_and_length() {
        let mut noise = Noise::new(2);
        for (width, bits) in [(1, 3), (4, 31), (384, 1), (384, 20), (1024, 26), (7, 15)] {
            let row: Vec<i32> = (0..width).map(|_| noise.bits() as i32 >> (32 - bits)).collect();
            let scaling = Scaling::new(largest(&row));
            let scaled: Vec<i32> = row.iter().map(|x| scaling.apply(*x)).collect();
            let reciprocal = Reciprocal::new(scaled.iter().map(|c| (c * c) as u64).sum());
            let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            for (x, scaled) in row.iter().zip(&scaled) {
                let found = f64::from(scaled * reciprocal.factor) * 2_f64.powi(-31 - reciprocal.exponent);
                assert!((found - f64::from(*x) / length).abs() < 1e-4, "{width} numbers of {bits} bits");
            }
        }
        let zeros = Reciprocal::new(0);
        assert_eq!((Scaling::new(0).apply(0), zeros.factor, zeros.exponent), (0, 0, 0), "a row of zeros stays one");
        assert_eq!(gained(0, zeros, -5, 9), 9, "and gives the bias");
    }

    /// 4^k numbers as large as can be, and one more that lifts the sum of squares to 2^(30 + 2k): then the reciprocal is the largest
    /// too, and from k = 2 on half a unit more leaves 32 bits.
    #[test]
    fn a_unit_row_stays_right_at_the_end_of_32_bits() {
        for power in 0..5 {
            let count = 1_u32 << (2 * power);
            let rest = i32::from(u16::try_from((65_535 * count).isqrt() + 1).expect("a small one"));
            for sign in [1, -1] {
                let row = [vec![sign * 32_767; count as usize], vec![rest]].concat();
                let scaling = Scaling::new(largest(&row));
                let scaled: Vec<i32> = row.iter().map(|x| scaling.apply(*x)).collect();
                assert_eq!(scaled, row, "2^15 - 1 is scaled by 1");
                let reciprocal = Reciprocal::new(scaled.iter().map(|c| (c * c) as u64).sum());
                assert_eq!(reciprocal, Reciprocal { factor: 65_535, exponent: power }, "the largest, {count} numbers");
                let shift = 16 + power;
                for c in scaled {
                    let right = (i64::from(c) * 65_535 + (1 << (shift - 1))) >> shift;
                    assert_eq!(i64::from(unit(c, reciprocal)), right.min(32_767), "{c} of {count} numbers");
                    assert_eq!(
                        gained(c, reciprocal, -3, 7),
                        gained(-c, reciprocal, 3, 7),
                        "{c}, either sign of the gain"
                    );
                }
            }
        }
    }

    #[test]
    fn means_are_rounded_down_after_a_half() {
        for (sum, count, right) in [(0, 384, 0), (191, 384, 0), (192, 384, 1), (-192, 384, 0), (-193, 384, -1)] {
            assert_eq!(mean(sum, count), right, "{sum} / {count}");
        }
    }

    #[test]
    fn gains_of_either_sign_mirror_each_other() {
        let reciprocal = Reciprocal { factor: 40_000, exponent: 2 };
        assert_eq!(gained(1234, reciprocal, 70_000, 0), 201, "1234 * 40000 * 70000 / 2^34 = 201.1");
        assert_eq!(gained(-1234, reciprocal, -70_000, 0), 201, "twice negated");
        assert_eq!(gained(1234, reciprocal, -70_000, 5), -196, "once negated, and the bias");
    }

    #[test]
    fn steps_keep_numbers_within_their_limit() {
        for largest in [0_u32, 1, 126, 127, 128, 8127, 8128, 8129, 1 << 20, 86_016_000] {
            for (step, limit) in [(Step::of_14(largest), 8128), (Step::of_8(largest), 127)] {
                let at = largest as i32;
                assert!(step.count(at) <= limit && step.count(-at) >= -limit, "{largest}: {step:?}");
                let back = i64::from(step.count(at)) * i64::from(step.size);
                // Half a step, and what the rounded reciprocal loses.
                let allowed = i64::from(step.size) / 2 + 1 + i64::from(largest) * i64::from(step.size) / (1 << 18);
                assert!((back - i64::from(largest)).abs() <= allowed, "{largest}: {back}");
            }
        }
        assert_eq!(Step::of_14(8129).size, 2, "one more than the limit takes larger steps");
    }

    #[test]
    fn powers_of_two_are_close_and_end() {
        assert_eq!(
            [0, 1 << 16, 2 << 16, 16 << 16, 17 << 16, u32::MAX].map(exp2),
            [65_535, 32_767, 16_383, 0, 0, 0],
            "whole distances"
        );
        let worst = (0..1_u32 << 20).step_by(7).fold(0.0_f64, |worst, distance| {
            let right = 2_f64.powf(-f64::from(distance) / 65_536.0);
            worst.max((f64::from(exp2(distance)) / 65_536.0 - right).abs())
        });
        assert!(worst < 2.7e-5, "{worst}");
    }

    #[test]
    fn shares_sum_to_about_one() {
        assert_eq!(Share::new(65_535).of(65_535), 32_767, "a single key takes all");
        let mut noise = Noise::new(3);
        for keys in [2_u32, 3, 64, 511, 512] {
            let weights: Vec<u32> =
                (0..keys).map(|key| exp2(if key == 0 { 0 } else { noise.below(1 << 20) })).collect();
            let share = Share::new(weights.iter().sum());
            let total: i32 = weights.iter().map(|weight| share.of(*weight)).sum();
            assert!((total - 32_768).abs() <= 2 + keys as i32 / 2, "{keys} keys: {total}");
        }
    }

    #[test]
    fn scores_are_rounded_products() {
        assert_eq!(
            score(-516_128, 40_000, 900),
            ((-516_128_i64 * 36_000_000 + 8192) >> 14) as i32,
            "the largest product"
        );
    }

    #[test]
    fn gelu_interpolates_what_is_lacking() {
        let mut table = [0; GELU_ENTRIES];
        (table[1], table[2]) = (253, 499);
        let gelu = |u, table: &[i32; GELU_ENTRIES]| gelu(u, |entry| (table[entry], table[entry + 1] - table[entry]));
        assert_eq!(gelu(512, &table), 512 - 253, "on an entry");
        assert_eq!(gelu(-512, &table), -253, "below zero only the lack is left");
        assert_eq!(gelu(768, &table), 768 - (253 + ((246 * 256 + 256) >> 9)), "between two");
        assert_eq!([gelu(i32::MAX, &table), gelu(i32::MIN, &table)], [i32::MAX, 0], "far out");
    }

    #[test]
    fn limbs_are_signed_numbers_of_seven_bits() {
        for a in -8128..=8128 {
            let (high, low) = split(a);
            assert_eq!(128 * i32::from(high) + i32::from(low), a, "{a}");
            assert!((-63..=64).contains(&high) && (-64..=63).contains(&low), "{a}: {high} {low}");
        }
    }
}
