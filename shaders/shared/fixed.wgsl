// Fixed-point numbers with the chain's own rounding, in words of 32 bits. Twin: src/fixed.rs.
//
// A number is vec2<u32>(low, high): 64 bits in two's complement; as I32F32 its value is bits / 2^32. A share is a number in
// 0 ..= 1, so its high word is 0, or 1 beside a low word of 0. Products are floored, quotients truncated, sums modulo 2^64.

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

// a * b, exact.
fn multiply_words(a: u32, b: u32) -> vec2<u32> {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let lowest = a_low * b_low;
    let middle = a_high * b_low + (lowest >> 16u);
    let both = middle + a_low * b_high;
    let carry = u32(both < middle) << 16u;
    return vec2<u32>((both << 16u) | (lowest & 0xffffu), a_high * b_high + (both >> 16u) + carry);
}

// a * b, exact, both without a sign; the lowest word first.
fn multiply_wide(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let lowest = multiply_words(a.x, b.x);
    // Each sum fits: (2^32 - 1)^2 + 2 (2^32 - 1) < 2^64.
    let first = add(multiply_words(a.x, b.y), vec2<u32>(lowest.y, 0u));
    let second = add(multiply_words(a.y, b.x), vec2<u32>(first.x, 0u));
    let upper = add(add(multiply_words(a.y, b.y), vec2<u32>(first.y, 0u)), vec2<u32>(second.y, 0u));
    return vec4<u32>(lowest.x, second.x, upper.x, upper.y);
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

// (upper 2^32 + lower) / divisor for upper < divisor, by two digits of 16 bits.
fn divide_words(upper: u32, lower: u32, divisor: u32) -> u32 {
    let shift = countLeadingZeros(divisor);
    let scaled = divisor << shift;
    let scaled_high = scaled >> 16u;
    let scaled_low = scaled & 0xffffu;
    // By two shifts, as none may be by 32.
    let top = (upper << shift) | ((lower >> 1u) >> (31u - shift));
    let bottom = lower << shift;

    var first = top / scaled_high;
    var rest = top - first * scaled_high;
    for (var correction = 0u; correction < 2u; correction++) {
        if rest < 0x10000u && (first >= 0x10000u || first * scaled_low > ((rest << 16u) | (bottom >> 16u))) {
            first -= 1u;
            rest += scaled_high;
        }
    }
    let next = ((top << 16u) | (bottom >> 16u)) - first * scaled;

    var second = next / scaled_high;
    rest = next - second * scaled_high;
    for (var correction = 0u; correction < 2u; correction++) {
        if rest < 0x10000u && (second >= 0x10000u || second * scaled_low > ((rest << 16u) | (bottom & 0xffffu))) {
            second -= 1u;
            rest += scaled_high;
        }
    }
    return (first << 16u) + second;
}

// One digit of a long division: (remainder 2^32 + word) / divisor for remainder < divisor, none with a sign. The quotient in
// x, the new remainder in y (low) and z (high).
fn divide_digit(remainder: vec2<u32>, word: u32, divisor: vec2<u32>) -> vec3<u32> {
    if divisor.y == 0u {
        let quotient = divide_words(remainder.x, word, divisor.x);
        return vec3<u32>(quotient, word - quotient * divisor.x, 0u);
    }
    // Scaled so that the divisor's top bit is set, the quotient of the top words is at most 2 too large.
    let shift = countLeadingZeros(divisor.y);
    let spill = 31u - shift;
    let scaled = vec2<u32>(divisor.x << shift, (divisor.y << shift) | ((divisor.x >> 1u) >> spill));
    let top = (remainder.y << shift) | ((remainder.x >> 1u) >> spill);
    let middle = (remainder.x << shift) | ((word >> 1u) >> spill);
    let bottom = word << shift;

    var quotient = 0xffffffffu;
    if top < scaled.y {
        quotient = divide_words(top, middle, scaled.y);
    }
    // quotient * scaled in three words: lowest.x, product.x, product.y.
    let lowest = multiply_words(quotient, scaled.x);
    let product = add(multiply_words(quotient, scaled.y), vec2<u32>(lowest.y, 0u));
    var taken = vec3<u32>(lowest.x, product.x, product.y);
    for (var correction = 0u; correction < 2u; correction++) {
        let upper = vec2<u32>(taken.y, taken.z);
        let over = below(vec2<u32>(middle, top), upper) || (upper.x == middle && upper.y == top && taken.x > bottom);
        if over {
            quotient -= 1u;
            let borrowed = subtract(upper, vec2<u32>(scaled.y, 0u));
            let borrow = u32(taken.x < scaled.x);
            let lower = taken.x - scaled.x;
            let rest = subtract(borrowed, vec2<u32>(borrow, 0u));
            taken = vec3<u32>(lower, rest.x, rest.y);
        }
    }
    // What is left is below the divisor: two words, scaled back.
    let left_low = bottom - taken.x;
    let left_high = middle - taken.y - u32(bottom < taken.x);
    return vec3<u32>(quotient, (left_low >> shift) | ((left_high << 1u) << spill), left_high >> shift);
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

// a / k, floored, without signs, on the bits.
fn divide_bits(a: vec2<u32>, k: u32) -> vec2<u32> {
    let high = a.y / k;
    return vec2<u32>(divide_words(a.y - high * k, a.x, k), high);
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
