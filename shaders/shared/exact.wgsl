// The operations that the encoder in integers is made of; what they mean and their ranges. Twin: src/nn/exact/arithmetic.rs.

fn bit_length(x: u32) -> u32 {
    return 32u - countLeadingZeros(x);
}

fn magnitude(x: i32) -> u32 {
    return select(u32(x), 0u - u32(x), x < 0);
}

fn largest_of(x: vec4<i32>) -> u32 {
    return max(max(magnitude(x.x), magnitude(x.y)), max(magnitude(x.z), magnitude(x.w)));
}

// x / 2^shift, halves rounded up. Half a unit is not added to x, which would leave i32 where x is near its end.
fn round_shift(x: i32, shift: u32) -> i32 {
    return (x >> shift) + min(x & i32((1u << shift) >> 1u), 1);
}

fn round_shift4(x: vec4<i32>, shift: u32) -> vec4<i32> {
    let half = vec4<i32>(i32((1u << shift) >> 1u));
    return (x >> vec4<u32>(shift)) + min(x & half, vec4<i32>(1));
}

// a m / 2^shift, halves rounded up, for shifts from 1 to 63, by halves of 16 bits.
fn multiply_shift(a: i32, m: u32, shift: u32) -> i32 {
    let a_low = u32(a) & 0xffffu;
    let a_high = u32(a) >> 16u;
    let m_low = m & 0xffffu;
    let m_high = m >> 16u;
    let lowest = a_low * m_low;
    let middle = a_high * m_low + (lowest >> 16u);
    let both = middle + a_low * m_high;
    let low = (both << 16u) | (lowest & 0xffffu);
    var high = a_high * m_high + (both >> 16u) + (u32(both < middle) << 16u);
    if a < 0 {
        high -= m;
    }
    if shift > 32u {
        return i32(high + ((1u << (shift - 32u)) >> 1u)) >> (shift - 32u);
    }
    let rounded = low + (1u << (shift - 1u));
    high += u32(rounded < low);
    if shift == 32u {
        return i32(high);
    }
    return i32((rounded >> shift) | (high << (32u - shift)));
}

fn square_root(m: u32) -> u32 {
    var root = 0u;
    for (var bit = 0x8000u; bit > 0u; bit >>= 1u) {
        let candidate = root | bit;
        if candidate * candidate <= m {
            root = candidate;
        }
    }
    return root;
}

// Brings numbers of a row to 15 bits and a sign.
struct Scaling {
    down: u32,
    up: u32,
}

fn scaling_of(largest: u32) -> Scaling {
    let bits = bit_length(largest);
    return Scaling(max(bits, 15u) - 15u, 15u - min(bits, 15u));
}

fn scaled(x: vec4<i32>, by: Scaling) -> vec4<i32> {
    let limit = vec4<i32>(32767);
    return clamp(round_shift4(x, by.down) << vec4<u32>(by.up), -limit, limit);
}

// The reciprocal length: factor 2^-(31 + exponent).
struct Reciprocal {
    factor: i32,
    exponent: i32,
}

// The sum of squares is high 2^16 + low.
fn reciprocal_of(high_sum: u32, low_sum: u32) -> Reciprocal {
    let high = high_sum + (low_sum >> 16u);
    let low = low_sum & 0xffffu;
    if (high | low) == 0u {
        return Reciprocal(0, 0);
    }
    // Of a row that is not zeros the sum is at least 2^28.
    let exponent = (i32(bit_length(high)) - 15) >> 1u;
    var squares = (high << 18u) | (low << 2u);
    if exponent >= 0 {
        let down = u32(2 * exponent);
        squares = (high << (16u - down)) | (low >> down);
    }
    return Reciprocal(i32(min(0x80000000u / max(square_root(squares), 1u), 65535u)), exponent);
}

fn gained(scaled_number: i32, by: Reciprocal, gain: i32, bias: i32) -> i32 {
    let unit = scaled_number * by.factor;
    return multiply_shift(select(unit, -unit, gain < 0), magnitude(gain), u32(32 + by.exponent)) + bias;
}

fn gained4(scaled_numbers: vec4<i32>, by: Reciprocal, gain: vec4<i32>, bias: vec4<i32>) -> vec4<i32> {
    return vec4<i32>(
        gained(scaled_numbers.x, by, gain.x, bias.x),
        gained(scaled_numbers.y, by, gain.y, bias.y),
        gained(scaled_numbers.z, by, gain.z, bias.z),
        gained(scaled_numbers.w, by, gain.w, bias.w),
    );
}

// The floor of sum / count plus a half.
fn mean_of(sum: i32, count: u32) -> i32 {
    let raised = sum + i32(count / 2u);
    if raised < 0 {
        return -i32((magnitude(raised) + count - 1u) / count);
    }
    return i32(u32(raised) / count);
}

// A step for numbers of some magnitude.
struct Step {
    size: u32,
    inverse: i32,
}

// Up to 8,128 steps.
fn step_14(largest: u32) -> Step {
    let size = max((largest / 8128u) + u32(largest % 8128u != 0u), 1u);
    return Step(size, i32(0x40000u / size));
}

// Up to 127 steps.
fn step_8(largest: u32) -> Step {
    let size = max((largest / 127u) + u32(largest % 127u != 0u), 1u);
    return Step(size, i32(0x1000000u / size));
}

fn count_14(x: vec4<i32>, by: Step) -> vec4<i32> {
    return round_shift4(x * by.inverse, 18u);
}

fn count_8(x: vec4<i32>, by: Step) -> vec4<i32> {
    return round_shift4(x * by.inverse, 24u);
}

// The low bytes of four integers in one word.
fn pack_bytes(x: vec4<i32>) -> u32 {
    return (u32(x.x) & 0xffu) | ((u32(x.y) & 0xffu) << 8u) | ((u32(x.z) & 0xffu) << 16u) | (u32(x.w) << 24u);
}

// Four inputs of a matrix product as 128 high + low: four signed bytes in each word.
fn split(a: vec4<i32>) -> vec2<u32> {
    let high = (a + vec4<i32>(64)) >> vec4<u32>(7u);
    return vec2<u32>(pack_bytes(high), pack_bytes(a - (high << vec4<u32>(7u))));
}
