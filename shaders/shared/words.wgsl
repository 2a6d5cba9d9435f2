// Products and quotients of fixed.wgsl in words of 32 bits, on every device. Twin: src/fixed.rs. The same functions with 64-bit
// integers: words_int64.wgsl.

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

// a / k, floored, without signs, on the bits.
fn divide_bits(a: vec2<u32>, k: u32) -> vec2<u32> {
    let high = a.y / k;
    return vec2<u32>(divide_words(a.y - high * k, a.x, k), high);
}
