//! Rank correlations: whether two lists put the same things into the same order.

/// Spearman's rank correlation of two lists of the same length, -1 to 1: Pearson's correlation of the ranks, equal numbers sharing
/// their mean rank. `None` where one of the lists has no order: fewer than two numbers, or all of them equal.
pub fn spearman(left: &[f64], right: &[f64]) -> Option<f64> {
    let (left, right) = (deviations(left), deviations(right));
    let sum = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let (own, other) = (sum(&left, &left), sum(&right, &right));
    (own > 0.0 && other > 0.0).then(|| (sum(&left, &right) / (own.sqrt() * other.sqrt())).clamp(-1.0, 1.0))
}

/// Spearman's rank correlation of two lists with the ranks of a third, `given`, held fixed: the partial correlation of the three lists'
/// ranks. `None` where one of the lists has no order, or where `given` alone tells the order of another.
pub fn partial_spearman(left: &[f64], right: &[f64], given: &[f64]) -> Option<f64> {
    let (both, of_left, of_right) = (spearman(left, right)?, spearman(left, given)?, spearman(right, given)?);
    let [left, right] = [of_left, of_right].map(|with_given| 1.0 - with_given * with_given);
    // Less than what two swapped neighbours of 10,000 leave is rounding.
    let any = left > 1e-12 && right > 1e-12;
    any.then(|| ((both - of_left * of_right) / (left * right).sqrt()).clamp(-1.0, 1.0))
}

/// How far the rank of each number lies from the mean rank; equal numbers share the mean of their ranks. Multiples of a half, and
/// so exact.
fn deviations(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|a, b| numbers[*a].total_cmp(&numbers[*b]));
    let mut deviations = vec![0.0; numbers.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| numbers[*a] == numbers[*b]) {
        let after = numbers.len() - before - equal.len();
        for index in equal {
            deviations[*index] = (before as f64 - after as f64) / 2.0;
        }
        before += equal.len();
    }
    deviations
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values are those of `scipy.stats.spearmanr` 1.17.1.
    #[test]
    fn spearman_is_scipys() {
        let cases: [(&str, &[f64], &[f64], f64); 8] = [
            ("the same order", &[1.0, 2.0, 3.0, 4.0, 5.0], &[-7.0, 0.0, 0.1, 2.0, 1e9], 1.0),
            ("the other order", &[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 4.0, 3.0, 2.0, 1.0], -1.0),
            ("one swap", &[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 4.0], 0.8),
            (
                "ties that overlap",
                &[0.5, 0.5, 0.1, 0.9, -2.0, 0.5],
                &[3.0, 1.0, 1.0, 4.0, 2.0, 2.0],
                0.5627748595326502,
            ),
            (
                "ties on both sides",
                &[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 3.0],
                &[2.0, 1.0, 2.0, 5.0, 4.0, 4.0, 9.0],
                0.7313103409735261,
            ),
            ("the zeros are equal", &[-0.0, 0.0, 1.0, -1.0], &[1.0, 2.0, 3.0, 0.0], 0.9486832980505139),
            ("all sizes", &[1e-300, 2e-300, 1e300, -1e300], &[5.0, 5.0, 5.0, 4.75], 0.7745966692414834),
            (
                "against each other",
                &[106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0],
                &[7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0],
                -0.17575757575757575,
            ),
        ];
        for (what, left, right, expected) in cases {
            for (left, right) in [(left, right), (right, left)] {
                let found = spearman(left, right).expect("an order");
                assert!((found - expected).abs() < 1e-14, "{what}: {found} where scipy has {expected}");
            }
        }
        let left: Vec<f64> = (0..200_u64).map(|i| (i * i * 7919 % 101) as f64).collect();
        let noise: Vec<f64> = (0..200_u64).map(|i| ((i * i * 31 + i * 17) % 13) as f64).collect();
        let mixed: Vec<f64> = left.iter().zip(&noise).map(|(left, noise)| (left / 5.0).floor() + noise).collect();
        for (right, expected) in [(noise, 0.038574219849883636), (mixed, 0.798912559401229)] {
            let found = spearman(&left, &right).expect("an order");
            assert!((found - expected).abs() < 1e-14, "many ties: {found} where scipy has {expected}");
        }
    }

    /// Expected values are Pearson's correlation (scipy 1.17.1) of what is left of the ranks after a linear fit on the third list's ranks.
    #[test]
    fn what_a_third_list_explains_is_taken_out() {
        let a = [106.0, 100.0, 86.0, 101.0, 99.0, 103.0, 97.0, 113.0, 112.0, 110.0];
        let b = [7.0, 27.0, 2.0, 50.0, 28.0, 29.0, 20.0, 12.0, 6.0, 17.0];
        let c = [1.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 34.0];
        for (left, right, given, expected) in
            [(a, b, c, -0.13200253546303434), (a, c, b, 0.5210019232160538), (b, c, a, -0.03440960696644439)]
        {
            for (left, right) in [(left, right), (right, left)] {
                let found = partial_spearman(&left, &right, &given).expect("an order");
                assert!((found - expected).abs() < 1e-12, "{found} where scipy has {expected}");
            }
        }
        assert_eq!(partial_spearman(&a, &b, &a), None, "the third is one of the two");
        assert_eq!(partial_spearman(&a, &b, &[1.0; 10]), None, "the third has no order");
    }

    #[test]
    fn without_an_order_there_is_no_correlation() {
        for (left, right) in
            [(&[][..], &[][..]), (&[1.0], &[2.0]), (&[1.0, 1.0], &[1.0, 2.0]), (&[0.0, -0.0], &[1.0, 2.0])]
        {
            assert_eq!(spearman(left, right), None, "{left:?} {right:?}");
            assert_eq!(spearman(right, left), None, "{right:?} {left:?}");
        }
    }
}
