//! Fixed-point numbers with the chain's own rounding, on integers only.
//!
//! A value with `F` fraction bits is `bits / 2^F`. The rules are few and they are the whole of the exact zone's arithmetic:
//!
//! * products are floored: `mul(a, b) = floor(a b / 2^F)`, toward minus infinity, also for negative products;
//! * quotients are truncated: `div(a, b) = trunc(a 2^F / b)`, toward zero;
//! * [`I32F32::safe_div`] gives 0 for a zero divisor **and** for a quotient that does not fit;
//! * sums are plain integer sums, hence independent of order.
//!
//! | type | storage | fraction bits | used for |
//! |---|---|---|---|
//! | [`I32F32`] | `i64` | 32 | everything inside the epoch |
//! | [`I64F64`] | `i128` | 64 | stake before it is normalised |
//! | [`U96F32`] | `u128` | 32 | the TAO weight, block emission and its split |
//! | [`U64F64`] | `u128` | 64 | how much of a subnet a mechanism is |
#![deny(clippy::float_arithmetic)]

use std::iter::Sum;

use bytemuck::{Pod, Zeroable};

/// A signed number with 32 integer and 32 fraction bits: `bits / 2^32`, in -2^31 ..= 2^31 - 2^-32.
///
/// The raw bits are the `i64` inside, so a slice of these is a slice of `i64` to a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct I32F32(i64);

impl I32F32 {
    /// Number of fraction bits.
    pub const FRACTION_BITS: u32 = 32;
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1, the bits `2^32`.
    pub const ONE: Self = Self(1 << 32);
    /// One half.
    pub const HALF: Self = Self(1 << 31);
    /// The largest value, 2^31 - 2^-32.
    pub const MAX: Self = Self(i64::MAX);
    /// The smallest value, -2^31.
    pub const MIN: Self = Self(i64::MIN);

    /// The value with these raw bits.
    pub const fn from_bits(bits: i64) -> Self {
        Self(bits)
    }

    /// The raw bits, `value * 2^32`.
    pub const fn to_bits(self) -> i64 {
        self.0
    }

    /// An integer, exact.
    pub const fn from_u16(value: u16) -> Self {
        Self((value as i64) << 32)
    }

    /// An integer, exact.
    pub const fn from_i16(value: i16) -> Self {
        Self((value as i64) << 32)
    }

    /// The value with its digits below the last fraction bit cut off; `None` for NaN and what lies outside 0 .. 2^31.
    pub const fn from_f64(value: f64) -> Option<Self> {
        // Taken apart by its bits, since a float has no arithmetic here: value = significand 2^exponent.
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52) as i32, bits & ((1 << 52) - 1));
        let significand = if exponent == 0 { fraction } else { fraction | 1 << 52 };
        let shift = (if exponent == 0 { 1 } else { exponent }) - 1075 + Self::FRACTION_BITS as i32;
        match shift {
            _ if bits == 1 << 63 => Some(Self::ZERO),
            // The sign is the highest bit of what is taken for the exponent.
            12.. => None,
            0..12 => match (significand << shift) as i64 {
                bits @ 0.. => Some(Self(bits)),
                _ => None,
            },
            -63..0 => Some(Self((significand >> -shift) as i64)),
            _ => Some(Self::ZERO),
        }
    }

    /// The proportion `value / 65535`, truncated: 0 and 65535 map to exactly 0 and 1 (`p16`, YUMA §1.1).
    #[inline]
    pub const fn from_proportion(value: u16) -> Self {
        Self(((value as i64) << 32) / 65_535)
    }

    /// The proportion in 65535ths, truncated and clamped to 0 ..= 65535 (`q16`, YUMA §1.1).
    ///
    /// Only 1 and above give 65535. Not an inverse of [`Self::from_proportion`]: whenever that division was inexact, one unit is
    /// lost.
    #[inline]
    pub fn to_proportion(self) -> u16 {
        // Times 65535, a whole number: the product on the bits needs no shift.
        Self(self.0.saturating_mul(i64::from(u16::MAX))).to_u16()
    }

    /// The integer part, floored and clamped to 0 ..= 65535.
    #[inline]
    pub fn to_u16(self) -> u16 {
        (self.0 >> 32).clamp(0, i64::from(u16::MAX)) as u16
    }

    /// The nearest integer, halves away from zero, clamped to 0 ..= 65535.
    fn round_to_u16(self) -> u16 {
        // For the values below zero every rounding ends in 0, so adding one half and flooring serves both signs.
        self.saturating_add(Self::HALF).to_u16()
    }

    /// The sum, clamped to the range.
    #[inline]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, clamped to the range.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The sum modulo 2^64 on the bits, as the chain's plain sums behave.
    #[inline]
    pub const fn wrapping_add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    /// `floor(a b)` on the last fraction bit, without regard to the range.
    #[inline]
    const fn product(self, other: Self) -> i128 {
        (self.0 as i128 * other.0 as i128) >> 32
    }

    /// The floored product, clamped to the range.
    #[inline]
    pub fn saturating_mul(self, other: Self) -> Self {
        let product = self.product(other);
        Self(i64::try_from(product).unwrap_or(if product < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The floored product, or `None` where it does not fit.
    #[inline]
    pub fn checked_mul(self, other: Self) -> Option<Self> {
        i64::try_from(self.product(other)).ok().map(Self)
    }

    /// The truncated quotient; `None` for a zero divisor or where it does not fit.
    #[inline]
    pub fn checked_div(self, divisor: Self) -> Option<Self> {
        let (dividend, divisor) = (self.0, divisor.0);
        if divisor > 0 && dividend >= 0 {
            // The three usual cases divide in one machine word: a dividend below 1, 1 itself, and two whole numbers.
            if dividend < 1 << 32 {
                return i64::try_from(((dividend as u64) << 32) / divisor as u64).ok().map(Self);
            }
            if dividend == 1 << 32 {
                // 2^64 / d is one more than (2^64 - 1) / d only where d divides 2^64.
                let quotient =
                    (u64::MAX / divisor as u64).checked_add(u64::from((divisor as u64).is_power_of_two()))?;
                return i64::try_from(quotient).ok().map(Self);
            }
            if (dividend | divisor) & 0xffff_ffff == 0 {
                return i64::try_from((dividend as u64) / (divisor as u64 >> 32)).ok().map(Self);
            }
        }
        if divisor == 0 {
            return None;
        }
        i64::try_from((i128::from(dividend) << 32) / i128::from(divisor)).ok().map(Self)
    }

    /// The truncated quotient; 0 for a zero divisor and also 0 where it does not fit.
    #[inline]
    pub fn safe_div(self, divisor: Self) -> Self {
        self.checked_div(divisor).unwrap_or(Self::ZERO)
    }

    /// The truncated quotient, clamped to the range; 0 for a zero divisor (which the chain never reaches).
    pub fn saturating_div(self, divisor: Self) -> Self {
        match self.checked_div(divisor) {
            Some(quotient) => quotient,
            None if divisor.0 == 0 => Self::ZERO,
            None if (self.0 < 0) == (divisor.0 < 0) => Self::MAX,
            None => Self::MIN,
        }
    }

    /// `e^x` for x clamped to [-20, 20], by the chain's series (YUMA §1.2).
    pub fn exp_safe(self) -> Self {
        let [result] = Self::exp_safe_each([self]);
        result
    }

    /// [`Self::exp_safe`] of several numbers, which share the processor: term by term none has to wait for its own last one.
    ///
    /// The series is `1 + a + a^2/2! + ... + a^31/31!` for `a = |x|`, products and quotients floored, inverted for negative x. Exactly
    /// +1 gives the chain's constant e, which holds only 23 fraction bits. Up to 20 no term reaches 2^62 and no sum 2^61, so nothing
    /// overflows.
    pub fn exp_safe_each<const N: usize>(exponents: [Self; N]) -> [Self; N] {
        const LIMIT: i64 = 20 << 32;
        const E: I32F32 = I32F32(11_674_931_200);
        let exponents = exponents.map(|exponent| exponent.0.clamp(-LIMIT, LIMIT));
        let magnitudes = exponents.map(i64::unsigned_abs);
        let (mut terms, mut sums) = (magnitudes, magnitudes.map(|magnitude| magnitude + Self::ONE.0 as u64));
        for &(reciprocal, shift) in &TERM_RECIPROCALS {
            for (term, magnitude) in terms.iter_mut().zip(magnitudes) {
                let product = ((u128::from(*term) * u128::from(magnitude)) >> 32) as u64;
                *term = high_word(product, reciprocal) >> shift;
            }
            for (sum, term) in sums.iter_mut().zip(terms) {
                *sum += term;
            }
        }
        std::array::from_fn(|place| {
            let sum = Self(sums[place] as i64);
            match exponents[place] {
                exponent if exponent == Self::ONE.0 => E,
                0.. => sum,
                _ => Self::ONE.safe_div(sum),
            }
        })
    }

    /// The rao that this fraction of a pot is worth: `floor(fraction * rao)`, clamped to the range of `u64` (YUMA §9).
    #[inline]
    pub fn of_rao(self, rao: u64) -> u64 {
        // |bits| <= 2^63 and rao < 2^64, so the product fits 128 bits.
        let product = (i128::from(self.0) * i128::from(rao)) >> 32;
        u64::try_from(product).unwrap_or(if product < 0 { 0 } else { u64::MAX })
    }

    /// Divides every value by the sum of all: `x_i = safe_div(x_i, SUM x)`; unchanged where the sum is zero.
    pub fn normalize(values: &mut [Self]) {
        let sum: Self = values.iter().sum();
        if sum != Self::ZERO {
            let divisor = Divisor::new(sum);
            for value in values {
                *value = divisor.divide(*value);
            }
        }
    }
}

/// `floor(2^(63 + s) / k) + 1` with `s = floor(log2 k)`, and `s - 1`, for k = 2 ..= 31.
///
/// `floor(n / k)` is the high word of the product with n, shifted: for n up to 2^62 the reciprocal's excess, below 1, adds less than
/// `n / 2^(63 + s) < 1 / k` to the quotient, too little to reach the next integer.
static TERM_RECIPROCALS: [(u64, u32); 30] = {
    let mut reciprocals = [(0, 0); 30];
    let mut k = 2;
    while k < 32_u32 {
        let shift = k.ilog2();
        reciprocals[k as usize - 2] = (((1_u128 << (63 + shift)) / k as u128) as u64 + 1, shift - 1);
        k += 1;
    }
    reciprocals
};

/// The high word of a product.
#[inline]
const fn high_word(a: u64, b: u64) -> u64 {
    ((a as u128 * b as u128) >> 64) as u64
}

/// A number to divide many others by: [`I32F32::safe_div`] for the price of two products.
#[derive(Clone, Copy, Debug, Default)]
pub struct Divisor {
    divisor: I32F32,
    /// `floor((2^64 - 1) / divisor)` of the bits; 0 where these are not above 1, as no quotient below 2^63 is sure then.
    reciprocal: u64,
}

impl Divisor {
    /// Prepares to divide by `divisor`.
    #[inline]
    pub fn new(divisor: I32F32) -> Self {
        let bits = u64::try_from(divisor.0).unwrap_or(0);
        Self { divisor, reciprocal: if bits > 1 { u64::MAX / bits } else { 0 } }
    }

    /// `dividend.safe_div(divisor)`.
    #[inline]
    pub fn divide(self, dividend: I32F32) -> I32F32 {
        // Shares, that is 0 <= dividend < 1. With X = dividend 2^32 < 2^64 and r = floor((2^64 - 1) / d) >= 2^64 / d - 1 the product
        // X r / 2^64 lies less than 1 below X / d, so its floor is the quotient or one less.
        if dividend.0 as u64 >> 32 == 0 && self.reciprocal != 0 {
            let (shifted, divisor) = ((dividend.0 as u64) << 32, self.divisor.0 as u64);
            let quotient = high_word(shifted, self.reciprocal);
            let rest = shifted - quotient * divisor;
            return I32F32((quotient + u64::from(rest >= divisor)) as i64);
        }
        dividend.safe_div(self.divisor)
    }
}

/// The plain sum, modulo 2^64 on the bits: exact, hence independent of order, for fewer than 32768 values up to 65535 each.
impl Sum for I32F32 {
    #[inline]
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self::ZERO, Self::wrapping_add)
    }
}

impl<'a> Sum<&'a I32F32> for I32F32 {
    #[inline]
    fn sum<I: Iterator<Item = &'a Self>>(values: I) -> Self {
        values.copied().sum()
    }
}

/// A signed number with 64 integer and 64 fraction bits: `bits / 2^64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct I64F64(i128);

impl I64F64 {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// The largest value, all fraction bits set.
    pub const MAX: Self = Self(i128::MAX);

    /// The value with these raw bits.
    pub const fn from_bits(bits: i128) -> Self {
        Self(bits)
    }

    /// The raw bits, `value * 2^64`.
    pub const fn to_bits(self) -> i128 {
        self.0
    }

    /// An integer; from 2^63 up it becomes [`Self::MAX`].
    pub const fn from_u64(value: u64) -> Self {
        if value >> 63 == 0 { Self((value as i128) << 64) } else { Self::MAX }
    }

    /// The integer part, floored; negative values give 0.
    pub fn to_u64(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or(0)
    }

    /// The same value with the low 32 fraction bits dropped (floor), the integer part clamped.
    pub fn to_i32f32(self) -> I32F32 {
        let bits = self.0 >> 32;
        I32F32(i64::try_from(bits).unwrap_or(if bits < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The sum, clamped to the range.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The floored product, clamped to the range.
    pub fn saturating_mul(self, other: Self) -> Self {
        let negative = (self.0 < 0) != (other.0 < 0);
        match product_64(self.0.unsigned_abs(), other.0.unsigned_abs()) {
            Some((magnitude, remainder)) if negative => {
                // Toward minus infinity: a remainder pushes the magnitude up.
                let floored = magnitude.saturating_add(u128::from(remainder));
                Self(0_i128.checked_sub_unsigned(floored).unwrap_or(i128::MIN))
            }
            Some((magnitude, _)) => Self(i128::try_from(magnitude).unwrap_or(i128::MAX)),
            None if negative => Self(i128::MIN),
            None => Self::MAX,
        }
    }

    /// The truncated quotient; 0 for a zero divisor and where it does not fit.
    pub fn safe_div(self, divisor: Self) -> Self {
        let quotient = shifted_quotient(self.0.unsigned_abs(), 64, divisor.0.unsigned_abs());
        let negative = (self.0 < 0) != (divisor.0 < 0);
        let signed = quotient.and_then(|magnitude| {
            if negative { 0_i128.checked_sub_unsigned(magnitude) } else { i128::try_from(magnitude).ok() }
        });
        Self(signed.unwrap_or(0))
    }
}

/// The plain sum, modulo 2^128 on the bits.
impl Sum for I64F64 {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        Self(values.fold(0, |sum, value| sum.wrapping_add(value.0)))
    }
}

impl From<U96F32> for I64F64 {
    /// Exact, the integer part clamped.
    fn from(value: U96F32) -> Self {
        if value.0 >> 95 == 0 { Self((value.0 as i128) << 32) } else { Self::MAX }
    }
}

/// An unsigned number with 96 integer and 32 fraction bits: `bits / 2^32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct U96F32(u128);

impl U96F32 {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1 << 32);
    /// One half.
    pub const HALF: Self = Self(1 << 31);

    /// The value with these raw bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The raw bits, `value * 2^32`.
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// An integer, exact.
    pub const fn from_u64(value: u64) -> Self {
        Self((value as u128) << 32)
    }

    /// The integer part, floored, clamped to the range of `u64`.
    pub fn to_u64(self) -> u64 {
        u64::try_from(self.0 >> 32).unwrap_or(u64::MAX)
    }

    /// The sum, clamped to the range.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; 0 where it would be negative.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The floored product, clamped to the range.
    pub const fn saturating_mul(self, other: Self) -> Self {
        let (a_high, a_low, b_high, b_low) = (self.0 >> 32, self.0 & LOW_32, other.0 >> 32, other.0 & LOW_32);
        // a b / 2^32 = a_high b + a_low b_high + a_low b_low / 2^32, where only the last part has a remainder.
        let high = a_high.saturating_mul(other.0);
        Self(high.saturating_add(a_low * b_high).saturating_add((a_low * b_low) >> 32))
    }

    /// The truncated quotient; 0 for a zero divisor and where it does not fit.
    pub fn safe_div(self, divisor: Self) -> Self {
        Self(shifted_quotient(self.0, 32, divisor.0).unwrap_or(0))
    }
}

/// An unsigned number with 64 integer and 64 fraction bits: `bits / 2^64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct U64F64(u128);

impl U64F64 {
    /// 0.
    pub const ZERO: Self = Self(0);
    /// 1.
    pub const ONE: Self = Self(1 << 64);

    /// The value with these raw bits.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// The raw bits, `value * 2^64`.
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    /// An integer, exact.
    pub const fn from_u64(value: u64) -> Self {
        Self((value as u128) << 64)
    }

    /// The integer part, floored.
    pub const fn to_u64(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The sum, clamped to the range.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The floored product, clamped to the range.
    pub fn saturating_mul(self, other: Self) -> Self {
        Self(product_64(self.0, other.0).map_or(u128::MAX, |(product, _)| product))
    }

    /// The truncated quotient; `None` for a zero divisor and where it does not fit.
    pub fn checked_div(self, divisor: Self) -> Option<Self> {
        shifted_quotient(self.0, 64, divisor.0).map(Self)
    }
}

/// `floor(a b / 2^64)` and whether there is a remainder; `None` where it does not fit.
fn product_64(a: u128, b: u128) -> Option<(u128, bool)> {
    let (a_high, a_low, b_high, b_low) = (a >> 64, a & LOW_64, b >> 64, b & LOW_64);
    // a b / 2^64 = a_high b + a_low b_high + a_low b_low / 2^64: only the last part has a remainder.
    let last = a_low * b_low;
    let product = a_high.checked_mul(b)?.checked_add(a_low * b_high)?.checked_add(last >> 64)?;
    Some((product, last & LOW_64 != 0))
}

const LOW_32: u128 = 0xffff_ffff;
const LOW_64: u128 = 0xffff_ffff_ffff_ffff;

/// `floor(dividend * 2^shift / divisor)`; `None` for a zero divisor or where it does not fit.
fn shifted_quotient(dividend: u128, shift: u32, divisor: u128) -> Option<u128> {
    if divisor == 0 {
        return None;
    }
    if dividend == 0 {
        return Some(0);
    }
    // Common factors of two change nothing; without them most dividends can be shifted in place.
    let common = (dividend | divisor).trailing_zeros();
    let (dividend, divisor) = (dividend >> common, divisor >> common);
    if dividend.leading_zeros() >= shift {
        return Some((dividend << shift) / divisor);
    }
    let (mut quotient, mut remainder) = (dividend / divisor, dividend % divisor);
    for _ in 0..shift {
        if quotient >> 127 != 0 {
            return None;
        }
        let carry = remainder >> 127 != 0;
        remainder <<= 1;
        quotient <<= 1;
        if carry || remainder >= divisor {
            remainder = remainder.wrapping_sub(divisor);
            quotient |= 1;
        }
    }
    Some(quotient)
}

/// Scales a row of weights so that its largest becomes 65535, rounded to nearest, as the chain stores it (YUMA §13.5).
///
/// With `m` the largest value: `round(v * (65535 / m))` where `m > 32768`, else `round((v * 65535) / m)`; all zeros for `m = 0`.
/// Values are at least 0.
pub fn max_upscale_u16(values: &[I32F32]) -> Vec<u16> {
    let full = I32F32::from_u16(u16::MAX);
    let largest = values.iter().copied().max().unwrap_or(I32F32::ZERO);
    if largest == I32F32::ZERO {
        return vec![0; values.len()];
    }
    if largest > I32F32::from_bits(32_768 << 32) {
        let scale = full.safe_div(largest);
        values.iter().map(|value| value.saturating_mul(scale).round_to_u16()).collect()
    } else {
        values.iter().map(|value| value.saturating_mul(full).safe_div(largest).round_to_u16()).collect()
    }
}

/// Whether no weight of a row exceeds its limit: `max_i w_i / SUM w <= limit / 65535` (YUMA §13.4).
///
/// An empty row, a row of zeros and the limit 65535 always pass.
pub fn within_max_weight(weights: &[u16], limit: u16) -> bool {
    let mut shares: Vec<I32F32> = weights.iter().copied().map(I32F32::from_u16).collect();
    I32F32::normalize(&mut shares);
    limit == u16::MAX || shares.iter().all(|share| *share <= I32F32::from_proportion(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_products_are_floored_and_clamped() {
        // By integers without bounds: min((a * b) >> 64, 2^128 - 1).
        for (a, b, product) in [
            (0x1, 0x1, 0x0),
            (0xffff_ffff_ffff_ffff, 0x1, 0x0),
            (0x1_0000_0000_0000_0000, 0x1_0000_0000_0000_0000, 0x1_0000_0000_0000_0000),
            (u128::MAX, 0x1_0000_0000_0000_0000, u128::MAX),
            (u128::MAX, 0x1_0000_0000_0000_0001, u128::MAX),
            (u128::MAX, u128::MAX, u128::MAX),
            (
                0x1_0000_0000_0000_0000_0000_3039,
                0x7fff_ffff_ffff_ffff_ffff_ffff,
                0x8000_0000_0000_0000_0000_181b_7fff_ffff,
            ),
            (
                0xffff_ffff_ffff_ffff_0000_0000_0000_0001,
                0xffff_ffff_ffff_ffff,
                0xffff_ffff_ffff_fffe_0000_0000_0000_0001,
            ),
            (
                0x5bc8_fbbc_bde5_c099_4164_d839_9f76_7c45,
                0xb0c1_1fde_cb91_ce37,
                0x3f5f_6b04_c39b_edaf_c34b_eab7_d7b5_df2b,
            ),
            (
                0xa_bd69_fe29_d76d_4330_f144_6bea,
                0x3b_6717_87b0_b125_ec1d_7da0,
                0x27d_fa9f_eeb9_de12_2b67_294c_434e_c284,
            ),
        ] {
            let (a, b) = (U64F64::from_bits(a), U64F64::from_bits(b));
            assert_eq!(a.saturating_mul(b).to_bits(), product, "{a:?} * {b:?}");
            assert_eq!(b.saturating_mul(a).to_bits(), product, "{b:?} * {a:?}");
        }
    }

    #[test]
    fn unsigned_quotients_are_truncated_where_they_fit() {
        // By integers without bounds: (a << 64) / b.
        let whole = U64F64::from_u64;
        for (dividend, divisor, quotient) in [
            (whole(1), whole(3), Some(0x5555_5555_5555_5555)),
            (whole(1), whole(u64::MAX), Some(1)),
            (whole(u64::MAX), whole(1), Some(0xffff_ffff_ffff_ffff_0000_0000_0000_0000)),
            (whole(u64::MAX), whole(u64::MAX), Some(1 << 64)),
            (whole(u64::MAX - 1), whole(u64::MAX), Some(0xffff_ffff_ffff_fffe)),
            (whole(21_845), whole(65_535), Some(0x5555_5555_5555_5555)),
            (whole(0), whole(7), Some(0)),
            (U64F64::from_bits(1), whole(0), None),
            (U64F64::from_bits(u128::MAX), U64F64::from_bits(1), None),
        ] {
            assert_eq!(dividend.checked_div(divisor).map(U64F64::to_bits), quotient, "{dividend:?} / {divisor:?}");
        }
        assert_eq!(U64F64::from_bits(u128::MAX).to_u64(), u64::MAX, "floored");
        assert_eq!(U64F64::from_bits(u128::MAX).saturating_add(U64F64::ONE).to_bits(), u128::MAX, "clamped");
    }

    #[test]
    fn floats_are_cut_off_below_the_last_bit() {
        let bits = |value: f64| I32F32::from_f64(value).map(I32F32::to_bits);
        assert_eq!(bits(1.0), Some(1 << 32), "1");
        assert_eq!(bits(0.1), Some(429_496_729), "floor(0.1 * 2^32)");
        assert_eq!(bits(65_535.5), Some((65_535 << 32) + (1 << 31)), "large ones");
        assert_eq!(bits(2_147_483_647.5), Some(i64::MAX - (1 << 31) + 1), "just below 2^31");
        assert_eq!(
            (bits(0.0), bits(-0.0), bits(1e-300), bits(5e-324)),
            (Some(0), Some(0), Some(0), Some(0)),
            "nothing left"
        );
        for outside in [-1e-9, -1.0, 2_147_483_648.0, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, -f64::NAN] {
            assert_eq!(bits(outside), None, "{outside}");
        }
    }
}
