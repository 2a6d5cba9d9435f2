// Fixed-point numbers with the chain's own rounding, in words of 32 bits. Twin: src/fixed.rs.
//
// A number is vec2<u32>(low, high): 64 bits in two's complement; as I32F32 its value is bits / 2^32. A share is a number in
// 0 ..= 1, so its high word is 0, or 1 beside a low word of 0. Products are floored, quotients truncated, sums modulo 2^64.
// What it needs of products and quotients of words is words.wgsl, or words_int64.wgsl where the device has 64-bit integers.

const ZERO: vec2<u32> = vec2<u32>(0u, 0u);
const ONE: vec2<u32> = vec2<u32>(0u, 1u);
const HALF: vec2<u32> = vec2<u32>(0x80000000u, 0u);
const LARGEST: vec2<u32> = vec2<u32>(0xffffffffu, 0x7fffffffu);
const SMALLEST: vec2<u32> = vec2<u32>(0u, 0x80000000u);

fn is_zero(a: vec2<u32>) -> bool {
    return (a.x | a.y) == 0u;
}

fn is_negative(a: vec2<u32>) -> bool {
    return (a.y >> 31u) != 0u;
}

fn equal(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.x == b.x && a.y == b.y;
}

// a < b, both without a sign.
fn below(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// a < b, both with a sign.
fn signed_below(a: vec2<u32>, b: vec2<u32>) -> bool {
    return below(vec2<u32>(a.x, a.y ^ 0x80000000u), vec2<u32>(b.x, b.y ^ 0x80000000u));
}

fn smaller(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if below(b, a) {
        return b;
    }
    return a;
}

fn add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + u32(low < a.x));
}

fn subtract(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - u32(a.x < b.x));
}

fn magnitude(a: vec2<u32>) -> vec2<u32> {
    if is_negative(a) {
        return subtract(ZERO, a);
    }
    return a;
}

// The floored product, clamped to the range.
fn multiply(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let words = multiply_wide(a, b);
    var upper = words.zw;
    if is_negative(a) {
        upper = subtract(upper, b);
    }
    if is_negative(b) {
        upper = subtract(upper, a);
    }
    if upper.y == select(0u, 0xffffffffu, (upper.x >> 31u) != 0u) {
        return vec2<u32>(words.y, upper.x);
    }
    if (upper.y >> 31u) != 0u {
        return SMALLEST;
    }
    return LARGEST;
}

// The floored product of two shares.
fn multiply_shares(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    if a.y != 0u {
        return b;
    }
    if b.y != 0u {
        return a;
    }
    return vec2<u32>(multiply_words(a.x, b.x).y, 0u);
}

// The truncated quotient; 0 for a zero divisor and where it does not fit.
fn divide(dividend: vec2<u32>, divisor: vec2<u32>) -> vec2<u32> {
    if is_zero(divisor) {
        return ZERO;
    }
    let a = magnitude(dividend);
    let b = magnitude(divisor);
    let first = divide_digit(ZERO, a.y, b);
    let second = divide_digit(first.yz, a.x, b);
    let third = divide_digit(second.yz, 0u, b);
    let quotient = vec2<u32>(third.x, second.x);
    if is_negative(dividend) != is_negative(divisor) {
        if first.x != 0u || below(SMALLEST, quotient) {
            return ZERO;
        }
        return subtract(ZERO, quotient);
    }
    if first.x != 0u || is_negative(quotient) {
        return ZERO;
    }
    return quotient;
}

// The truncated quotient of two numbers of which the first is no larger: a share. Neither has a sign, the second is not 0.
fn divide_shares(part: vec2<u32>, whole: vec2<u32>) -> vec2<u32> {
    if equal(part, whole) {
        return ONE;
    }
    return vec2<u32>(divide_digit(part, 0u, whole).x, 0u);
}

// part / whole as a share, for integers of which the first is no larger and the second not 0.
fn divide_integers(part: u32, whole: u32) -> vec2<u32> {
    if part == whole {
        return ONE;
    }
    return vec2<u32>(divide_words(part, 0u, whole), 0u);
}

// value / 65535 as a share: value 2^32 / 65535 = 65537 value + value / 65535.
fn from_proportion(value: u32) -> vec2<u32> {
    if value == 65535u {
        return ONE;
    }
    return vec2<u32>(value * 65537u, 0u);
}

// A number of at least 0 in 65535ths, truncated and clamped to 0 ..= 65535.
fn to_proportion(a: vec2<u32>) -> u32 {
    if a.y != 0u {
        return 65535u;
    }
    return multiply_words(a.x, 65535u).y;
}

// What a share of at least 0 of a pot is worth, floored, clamped to 64 bits without a sign.
fn part_of(share: vec2<u32>, pot: vec2<u32>) -> vec2<u32> {
    let words = multiply_wide(share, pot);
    if words.w != 0u {
        return vec2<u32>(0xffffffffu, 0xffffffffu);
    }
    return words.yz;
}

// e^x for x clamped to [-20, 20], by the chain's series of 31 terms; +1 gives the chain's own constant.
fn exponential(x: vec2<u32>) -> vec2<u32> {
    if is_zero(x) {
        return ONE;
    }
    if equal(x, ONE) {
        return vec2<u32>(0xb7e15000u, 2u);
    }
    let a = smaller(magnitude(x), vec2<u32>(0u, 20u));
    var result = add(a, ONE);
    var term = a;
    for (var k = 2u; k < 32u; k++) {
        // Without signs and far from the range: no more than 2^30 for x = 20.
        let words = multiply_wide(term, a);
        term = divide_bits(words.yz, k);
        if is_zero(term) {
            break;
        }
        result = add(result, term);
    }
    if is_negative(x) {
        return divide_shares(ONE, result);
    }
    return result;
}
