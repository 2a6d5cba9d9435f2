// Rows of packed matrices. Twin: src/nn/packed.rs, same layouts.

const FORMAT_F32: u32 = 0u;
const FORMAT_F16: u32 = 1u;
const FORMAT_BF16: u32 = 2u;
const FORMAT_Q8: u32 = 3u;
const FORMAT_Q4: u32 = 4u;

// Words that a row of `columns` numbers takes.
fn row_words(format: u32, columns: u32) -> u32 {
    switch format {
        case FORMAT_F16, FORMAT_BF16: {
            return columns / 2u;
        }
        case FORMAT_Q8: {
            return columns / 32u * 9u;
        }
        case FORMAT_Q4: {
            return columns / 32u * 5u;
        }
        default: {
            return columns;
        }
    }
}

// The f16 with these bits, exactly, small ones too; it is finite. (`unpack2x16float` is not core WGSL for naga, and may flush.)
fn half_float(bits: u32) -> f32 {
    let magnitude = bits & 0x7fffu;
    var value = f32(magnitude) * 0x1p-24;
    if magnitude >= 0x400u {
        value = bitcast<f32>((magnitude << 13u) + 0x38000000u);
    }
    return select(value, -value, (bits & 0x8000u) != 0u);
}

// The two f16 of a word.
fn half_floats(word: u32) -> vec2<f32> {
    return vec2<f32>(half_float(word & 0xffffu), half_float(word >> 16u));
}
