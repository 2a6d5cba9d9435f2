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
