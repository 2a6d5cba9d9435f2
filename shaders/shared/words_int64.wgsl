// Products and quotients of fixed.wgsl with 64-bit integers, where the device has them. Twin: src/fixed.rs. The same functions
// in words of 32 bits: words.wgsl.

fn joined(a: vec2<u32>) -> u64 {
    return (u64(a.y) << 32u) | u64(a.x);
}

fn split(a: u64) -> vec2<u32> {
    return vec2<u32>(u32(a), u32(a >> 32u));
}

// a * b, exact.
fn multiply_words(a: u32, b: u32) -> vec2<u32> {
    return split(u64(a) * u64(b));
}

// a * b, exact, both without a sign; the lowest word first.
fn multiply_wide(a: vec2<u32>, b: vec2<u32>) -> vec4<u32> {
    let lowest = u64(a.x) * u64(b.x);
    // Each sum fits: (2^32 - 1)^2 + 2 (2^32 - 1) < 2^64.
    let first = u64(a.x) * u64(b.y) + (lowest >> 32u);
    let second = u64(a.y) * u64(b.x) + u64(u32(first));
    let upper = u64(a.y) * u64(b.y) + (first >> 32u) + (second >> 32u);
    return vec4<u32>(vec2<u32>(u32(lowest), u32(second)), split(upper));
}

// (upper 2^32 + lower) / divisor for upper < divisor.
fn divide_words(upper: u32, lower: u32, divisor: u32) -> u32 {
    return u32(joined(vec2<u32>(lower, upper)) / u64(divisor));
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
    let scaled = joined(divisor) << shift;
    let scaled_high = scaled >> 32u;
    let scaled_low = u64(u32(scaled));
    // The dividend's three words, scaled: two of them in top, by two shifts, as none of a word may be by 32.
    let top = (joined(remainder) << shift) | u64((word >> 1u) >> (31u - shift));
    let bottom = u64(word << shift);

    var quotient = min(top / scaled_high, 0xfffffffflu);
    var rest = top - quotient * scaled_high;
    for (var correction = 0u; correction < 2u; correction++) {
        if (rest >> 32u) == 0lu && quotient * scaled_low > ((rest << 32u) | bottom) {
            quotient -= 1lu;
            rest += scaled_high;
        }
    }
    // What is left is below the divisor, so it is right modulo 2^64.
    let left = split((((top << 32u) | bottom) - quotient * scaled) >> shift);
    return vec3<u32>(u32(quotient), left);
}

// a / k, floored, without signs, on the bits.
fn divide_bits(a: vec2<u32>, k: u32) -> vec2<u32> {
    return split(joined(a) / u64(k));
}
