//! Sums of products of floats on the CPU: rows times panels of columns, each sum fused and in ascending order of its terms.
//!
//! So the bits of a sum depend on its own terms alone: not on the rows and columns beside it, nor on how wide the CPU's vectors are.
//! Panels are what packed weights are expanded into, a few at a time, which is why no crate's matrix product fits: it would
//! take the whole matrix as floats, and lay it out once more.
//!
//! There is no `unsafe` here: `pulp` detects what the CPU has and hands out its instructions only with that proof.

use std::array::from_fn;

use pulp::{Simd, WithSimd};

use super::packed::{BLOCK, Format};
use crate::device::{simd, vectorised};

/// Columns of a panel.
pub(super) const COLUMNS: usize = 32;

/// Rows that are multiplied at once.
pub(super) const ROWS: usize = 12;

/// Terms that are added at once: that part of a panel (24 KiB) stays in the first-level cache while all rows go by.
const DEPTH: usize = 192;

/// One term of all columns of a panel.
pub(super) type Line = [f32; COLUMNS];

/// One term of a group of rows.
pub(super) type Term = [f32; ROWS];

/// Rows `[rows][depth]` in groups, `[groups][depth]`, zeros where the last group lacks rows: so they lie in the order in which they are
/// taken.
pub(super) fn group(x: &[f32], depth: usize, groups: &mut Vec<Term>) {
    let missing = vec![0.0; depth];
    groups.resize((x.len() / depth.max(1)).div_ceil(ROWS) * depth, [0.0; ROWS]);
    for (rows, group) in x.chunks(ROWS * depth).zip(groups.chunks_exact_mut(depth)) {
        let rows: [&[f32]; ROWS] = from_fn(|row| rows.get(row * depth..(row + 1) * depth).unwrap_or(&missing));
        for (k, term) in group.iter_mut().enumerate() {
            *term = rows.map(|row| row[k]);
        }
    }
}

/// Expands up to [`COLUMNS`] packed rows that lie in `words` into a panel of `depth` lines, zeros where there are fewer.
pub(super) fn expand(format: Format, words: &[u32], depth: usize, panel: &mut Vec<Line>) {
    panel.resize(depth, [0.0; COLUMNS]);
    let pitch = format.words(depth);
    vectorised(
        #[inline(always)]
        || {
            // Words are fewer than numbers: they are what is laid side by side.
            let mut tile = [[0; COLUMNS]; BLOCK];
            for (index, lines) in panel.chunks_mut(BLOCK).enumerate() {
                let (from, size) = (format.words(index * BLOCK), format.words(lines.len()));
                for (column, row) in words.chunks_exact(pitch).enumerate() {
                    for (tile, word) in tile.iter_mut().zip(&row[from..from + size]) {
                        tile[column] = *word;
                    }
                }
                format.expand(&tile[..size], lines);
            }
        },
    );
}

/// The products of grouped rows with a panel: into columns `[at, at + columns)` of `out [rows][pitch]`.
pub(super) fn multiply(groups: &[Term], panel: &[Line], out: &mut [f32], pitch: usize, at: usize, columns: usize) {
    simd(Product { groups, panel, out, pitch, at, columns });
}

struct Product<'a> {
    groups: &'a [Term],
    panel: &'a [Line],
    out: &'a mut [f32],
    pitch: usize,
    at: usize,
    columns: usize,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { groups, panel, out, pitch, at, columns } = self;
        let mut beside = [[0.0; COLUMNS]; ROWS];
        for (part, lines) in panel.chunks(DEPTH).enumerate() {
            for (group, out) in groups.chunks_exact(panel.len()).zip(out.chunks_mut(ROWS * pitch)) {
                let terms = &group[part * DEPTH..][..lines.len()];
                // Sums are added up where they belong, beside it if the row or all of its columns are not there.
                let mut sums = beside.each_mut();
                for (sums, row) in sums.iter_mut().zip(out.chunks_mut(pitch)) {
                    let row = &mut row[at..at + columns];
                    if columns < COLUMNS {
                        sums[..columns].copy_from_slice(row);
                    } else if let Some(row) = row.first_chunk_mut() {
                        *sums = row;
                    }
                }
                if S::REGISTER_COUNT >= 32 {
                    add::<S, ROWS>(simd, terms, lines, part == 0, &mut sums);
                } else {
                    add::<S, { ROWS / 2 }>(simd, terms, lines, part == 0, &mut sums);
                }
                if columns < COLUMNS {
                    for (sums, row) in beside.iter().zip(out.chunks_mut(pitch)) {
                        row[at..at + columns].copy_from_slice(&sums[..columns]);
                    }
                }
            }
        }
    }
}

/// Adds products to `sums`, or to zeros if they are `fresh`, `R` rows and two vectors of columns at a time: as many sums as there are
/// registers for.
#[inline(always)]
fn add<S: Simd, const R: usize>(simd: S, terms: &[Term], lines: &[Line], fresh: bool, sums: &mut [&mut Line; ROWS]) {
    let step = 2 * S::F32_LANES;
    for (part, rows) in sums.as_chunks_mut::<R>().0.iter_mut().enumerate() {
        for column in (0..COLUMNS).step_by(step) {
            let mut held = [[simd.splat_f32s(0.0); 2]; R];
            if !fresh {
                for (held, sums) in held.iter_mut().zip(rows.iter()) {
                    held.copy_from_slice(&S::as_simd_f32s(&sums[column..column + step]).0[..2]);
                }
            }
            for (term, line) in terms.iter().zip(lines) {
                let weights = S::as_simd_f32s(&line[column..column + step]).0;
                for (held, number) in held.iter_mut().zip(&term[part * R..][..R]) {
                    let number = simd.splat_f32s(*number);
                    held[0] = simd.mul_add_f32s(number, weights[0], held[0]);
                    held[1] = simd.mul_add_f32s(number, weights[1], held[1]);
                }
            }
            for (held, sums) in held.iter().zip(rows.iter_mut()) {
                S::as_mut_simd_f32s(&mut sums[column..column + step]).0.copy_from_slice(held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::device::Noise;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sums_are_fused_and_in_order(rows in 1_usize..40, columns in 1_usize..33, depth in 1_usize..600, seed: u64) {
            let mut noise = Noise::new(seed);
            let (x, w) = (noise.floats(rows * depth, 1.0), noise.floats(columns * depth, 1.0));
            let (mut groups, mut panel) = (Vec::new(), Vec::new());
            group(&x, depth, &mut groups);
            let words: Vec<u32> = w.iter().map(|weight| weight.to_bits()).collect();
            expand(Format::F32, &words, depth, &mut panel);
            let (pitch, at) = (columns + 5, 3);
            let mut out = vec![7.0; rows * pitch];
            multiply(&groups, &panel, &mut out, pitch, at, columns);
            for (row, out) in out.chunks_exact(pitch).enumerate() {
                for (column, out) in out.iter().enumerate() {
                    let right = match column.checked_sub(at).filter(|column| *column < columns) {
                        None => 7.0,
                        Some(column) => (0..depth)
                            .fold(0.0_f32, |sum, k| x[row * depth + k].mul_add(w[column * depth + k], sum)),
                    };
                    prop_assert_eq!(out.to_bits(), right.to_bits(), "row {}, column {}", row, column);
                }
            }
        }
    }
}
