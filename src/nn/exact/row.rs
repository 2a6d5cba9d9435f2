//! What twins do with one row of integers: norms, unit rows, inputs of matrix products.
#![deny(clippy::float_arithmetic)]

use super::arithmetic::{Reciprocal, Scaling, Step, gained, largest, mean, split};
use crate::device::Data;

/// The most numbers in a row that a norm takes: what a workgroup of 64 holds.
pub(crate) const WIDEST: usize = 1024;

/// Replaces `row` by its scaled numbers; returns the reciprocal length.
#[inline(always)]
pub(super) fn scale(row: &mut [i32]) -> Reciprocal {
    let scaling = Scaling::new(largest(row));
    // Sums of the squares' lower and upper 16 bits: of up to 2^16 squares they fit 32 bits.
    let (mut lower, mut upper) = (0, 0);
    for x in &mut *row {
        *x = scaling.apply(*x);
        let square = (*x * *x) as u32;
        lower += square & 0xffff;
        upper += square >> 16;
    }
    Reciprocal::new(u64::from(lower) + (u64::from(upper) << 16))
}

/// Gains and biases of a norm, each side by side.
pub(super) struct Norm {
    gain: Vec<i32>,
    bias: Vec<i32>,
}

impl Norm {
    /// From what [`pack_norm`] laid out.
    pub(super) fn new(packed: &[[i32; 8]]) -> Self {
        let half = |from: usize| packed.iter().flat_map(|eight| &eight[from..from + 4]).copied().collect();
        Self { gain: half(0), bias: half(4) }
    }
}

/// LayerNorm of `row`, in place.
#[inline(always)]
pub(super) fn normalise(row: &mut [i32], norm: &Norm) {
    let sum = row.iter().fold(0_i32, |sum, x| sum.wrapping_add(*x));
    let mean = mean(sum, row.len() as i32);
    for x in &mut *row {
        *x = x.wrapping_sub(mean);
    }
    let reciprocal = scale(row);
    for (x, (gain, bias)) in row.iter_mut().zip(norm.gain.iter().zip(&norm.bias)) {
        *x = gained(*x, reciprocal, *gain, *bias);
    }
}

/// Makes inputs of a matrix product of `row`, and returns their step.
#[inline(always)]
pub(super) fn quantise(row: &[i32], quantised: &mut [[u32; 2]]) -> u32 {
    /// Numbers that are brought to bytes before those become words: either is a loop that vectors take as it stands.
    const PART: usize = 256;
    let step = Step::of_14(largest(row));
    let (mut high, mut low) = ([0; PART], [0; PART]);
    for (numbers, words) in row.chunks(PART).zip(quantised.chunks_mut(PART / 4)) {
        for ((high, low), x) in high.iter_mut().zip(&mut low).zip(numbers) {
            let (upper, lower) = split(step.count(*x));
            (*high, *low) = (upper as u8, lower as u8);
        }
        for (word, (high, low)) in words.iter_mut().zip(high.as_chunks().0.iter().zip(low.as_chunks().0)) {
            *word = [*high, *low].map(u32::from_le_bytes);
        }
    }
    step.size
}

/// Gains and biases as the device holds them: four of the one, then four of the other.
pub(crate) fn pack_norm(gain: &[i32], bias: &[i32]) -> Vec<i32> {
    gain.chunks(4).zip(bias.chunks(4)).flat_map(|(gain, bias)| [gain, bias].concat()).collect()
}

/// Four signed bytes a word, as the device holds weights.
pub(crate) fn pack_bytes(bytes: &[i8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|four| u32::from_le_bytes([0, 1, 2, 3].map(|at| four[at] as u8))).collect()
}

/// Two signed numbers of 16 bits a word, as the device holds embeddings; a last one alone is followed by 0.
pub(crate) fn pack_halves(halves: &[i16]) -> Vec<u32> {
    let word = |two: &[i16]| u32::from(two[0] as u16) | two.get(1).map_or(0, |upper| u32::from(*upper as u16) << 16);
    halves.chunks(2).map(word).collect()
}

/// The two signed numbers of a word.
#[inline(always)]
pub(crate) fn unpack_halves(word: u32) -> [i16; 2] {
    [word as i16, (word >> 16) as i16]
}

/// A row of unit length times itself, and so 1 as a product of two rows.
pub(crate) const ONE: i64 = 1 << 30;

/// The product of two rows: the sum of the products of their numbers, modulo 2^32. Of unit rows it is the cosine in 2^30ths.
#[inline(always)]
fn dot(x: &[i16], y: &[i16]) -> i32 {
    x.iter().zip(y).fold(0_i32, |sum, (x, y)| sum.wrapping_add(i32::from(*x).wrapping_mul(i32::from(*y))))
}

/// The cosine of two unit rows in 2^30ths: their product, and for equal rows 1, which rounded rows would miss by up to 1e-4.
#[inline(always)]
pub(crate) fn cosine(x: &[i16], y: &[i16]) -> i64 {
    if x == y { ONE } else { i64::from(dot(x, y)) }
}

/// The contents of a binding of a sample.
pub(super) fn data(values: &[i32]) -> Data {
    Data::U32(bytemuck::cast_slice(values).to_vec())
}
