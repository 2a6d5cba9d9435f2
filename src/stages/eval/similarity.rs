//! The similarities of pairs of texts.

use crate::nn::exact::row as exact;
use crate::nn::{Embeddings, Rows};

/// The cosine of each two consecutive rows: of integers in 2^30ths, as novelty has it.
pub fn pair_similarities(embeddings: &Embeddings) -> Vec<f64> {
    let width = embeddings.width;
    match &embeddings.rows {
        Rows::Exact(rows) => pairs(rows, width).map(|[a, b]| exact::cosine(a, b) as f64).collect(),
        Rows::F32(rows) => {
            let products = |[a, b]: [&[f32]; 2]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            pairs(rows, width).map(products).collect()
        }
    }
}

fn pairs<T>(rows: &[T], width: usize) -> impl Iterator<Item = [&[T]; 2]> {
    rows.chunks_exact(2 * width).map(move |pair| {
        let (a, b) = pair.split_at(width);
        [a, b]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_are_those_of_neighbours() {
        let of = |rows| pair_similarities(&Embeddings { width: 2, rows });
        let floats = of(Rows::F32(vec![1.0, 0.0, 0.6, 0.8, 0.0, -1.0, 0.0, 1.0]));
        assert_eq!(floats, [f64::from(0.6_f32), -1.0], "floats");
        let rows = vec![32_767, -256, -32_767, 256, 32_767, 0, 0, -32_768, 32_700, 9, 32_700, 9];
        assert_eq!(of(Rows::Exact(rows)), [-1_073_741_825.0, 0.0, 1_073_741_824.0], "integers");
    }
}
