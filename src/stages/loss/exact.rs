//! 1 - cosine of pairs of rows in integers. One product a pair is too little to send to a device: the host makes them.
#![deny(clippy::float_arithmetic)]

use crate::device::vectorised;
use crate::nn::exact::row::{ONE, cosine};
use crate::nn::math::ratio;

/// The loss of each pair of rows of `values [rows][width]`: an integer in 2^30ths, brought to a float at the end.
pub(super) fn losses(width: usize, values: &[i16], responses: &[u32], references: &[u32]) -> Vec<f64> {
    let row = |index: u32| &values[index as usize * width..][..width];
    vectorised(
        #[inline(always)]
        || {
            let pairs = responses.iter().zip(references);
            pairs
                .map(|(response, reference)| {
                    let cosine = cosine(row(*response), row(*reference));
                    ratio((ONE - cosine).clamp(0, 2 * ONE), ONE)
                })
                .collect()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_one_less_the_cosine() {
        let values = [32_767, 0, 0, -32_768, -32_768, 0, 23_170, 23_170];
        let losses = losses(2, &values, &[0, 0, 1, 2, 3], &[0, 1, 1, 0, 1]);
        let unit = f64::from(1 << 30);
        let right = [0.0, 1.0, 0.0, 1.0 + 32_767.0 * 32_768.0 / unit, 1.0 + 23_170.0 / 32_768.0];
        assert_eq!(losses, right, "each pair's");
    }
}
