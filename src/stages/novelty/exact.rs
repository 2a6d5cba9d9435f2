//! Similarities in integers: products of rows in 32768ths, cosines in 2^30ths.
#![deny(clippy::float_arithmetic)]

use bytemuck::bytes_of;

use super::products::{KERNEL, Params, workgroups};
use crate::Result;
use crate::device::{Binding, Call, Device};
use crate::nn::exact::row::ONE;
use crate::nn::math::ratio;

/// Writes the keys of all pairs to `out`: the products themselves.
pub(super) fn similarities(
    device: &Device,
    [queries, candidates]: [Binding<'_>; 2],
    [rows, columns, words]: [usize; 3],
    out: Binding<'_>,
) -> Result<()> {
    let params = Params { queries: rows as u32, candidates: columns as u32, words: words as u32 };
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
pub(super) const SAME: i32 = ONE as i32;

/// Novelty and the largest similarity of a list of keys that is not empty: sums of integers, and then one division each.
pub(super) fn read(keys: &[i32]) -> (f64, f64) {
    let whole = keys.len() as i64 * ONE;
    let sum: i64 = keys.iter().map(|key| i64::from(*key)).sum();
    (ratio((whole - sum).clamp(0, whole), whole), ratio(i64::from(keys[0]).clamp(-ONE, ONE), ONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelty_is_one_less_the_mean_and_stays_in_its_range() {
        assert_eq!(read(&[1 << 30]), (0.0, 1.0), "the same row");
        assert_eq!(read(&[(1 << 30) + 5]), (0.0, 1.0), "the same row, a little longer than 1");
        assert_eq!(read(&[-(1 << 30)]), (1.0, -1.0), "the opposite");
        assert_eq!(read(&[1 << 29, 1 << 28, 0]), (0.75, 0.5), "a mean");
        assert_eq!(read(&[i32::MAX; 16]).0, 0.0, "sums need more than 32 bits");
    }
}
