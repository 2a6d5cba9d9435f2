//! Matrices as devices hold them: rows of 32-bit words, quantised weights still quantised.
//!
//! A row is a whole number of words, so that a kernel finds it by its index. Blocks are of 32 numbers, as in GGUF
//! (`ggml-common.h` of llama.cpp: `block_q8_0`, `block_q4_1`), with the bytes brought to words.

use half::{bf16, f16};

/// Numbers in a block of a quantised row.
pub const BLOCK: usize = 32;

/// How the numbers of a row lie in its words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Format {
    /// One f32 a word.
    F32 = 0,
    /// Two f16 a word, the first in the lower half.
    F16 = 1,
    /// Two bf16 a word, the first in the lower half.
    Bf16 = 2,
    /// Blocks of nine words: the scale as f32, then 32 signed bytes q; a number is scale * q.
    Q8 = 3,
    /// Blocks of five words: scale and least as f16, the scale in the lower half, then 16 bytes; the lower four bits of byte i are q of
    /// number i, the upper four that of number i + 16; a number is scale * q + least.
    Q4 = 4,
}

impl Format {
    /// From the number that kernels know it by; F32 for any other.
    pub(crate) fn from_code(code: u32) -> Self {
        [Self::F16, Self::Bf16, Self::Q8, Self::Q4]
            .into_iter()
            .find(|format| *format as u32 == code)
            .unwrap_or(Self::F32)
    }

    /// Numbers that cannot be parted: a row holds a multiple of them.
    pub fn group(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::F16 | Self::Bf16 => 2,
            Self::Q8 | Self::Q4 => BLOCK,
        }
    }

    /// Words that a row of `columns` numbers takes, a multiple of [`Format::group`].
    pub fn words(self, columns: usize) -> usize {
        match self {
            Self::F32 => columns,
            Self::F16 | Self::Bf16 => columns / 2,
            Self::Q8 => columns / BLOCK * 9,
            Self::Q4 => columns / BLOCK * 5,
        }
    }

    /// The numbers of `words`, a row or a part of one.
    #[inline(always)]
    pub fn expand(self, words: &[u32], numbers: &mut [f32]) {
        match self {
            Self::F32 => numbers.copy_from_slice(bytemuck::cast_slice(words)),
            Self::F16 => {
                for (two, word) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                    *two = [*word as u16, (*word >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32());
                }
            }
            Self::Bf16 => {
                for (two, word) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                    *two = [*word as u16, (*word >> 16) as u16].map(|bits| bf16::from_bits(bits).to_f32());
                }
            }
            Self::Q8 => {
                for (numbers, block) in numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(words.as_chunks::<9>().0) {
                    let scale = f32::from_bits(block[0]);
                    let counts: &[i8] = bytemuck::cast_slice(&block[1..]);
                    for (number, count) in numbers.iter_mut().zip(counts) {
                        *number = scale * f32::from(*count);
                    }
                }
            }
            Self::Q4 => {
                for (numbers, block) in numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(words.as_chunks::<5>().0) {
                    let [scale, least] =
                        [block[0] as u16, (block[0] >> 16) as u16].map(|bits| f16::from_bits(bits).to_f32());
                    let counts: &[u8] = bytemuck::cast_slice(&block[1..]);
                    let (lower, upper) = numbers.split_at_mut(BLOCK / 2);
                    for ((lower, upper), byte) in lower.iter_mut().zip(upper).zip(counts) {
                        *lower = scale * f32::from(byte & 15) + least;
                        *upper = scale * f32::from(byte >> 4) + least;
                    }
                }
            }
        }
    }
}

/// A matrix `[rows][columns]`, row by row; as weights of a linear layer a row is an output.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    /// How a row lies in its words.
    pub format: Format,
    /// Rows.
    pub rows: usize,
    /// Numbers in a row.
    pub columns: usize,
    /// `rows` times [`Format::words`] of `columns`.
    pub words: Vec<u32>,
}

impl PackedMatrix {
    /// The numbers of one row.
    pub fn row(&self, row: usize) -> Vec<f32> {
        let words = self.format.words(self.columns);
        let mut numbers = vec![0.0; self.columns];
        self.format.expand(&self.words[row * words..][..words], &mut numbers);
        numbers
    }
}
