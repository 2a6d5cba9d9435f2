//! Matrices as devices hold them: rows of 32-bit words, quantised weights still quantised.
//!
//! A row is a whole number of words, so that a kernel finds it by its index. Blocks are of 32 numbers, as in GGUF
//! (`ggml-common.h` of llama.cpp: `block_q8_0`, `block_q4_1`), with the bytes brought to words.

use std::array::from_fn;

use half::slice::HalfFloatSliceExt;
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

    /// The numbers of `N` rows side by side, or of the same part of each: `words [words][N]` to `numbers [numbers][N]`.
    #[inline(always)]
    pub fn expand<const N: usize>(self, words: &[[u32; N]], numbers: &mut [[f32; N]]) {
        match self {
            Self::F32 => {
                for (number, word) in numbers.iter_mut().zip(words) {
                    *number = word.map(f32::from_bits);
                }
            }
            Self::F16 => {
                for (two, word) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                    *two = halves(word);
                }
            }
            Self::Bf16 => {
                for (two, word) in numbers.as_chunks_mut::<2>().0.iter_mut().zip(words) {
                    *two = [0, 16].map(|shift| word.map(|word| bf16::from_bits((word >> shift) as u16).to_f32()));
                }
            }
            Self::Q8 => {
                for (numbers, block) in numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(words.as_chunks::<9>().0) {
                    let scales = block[0].map(f32::from_bits);
                    for (numbers, word) in numbers.as_chunks_mut::<4>().0.iter_mut().zip(&block[1..]) {
                        for (byte, numbers) in numbers.iter_mut().enumerate() {
                            *numbers = from_fn(|row| scales[row] * f32::from((word[row] >> (8 * byte)) as i8));
                        }
                    }
                }
            }
            Self::Q4 => {
                for (numbers, block) in numbers.as_chunks_mut::<BLOCK>().0.iter_mut().zip(words.as_chunks::<5>().0) {
                    let [scales, least] = halves(&block[0]);
                    for (index, numbers) in numbers.iter_mut().enumerate() {
                        let byte = index % (BLOCK / 2);
                        let shift = 8 * (byte % 4) + if index < BLOCK / 2 { 0 } else { 4 };
                        let word = &block[1 + byte / 4];
                        *numbers = from_fn(|row| scales[row] * f32::from((word[row] >> shift) as u8 & 15) + least[row]);
                    }
                }
            }
        }
    }
}

/// The lower and the upper halves of `words`, each an f16.
#[inline(always)]
fn halves<const N: usize>(words: &[u32; N]) -> [[f32; N]; 2] {
    [0, 16].map(|shift| {
        let mut numbers = [0.0; N];
        words.map(|word| f16::from_bits((word >> shift) as u16)).convert_to_f32_slice(&mut numbers);
        numbers
    })
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
        self.format.expand::<1>(self.words[row * words..][..words].as_chunks().0, numbers.as_chunks_mut().0);
        numbers
    }
}
