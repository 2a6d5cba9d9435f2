//! The part of a packed matrix that a twin multiplies at a time: some rows, expanded to floats and turned.

use super::gemm::{Strides, multiply};
use super::packed::{BLOCK, Format};
use crate::device::vectorised;

/// Rows of x that are multiplied together. Always this many (what is missing is padded), so that the bits of a row depend neither
/// on how many rows stand beside it nor on where it stands.
pub(super) const ROWS: usize = 64;

/// Floats that a slab may hold: half a MiB, so that it stays in the second-level cache while rows go by.
const FLOATS: usize = 1 << 17;

/// Columns that are turned together: a cache line of floats.
const LINE: usize = 16;

/// `columns` rows of a packed matrix as `[depth][columns]`, zeros where there is no such row.
#[derive(Default)]
pub(super) struct Slab {
    numbers: Vec<f32>,
    columns: usize,
    depth: usize,
    products: Vec<f32>,
    rows: Vec<f32>,
}

impl Slab {
    /// How many rows of a matrix with rows of `depth` a slab takes, a multiple of 16.
    pub(super) fn columns(depth: usize) -> usize {
        (FLOATS / depth.max(1) / LINE * LINE).clamp(LINE, 256)
    }

    /// Expands the rows that lie in `words`.
    pub(super) fn fill(&mut self, format: Format, words: &[u32], depth: usize) {
        let pitch = format.words(depth);
        let present = words.len() / pitch.max(1);
        self.columns = present.next_multiple_of(LINE);
        self.depth = depth;
        self.numbers.resize(depth * self.columns, 0.0);
        let (numbers, columns) = (&mut self.numbers, self.columns);
        vectorised(
            #[inline(always)]
            || {
                for first in (0..columns).step_by(LINE) {
                    let mut tile = [[0.0_f32; BLOCK]; LINE];
                    for first_k in (0..depth).step_by(BLOCK) {
                        let count = BLOCK.min(depth - first_k);
                        let (from, size) = (format.words(first_k), format.words(count));
                        for (row, numbers) in (first..present).zip(&mut tile) {
                            format.expand(&words[row * pitch + from..][..size], &mut numbers[..count]);
                        }
                        let lines = numbers[first_k * columns..].chunks_exact_mut(columns).take(count);
                        for (k, line) in lines.enumerate() {
                            for (number, row) in line[first..first + LINE].iter_mut().zip(&tile) {
                                *number = row[k];
                            }
                        }
                    }
                }
            },
        );
    }

    /// The products of up to [`ROWS`] rows `x [rows][depth]` with the slab: rows of as many numbers as [`Slab::pitch`] says.
    pub(super) fn multiply(&mut self, x: &[f32]) -> &[f32] {
        let (depth, columns) = (self.depth, self.columns);
        let x = if x.len() == ROWS * depth {
            x
        } else {
            self.rows.clear();
            self.rows.extend_from_slice(x);
            self.rows.resize(ROWS * depth, 0.0);
            &self.rows
        };
        self.products.resize(ROWS * columns, 0.0);
        // The crate's rows are our columns: the slab's long side is the one that it vectorises.
        multiply(
            [columns, ROWS, depth],
            (&self.numbers, Strides { row: 1, column: columns }),
            (x, Strides { row: 1, column: depth }),
            (&mut self.products, Strides { row: 1, column: columns }),
        );
        &self.products
    }

    /// Numbers in a row of products.
    pub(super) fn pitch(&self) -> usize {
        self.columns
    }
}
