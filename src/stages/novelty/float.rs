//! Similarities in floats: cosines as `nn/linear` makes them.
#![expect(clippy::float_arithmetic, reason = "the precision for models that have no integer form")]

use bytemuck::bytes_of;

use super::nearest::turned;
use crate::Result;
use crate::device::{Binding, Call, Device};
use crate::nn::linear::{KERNEL, Params, workgroups};
use crate::nn::packed::Format;

/// Writes the cosines of all pairs to `out`.
pub(super) fn similarities(
    device: &Device,
    [queries, candidates]: [Binding<'_>; 2],
    [rows, columns, words]: [usize; 3],
    out: Binding<'_>,
) -> Result<()> {
    let params = Params {
        rows: rows as u32,
        columns: columns as u32,
        depth: words as u32,
        format: Format::F32 as u32,
        pitch: columns as u32,
        first: 0,
    };
    device.dispatch(
        &KERNEL,
        &Call {
            constants: &[],
            params: bytes_of(&params),
            bindings: &[queries, candidates, out],
            workgroups: workgroups(rows, columns),
        },
    )
}

/// The key of equal rows.
pub(super) const SAME: i32 = 1.0_f32.to_bits() as i32;

/// Novelty and the largest similarity of a list of keys that is not empty.
pub(super) fn read(keys: &[i32]) -> (f64, f64) {
    let cosine = |key: &i32| f64::from(f32::from_bits(turned(*key).cast_unsigned()));
    let mean = keys.iter().map(cosine).sum::<f64>() / keys.len() as f64;
    ((1.0 - mean).clamp(0.0, 1.0), cosine(&keys[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_floats() {
        let floats = [-2.0_f32, -1.0, -0.5, -1e-30, 0.0, 1e-30, 0.5, 0.999_999_9, 1.0];
        let keys = floats.map(|float| turned(float.to_bits().cast_signed()));
        assert!(keys.is_sorted(), "{keys:?}");
        for (float, key) in floats.iter().zip(keys) {
            assert_eq!(read(&[key]).1, f64::from(*float), "and back");
        }
        let key = |float: f32| turned(float.to_bits().cast_signed());
        assert_eq!(read(&[key(0.5), key(0.25), key(0.0)]), (0.75, 0.5), "a mean");
    }
}
