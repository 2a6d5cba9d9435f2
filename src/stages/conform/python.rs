//! What the SDKs take from Python: `sum`, `min`, `max`, division, and how numbers are written.

use super::SdkError;

/// Python, as far as results depend on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// Up to 3.11: `sum` of floats adds one after the other.
    #[default]
    Py311,
    /// From 3.12 on: `sum` of floats carries what was lost along (Neumaier 1974).
    Py312,
}

impl Version {
    /// Those that make a difference, by their names.
    pub const ALL: [(&'static str, Self); 2] = [("3.11", Self::Py311), ("3.12", Self::Py312)];
}

/// `sum` of floats, from left to right.
pub fn sum(values: &[f64], version: Version) -> f64 {
    if version == Version::Py311 {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    let (mut sum, mut lost) = (0.0_f64, 0.0_f64);
    for &value in values {
        let next = sum + value;
        lost += if sum.abs() >= value.abs() { (sum - next) + value } else { (value - next) + sum };
        sum = next;
    }
    // An infinite sum loses NaN.
    if lost != 0.0 && lost.is_finite() { sum + lost } else { sum }
}

/// `a / b`.
///
/// # Errors
/// [`SdkError::ZeroDivision`] if b is 0.
pub fn divide(a: f64, b: f64) -> Result<f64, SdkError> {
    if b == 0.0 { Err(SdkError::ZeroDivision) } else { Ok(a / b) }
}

/// `min`: the first that no later one is below. NaN in the first place stays, and is passed over elsewhere.
pub fn min<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    values.iter().copied().reduce(|least, value| if value < least { value } else { least })
}

/// `max`, likewise.
pub fn max<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    values.iter().copied().reduce(|most, value| if value > most { value } else { most })
}

/// `repr` of a list.
pub(super) fn list<T>(values: &[T], repr: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(repr).collect::<Vec<_>>().join(", "))
}

/// `repr` of a float: the fewest digits that give it back, the nearest of these, of two the even one; with an exponent below 1e-4 and from
/// 1e16 on.
pub(super) fn repr(value: f64) -> String {
    // Rust has as few digits, but rounds halves up; told how many, it rounds them to even.
    let shortest = format!("{value:e}");
    let Some((digits, Ok(exponent))) = shortest.split_once('e').map(|(digits, e)| (digits, e.parse::<i32>())) else {
        return shortest.to_lowercase();
    };
    let decimals = digits.trim_start_matches('-').len().saturating_sub(2);
    let gives_back = |text: &String| text.parse() == Ok(value);
    if (-4..16).contains(&exponent) {
        let decimals = usize::try_from(decimals as i32 - exponent).unwrap_or(0).max(1);
        return Some(format!("{value:.decimals$}")).filter(gives_back).unwrap_or_else(|| format!("{value:?}"));
    }
    let text = Some(format!("{value:.decimals$e}")).filter(gives_back).unwrap_or(shortest);
    let digits = text.split('e').next().unwrap_or_default();
    format!("{digits}e{exponent:+03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_what_naive_addition_loses_from_3_12_on() {
        let sums = |values: &[f64]| Version::ALL.map(|(_, version)| sum(values, version));
        assert_eq!(sums(&[1e16, 1.0, 1.0, -1e16]), [0.0, 2.0], "two ones below the last digit");
        assert_eq!(sums(&[0.1; 10]), [0.999_999_999_999_999_9, 1.0], "ten tenths");
        assert_eq!(sums(&[]), [0.0, 0.0], "nothing");
        assert_eq!(sums(&[1e308, 1e308]), [f64::INFINITY, f64::INFINITY], "no NaN of what an overflow loses");
        assert!(sums(&[f64::INFINITY, f64::NEG_INFINITY]).iter().all(|sum| sum.is_nan()), "opposite infinities");
    }

    #[test]
    fn min_and_max_keep_nan_in_the_first_place_only() {
        assert!(min(&[f64::NAN, -1.0]).is_some_and(f64::is_nan), "it hides what is below");
        assert_eq!(min(&[1.0, f64::NAN, -1.0]), Some(-1.0), "later ones are passed over");
        assert_eq!(max(&[0.0, f64::NAN]), Some(0.0), "in either direction");
        assert_eq!(max::<f64>(&[]), None, "of nothing");
    }

    #[test]
    fn floats_are_written_as_python_does() {
        let cases = [
            (-1.0, "-1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (f64::from(0.1_f32), "0.10000000149011612"),
            (1e-4, "0.0001"),
            (9.9e-5, "9.9e-05"),
            (1e-45, "1e-45"),
            (5e-324, "5e-324"),
            (1e15, "1000000000000000.0"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e16, "1e+16"),
            (-1e300, "-1e+300"),
            (12.5, "12.5"),
            (100.0, "100.0"),
            // Halfway between two of as many digits.
            (f64::from(11.969_925_f32), "11.969924926757812"),
            (f64::from(8.241_714_5_f32), "8.241714477539062"),
            (f64::from(0.019_975_662_f32), "0.019975662231445312"),
            (2_f64.powi(-44), "5.684341886080802e-14"),
            (9_007_199_254_740_993.0, "9007199254740992.0"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (value, right) in cases {
            assert_eq!(repr(value), right, "{value:e}");
        }
    }
}
