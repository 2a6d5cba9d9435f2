//! Tensors as files hold them to matrices as devices hold them. No number changes its value.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::nn::gguf::TensorType;
use crate::nn::packed::{Format, PackedMatrix};

/// Packs the bytes of a tensor of `[rows, columns]`, which are as many as its type calls for. Half floats in rows of odd
/// length become f32. The error says what is wrong with the numbers.
pub(super) fn pack(kind: TensorType, [rows, columns]: [usize; 2], bytes: &[u8]) -> Result<PackedMatrix, String> {
    let odd = !columns.is_multiple_of(2);
    let (format, words) = match kind {
        TensorType::F32 => (Format::F32, words(bytes)),
        TensorType::F16 if odd => (Format::F32, widen(bytes, |bits| f16::from_bits(bits).to_f32())),
        TensorType::Bf16 if odd => (Format::F32, widen(bytes, |bits| bf16::from_bits(bits).to_f32())),
        TensorType::F16 => (Format::F16, words(bytes)),
        TensorType::Bf16 => (Format::Bf16, words(bytes)),
        TensorType::Q8_0 => (Format::Q8, bytes.as_chunks::<34>().0.iter().flat_map(q8_0).collect()),
        TensorType::Q4_0 => {
            let mut packed = Vec::with_capacity(bytes.len() / 18 * 5);
            for (block, bytes) in bytes.as_chunks::<18>().0.iter().enumerate() {
                packed.extend(q4_0(bytes).ok_or_else(|| format!("the scale of block {block} is too large"))?);
            }
            (Format::Q4, packed)
        }
        // Scale, least and bytes stand in the very order of the packed format.
        TensorType::Q4_1 => (Format::Q4, words(bytes)),
    };
    let matrix = PackedMatrix { format, rows, columns, words };
    let wrong = |row: usize| {
        let numbers = matrix.row(row);
        let column = numbers.iter().position(|number| !number.is_finite())?;
        Some(format!("element {} is {}", row * columns + column, numbers.get(column)?))
    };
    match (0..rows).into_par_iter().find_map_first(wrong) {
        Some(problem) => Err(problem),
        None => Ok(matrix),
    }
}

/// Reorders the rows of heads of `head` rows whose rotary pairs are a half apart, to pairs of neighbours.
pub(super) fn pair(matrix: &PackedMatrix, head: usize) -> PackedMatrix {
    let length = matrix.format.words(matrix.columns);
    let mut words = Vec::with_capacity(matrix.words.len());
    for rows in matrix.words.chunks_exact(length * head) {
        let (first, second) = rows.split_at(length * head / 2);
        for (first, second) in first.chunks_exact(length).zip(second.chunks_exact(length)) {
            words.extend_from_slice(first);
            words.extend_from_slice(second);
        }
    }
    PackedMatrix { words, ..*matrix }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}

fn widen(bytes: &[u8], number: impl Fn(u16) -> f32) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|bits| number(u16::from_le_bytes(*bits)).to_bits()).collect()
}

fn q8_0(block: &[u8; 34]) -> [u32; 9] {
    let [lower, upper, counts @ ..] = block;
    let mut packed = [f16::from_le_bytes([*lower, *upper]).to_f32().to_bits(); 9];
    for (word, four) in packed.iter_mut().skip(1).zip(counts.as_chunks().0) {
        *word = u32::from_le_bytes(*four);
    }
    packed
}

/// `None` where the least number, which is -8 times the scale, is beyond f16; where it is not, it is exact.
fn q4_0(block: &[u8; 18]) -> Option<[u32; 5]> {
    let [lower, upper, counts @ ..] = block;
    let scale = f16::from_le_bytes([*lower, *upper]);
    let least = f16::from_f32(-8.0 * scale.to_f32());
    if !least.is_finite() {
        return None;
    }
    let mut packed = [u32::from(scale.to_bits()) | u32::from(least.to_bits()) << 16; 5];
    for (word, four) in packed.iter_mut().skip(1).zip(counts.as_chunks().0) {
        *word = u32::from_le_bytes(*four);
    }
    Some(packed)
}
