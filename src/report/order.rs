//! An order in which who is alike stands together.

/// Leaves of the tree that average linkage builds, from left to right. `similarity` is `[n][n]` and symmetric. Of equal pairs the first is
/// joined first, and of two parts the one with the smaller index stands left, so that the order is always the same.
pub(super) fn order(n: usize, similarity: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut parts: Vec<Vec<usize>> = (0..n).map(|leaf| vec![leaf]).collect();
    let mut linked: Vec<Vec<f64>> = (0..n).map(|a| (0..n).map(|b| similarity(a, b)).collect()).collect();
    while parts.len() > 1 {
        let mut best = (0, 1);
        for a in 0..parts.len() {
            for b in a + 1..parts.len() {
                if linked[a][b] > linked[best.0][best.1] {
                    best = (a, b);
                }
            }
        }
        let (a, b) = best;
        let [size_a, size_b] = [a, b].map(|part| parts[part].len() as f64);
        // The row of what is joined, and then its column, which is the same.
        let means: Vec<f64> = (linked[a].iter().zip(&linked[b]))
            .map(|(of_a, of_b)| (of_a * size_a + of_b * size_b) / (size_a + size_b))
            .collect();
        linked.iter_mut().zip(&means).for_each(|(row, mean)| row[a] = *mean);
        linked[a] = means;
        let joined = parts.remove(b);
        parts[a].extend(joined);
        linked.remove(b);
        for row in &mut linked {
            row.remove(b);
        }
    }
    parts.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn who_is_alike_stands_together() {
        // 0, 3 and 5 are one ring, 1 and 4 another; 2 is like nobody.
        let ring = [0, 1, 2, 0, 1, 0];
        let found = order(6, |a, b| if ring[a] == ring[b] { 0.9 } else { 0.1 });
        let rings: Vec<i32> = found.iter().map(|leaf| ring[*leaf]).collect();
        assert_eq!(rings, [0, 0, 0, 1, 1, 2], "{found:?}");
        assert_eq!(order(3, |_, _| f64::NAN), [0, 1, 2], "whatever the numbers");
        assert_eq!(order(0, |_, _| 0.0), [0; 0], "nobody");
        // 2 is nearest to the pair (0, 3) by its best, but not by its mean: it goes with 1 first.
        let chain = [[1.0, 0.0, 0.2, 0.9], [0.0, 1.0, 0.5, 0.0], [0.2, 0.5, 1.0, 0.7], [0.9, 0.0, 0.7, 1.0]];
        assert_eq!(order(4, |a, b| chain[a][b]), [0, 3, 1, 2], "average linkage");
    }
}
