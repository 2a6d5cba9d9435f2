//! Sums of products of floats on the CPU: rows times panels of columns, each sum fused and in ascending order of its terms.
//!
//! So the bits of a sum depend on its own terms alone: not on the rows and columns beside it, nor on how wide the CPU's vectors are.
//! Panels are what packed weights are expanded into, a strip at a time, which is why no crate's matrix product fits: it would
//! take the whole matrix as floats, and lay it out once more.
//!
//! There is no `unsafe` here: `pulp` detects what the CPU has and hands out its instructions only with that proof.

use std::array::from_fn;
use std::cell::Cell;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::packed::{BLOCK, Format};
use crate::device::{simd, vectorised};

/// Columns of a panel.
pub(super) const COLUMNS: usize = 32;

/// Rows that are multiplied at once.
pub(super) const ROWS: usize = 12;

/// One term of all columns of a panel.
pub(super) type Line = [f32; COLUMNS];

thread_local! {
    static PANELS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Lends `work` room for panels, as this thread left it the last time: fresh memory costs more than it seems, page by page.
pub(super) fn with_panels<R>(work: impl FnOnce(&mut Vec<Line>) -> R) -> R {
    // Taken, not borrowed: while it waits, a thread may begin other work of the same kind.
    let mut panels = PANELS.take();
    let result = work(&mut panels);
    PANELS.set(panels);
    result
}

/// Expands up to [`COLUMNS`] packed rows that lie in `words` into a panel, a line for each of their numbers, zeros where there are
/// fewer rows.
pub(super) fn expand(format: Format, words: &[u32], panel: &mut [Line]) {
    let pitch = format.words(panel.len());
    vectorised(
        #[inline(always)]
        || {
            // Words are fewer than numbers: they are what is laid side by side.
            let mut tile = [[0; COLUMNS]; BLOCK];
            for (index, lines) in panel.chunks_mut(BLOCK).enumerate() {
                let (from, size) = (format.words(index * BLOCK), format.words(lines.len()));
                // Word by word, so that what is written lies side by side: the other way about it becomes scattered stores.
                for (at, tile) in tile[..size].iter_mut().enumerate() {
                    for (word, row) in tile.iter_mut().zip(words.chunks_exact(pitch)) {
                        *word = row[from + at];
                    }
                }
                format.expand(&tile[..size], lines);
            }
        },
    );
}

/// The products of rows, each of `depth` numbers, with panels of as many lines: into `columns` of `out [rows][pitch]`.
///
/// Some rows go by all panels before the next ones do, so panels are best as many as a second-level cache holds.
pub(super) fn multiply<'a>(
    rows: impl Fn(usize) -> &'a [f32],
    panels: &[Line],
    depth: usize,
    out: &mut [f32],
    pitch: usize,
    columns: Range<usize>,
) {
    simd(Product { rows, panels, depth, out, pitch, columns });
}

struct Product<'o, 'p, R> {
    rows: R,
    panels: &'p [Line],
    depth: usize,
    out: &'o mut [f32],
    pitch: usize,
    columns: Range<usize>,
}

impl<'x, R: Fn(usize) -> &'x [f32]> WithSimd for Product<'_, '_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, panels, depth, out, pitch, columns } = self;
        // What rows that are not there sum to, and columns.
        let mut beside = [[0.0; COLUMNS]; ROWS];
        for (group, out) in out.chunks_mut(ROWS * pitch).enumerate() {
            let present = out.len().div_ceil(pitch);
            let x: [&[f32]; ROWS] = from_fn(|row| &rows(group * ROWS + row.min(present - 1))[..depth]);
            for (panel, at) in panels.chunks_exact(depth).zip(columns.clone().step_by(COLUMNS)) {
                let present = COLUMNS.min(columns.end - at);
                let mut sums = beside.each_mut();
                if present == COLUMNS {
                    for (sums, row) in sums.iter_mut().zip(out.chunks_mut(pitch)) {
                        if let Some(row) = row[at..].first_chunk_mut() {
                            *sums = row;
                        }
                    }
                }
                if S::REGISTER_COUNT >= 32 {
                    add::<S, ROWS>(simd, &x, panel, &mut sums);
                } else {
                    add::<S, { ROWS / 2 }>(simd, &x, panel, &mut sums);
                }
                if present < COLUMNS {
                    for (sums, row) in beside.iter().zip(out.chunks_mut(pitch)) {
                        row[at..at + present].copy_from_slice(&sums[..present]);
                    }
                }
            }
        }
    }
}

/// Terms between two looks at where the rows lie.
const TERMS: usize = 16;

/// Sums of products, `R` rows and two vectors of columns at a time: as many sums as there are registers for.
#[inline(always)]
fn add<S: Simd, const R: usize>(simd: S, x: &[&[f32]; ROWS], lines: &[Line], sums: &mut [&mut Line; ROWS]) {
    let step = 2 * S::F32_LANES;
    for (x, rows) in x.as_chunks::<R>().0.iter().zip(sums.as_chunks_mut::<R>().0) {
        for column in (0..COLUMNS).step_by(step) {
            let mut held = [[simd.splat_f32s(0.0); 2]; R];
            let (whole, rest) = lines.as_chunks::<TERMS>();
            let terms = x.map(|row| row.as_chunks::<TERMS>());
            for (at, lines) in whole.iter().enumerate() {
                let terms: [&[f32; TERMS]; R] = from_fn(|row| &terms[row].0[at]);
                // Written out, as the compiler does not do it: a loop of single terms takes a twentieth longer.
                for (at, [first, second, third, fourth]) in lines.as_chunks().0.iter().enumerate() {
                    let terms: [&[f32; 4]; R] = from_fn(|row| &terms[row].as_chunks().0[at]);
                    add_line::<S, R>(simd, &mut held, &first[column..column + step], |row| terms[row][0]);
                    add_line::<S, R>(simd, &mut held, &second[column..column + step], |row| terms[row][1]);
                    add_line::<S, R>(simd, &mut held, &third[column..column + step], |row| terms[row][2]);
                    add_line::<S, R>(simd, &mut held, &fourth[column..column + step], |row| terms[row][3]);
                }
            }
            for (k, line) in rest.iter().enumerate() {
                add_line::<S, R>(simd, &mut held, &line[column..column + step], |row| terms[row].1[k]);
            }
            for (held, sums) in held.iter().zip(rows.iter_mut()) {
                S::as_mut_simd_f32s(&mut sums[column..column + step]).0.copy_from_slice(held);
            }
        }
    }
}

/// Adds a product to each sum: of one number of each row and one line.
#[inline(always)]
fn add_line<S: Simd, const R: usize>(
    simd: S,
    held: &mut [[S::f32s; 2]; R],
    line: &[f32],
    number: impl Fn(usize) -> f32,
) {
    let weights = S::as_simd_f32s(line).0;
    for (row, held) in held.iter_mut().enumerate() {
        let number = simd.splat_f32s(number(row));
        held[0] = simd.mul_add_f32s(number, weights[0], held[0]);
        held[1] = simd.mul_add_f32s(number, weights[1], held[1]);
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
        fn sums_are_fused_and_in_order(rows in 1_usize..40, columns in 1_usize..100, depth in 1_usize..400, seed: u64) {
            let mut noise = Noise::new(seed);
            let (x, w) = (noise.floats(rows * depth, 1.0), noise.floats(columns * depth, 1.0));
            let mut panels = vec![[f32::NAN; COLUMNS]; columns.div_ceil(COLUMNS) * depth];
            let words: Vec<u32> = w.iter().map(|weight| weight.to_bits()).collect();
            for (panel, words) in panels.chunks_exact_mut(depth).zip(words.chunks(COLUMNS * depth)) {
                expand(Format::F32, words, panel);
            }
            let (pitch, at) = (columns + 5, 3);
            let mut out = vec![7.0; rows * pitch];
            multiply(|row| &x[row * depth..], &panels, depth, &mut out, pitch, at..at + columns);
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
