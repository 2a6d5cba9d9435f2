//! Elementary functions of the float twins, branch-free so that they vectorise, and the same formulas as in
//! `shaders/shared/activation.wgsl`.

use crate::device::vectorised;

/// e^x to within 2 units in the last place for x in [-87, 88], and its end values beyond.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 is split so that n times its upper part is exact.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    // Minimax coefficients for (e^r - 1 - r) / r^2 on that range.
    let tail =
        0.5 + r * (0.166_666_65 + r * (0.041_665_796 + r * (8.333_452e-3 + r * (1.398_2e-3 + r * 1.987_569_2e-4))));
    let series = 1.0 + (r + r * r * tail);
    series * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

/// Abramowitz and Stegun 7.1.26: absolute error below 1.5e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = t * (0.254_829_6 + t * (-0.284_496_72 + t * (1.421_413_8 + t * (-1.453_152 + t * 1.061_405_4))));
    (1.0 - p * exp(-a * a)).copysign(x)
}

#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs().min(10.0));
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// `numerator / denominator`, the same on every machine: below 2^53 both are exact, and the division alone rounds. This is where
/// the numbers of the exact path become floats.
pub(crate) fn ratio(numerator: i64, denominator: i64) -> f64 {
    numerator as f64 / denominator as f64
}

/// What follows a linear layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Activation {
    /// Nothing.
    #[default]
    None = 0,
    /// x Phi(x), with the error function.
    Gelu = 1,
    /// The tanh approximation of GELU (`gelu_new`, `gelu_pytorch_tanh`).
    GeluTanh = 2,
    /// max(x, 0).
    Relu = 3,
}

impl Activation {
    /// Adds `bias` to each row of `rows` and applies the activation, in place.
    pub(crate) fn apply(self, rows: &mut [f32], bias: Option<&[f32]>, columns: usize) {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.chunks_exact_mut(columns) {
                    if let Some(bias) = bias {
                        for (value, bias) in row.iter_mut().zip(bias) {
                            *value += bias;
                        }
                    }
                    match self {
                        Self::None => {}
                        Self::Gelu => {
                            for value in row {
                                *value = 0.5 * *value * (1.0 + erf(*value * std::f32::consts::FRAC_1_SQRT_2));
                            }
                        }
                        Self::GeluTanh => {
                            for value in row {
                                let x = *value;
                                *value = 0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)));
                            }
                        }
                        Self::Relu => {
                            for value in row {
                                *value = value.max(0.0);
                            }
                        }
                    }
                }
            },
        );
    }

    pub(crate) fn from_code(code: u32) -> Self {
        [Self::None, Self::Gelu, Self::GeluTanh, Self::Relu]
            .into_iter()
            .find(|kind| *kind as u32 == code)
            .unwrap_or_default()
    }
}

const LANES: usize = 16;

/// The sum of `term(x[i])`, in sixteen interleaved sums that are then added in pairs.
#[inline(always)]
pub(crate) fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = term(*value);
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += term(*value);
        }
    }
    fold(lanes, |a, b| a + b)
}

/// The dot product of `x` and `y`, in the same order as [`sum`].
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (chunks_x, chunks_y) = (x.chunks_exact(LANES), y.chunks_exact(LANES));
    for (lane, (x, y)) in lanes.iter_mut().zip(chunks_x.remainder().iter().zip(chunks_y.remainder())) {
        *lane = x * y;
    }
    for (x, y) in chunks_x.zip(chunks_y) {
        for (lane, (x, y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    fold(lanes, |a, b| a + b)
}

/// The largest of `x` and of `least`. What is not a number is passed over.
#[inline(always)]
pub(crate) fn largest(x: &[f32], least: f32) -> f32 {
    // An instruction of its own, which `f32::max` is not.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [least; LANES];
    let chunks = x.chunks_exact(LANES);
    for (lane, value) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = larger(*lane, *value);
    }
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, *value);
        }
    }
    fold(lanes, larger)
}

/// Brings the lanes together in pairs: 8, then 4, 2, 1.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], bring: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = bring(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut worst = 0;
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let right = f64::from(x).exp() as f32;
            worst = worst.max(exp(x).to_bits().abs_diff(right.to_bits()));
        }
        assert!(worst <= 2, "{worst} units in the last place");
        assert_eq!(exp(0.0), 1.0, "e^0");
        assert_eq!(exp(-1e30), exp(-87.0), "far below, the smallest value");
    }

    #[test]
    fn erf_is_within_its_stated_error() {
        // Values of the error function to ten digits (Abramowitz and Stegun, table 7.1).
        for (x, right) in
            [(0.0_f32, 0.0_f64), (0.1, 0.112462916), (0.5, 0.520499878), (1.0, 0.842700793), (2.0, 0.995322265)]
        {
            assert!((f64::from(erf(x)) - right).abs() < 3e-7, "erf({x}) = {}", erf(x));
            assert!((f64::from(erf(-x)) + right).abs() < 3e-7, "erf is odd at {x}");
        }
    }

    #[test]
    fn tanh_is_close_near_zero_and_saturates() {
        for x in [1e-6_f32, 1e-3, 0.1, 0.7, 3.0, 9.0, 50.0] {
            assert!((tanh(x) - x.tanh()).abs() < 2e-7, "tanh({x}) = {}", tanh(x));
        }
    }
}
