//! Sums of products of integers on the CPU: rows of i16 times a matrix of i8 or i16, exact and the same on every path.
//!
//! Integers add up to the same sum in any order, so the path is chosen by speed alone: with AVX-512 VNNI one instruction takes
//! 32 products of i16 (`vpdpwssd`), without it `vpmaddwd` makes pairs of products and an addition follows; elsewhere the
//! compiler vectorises plain loops. A matrix lies in panels of 32 columns, four inputs of a column side by side: so an
//! instruction takes whole vectors of it, and so the kernels in WGSL want it too, which makes it one layout for all devices. Bytes are
//! widened a few panels at a time, each for many rows. Two passes of `vpdpbusd` over limbs of 8 bits take as many
//! instructions; measured, they were a tenth slower.
//!
//! Sums are modulo 2^32. What the integer encoder multiplies is proven to fit (`nn/exact/ranges.rs`).
//!
//! There is no `unsafe` here: `pulp` detects what the CPU has and hands out its instructions only with that proof. It has no
//! `vpdpwssd`, but the compiler makes one of a `vpmaddwd` and the addition that follows.
#![deny(clippy::float_arithmetic)]

use std::cell::Cell;

use bytemuck::Zeroable;
use rayon::prelude::*;

use crate::device::Instructions;

/// Columns of a panel.
pub const COLUMNS: usize = 32;

/// Inputs that stand side by side.
type Quad<W> = [W; 4];

/// Four inputs of all columns of a panel, column by column.
pub type Panel<W> = [W; 4 * COLUMNS];

/// Panels that are taken at once: that part of the matrix (24 KiB) stays in the first-level cache.
const DEPTH: usize = 96;

/// That part of a row. Rows stand one below the other at this distance, so that one address finds them all.
type Line = [Quad<i16>; DEPTH];

/// Sums of a row and the columns of a panel.
pub(crate) type Sums = [i32; COLUMNS];

/// Rows that are taken at once: they stay in the second-level cache while the matrix goes by.
pub(crate) const BLOCK: usize = 384;

/// Panels that `outputs` columns fill, for each four inputs.
pub fn panels(outputs: usize) -> usize {
    outputs.div_ceil(COLUMNS)
}

/// Lays out a matrix `[outputs][inputs]` in panels, `[panels][inputs / 4]`; what is beyond the matrix is 0. `inputs` is a multiple of
/// four. What a slice lacks is taken for 0; that would be a bug of the caller and is asserted in checked builds.
pub fn pack<W: Copy + Zeroable + Send + Sync>(rows: &[W], outputs: usize, inputs: usize) -> Vec<Panel<W>> {
    debug_assert!(rows.len() == outputs * inputs && inputs.is_multiple_of(4), "the slice is not the matrix");
    let depth = inputs / 4;
    let mut packed = vec![[W::zeroed(); 4 * COLUMNS]; panels(outputs) * depth];
    let strips = packed.par_chunks_mut(depth.max(1)).zip(rows.par_chunks(COLUMNS * inputs.max(1)));
    strips.for_each(|(panels, rows)| {
        // Panel by panel, so that what is written lies side by side.
        for (index, panel) in panels.iter_mut().enumerate() {
            for (quad, row) in panel.as_chunks_mut::<4>().0.iter_mut().zip(rows.chunks_exact(inputs)) {
                quad.copy_from_slice(&row[4 * index..][..4]);
            }
        }
    });
    packed
}

/// A matrix in panels, `[panels][depth]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Columns: rows of the matrix as [`pack`] takes it.
    pub outputs: usize,
    /// Inputs, divided by four.
    pub depth: usize,
    /// The numbers.
    pub panels: Panels<'a>,
}

/// The numbers of a [`Matrix`].
#[derive(Clone, Copy, Debug)]
pub enum Panels<'a> {
    /// Of 8 bits.
    Bytes(&'a [Panel<i8>]),
    /// Of 16 bits.
    Halves(&'a [Panel<i16>]),
}

impl Panels<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(panels) => panels.len(),
            Self::Halves(panels) => panels.len(),
        }
    }
}

/// out `[rows][outputs]` = a `[rows][inputs]` times the matrix, on one thread.
///
/// Does nothing if a slice has not the size that the matrix and `out` call for; that would be a bug of the caller and is asserted in
/// checked builds.
pub fn multiply(a: &[i16], matrix: Matrix<'_>, out: &mut [i32]) {
    multiply_with(Instructions::best(), a, matrix, out);
}

/// As [`multiply`], with instructions of the caller's choice; what this CPU has not is replaced by [`Instructions::Portable`].
pub fn multiply_with(instructions: Instructions, a: &[i16], matrix: Matrix<'_>, out: &mut [i32]) {
    let ((a, rest), depth) = (a.as_chunks(), matrix.depth);
    let fits = matrix.outputs == 0 || (rest.is_empty() && a.len() == out.len() / matrix.outputs * depth);
    debug_assert!(fits, "the rows are not the matrix's");
    if fits {
        run(
            instructions,
            #[inline(always)]
            |row, first, line| line.copy_from_slice(&a[row * depth + first..][..line.len()]),
            matrix,
            out,
            #[inline(always)]
            |_, _, sums, out| *out = *sums,
        );
    }
}

/// As [`multiply`], of rows that `rows(row, first, line)` writes: their quads from `first` on, as many as `line` takes. What is stored is
/// what `finish(row, panel, sums, out)` makes of the sums of a row and a panel. Both are compiled for the instructions that are there if they are
/// marked `#[inline(always)]`.
pub(crate) fn multiply_rows(
    rows: impl Fn(usize, usize, &mut [Quad<i16>]),
    matrix: Matrix<'_>,
    out: &mut [i32],
    finish: impl Fn(usize, usize, &Sums, &mut Sums),
) {
    run(Instructions::best(), rows, matrix, out, finish);
}

fn run<R, F>(instructions: Instructions, rows: R, matrix: Matrix<'_>, out: &mut [i32], finish: F)
where
    R: Fn(usize, usize, &mut [Quad<i16>]),
    F: Fn(usize, usize, &Sums, &mut Sums),
{
    let Matrix { outputs, depth, panels: given } = matrix;
    if out.is_empty() || outputs == 0 {
        return;
    }
    let fits = out.len().is_multiple_of(outputs) && given.len() == panels(outputs) * depth;
    debug_assert!(fits, "a slice has another size than its matrix");
    if !fits {
        return;
    }
    let job = Job { rows, matrix, out, finish };
    #[cfg(target_arch = "x86_64")]
    match instructions {
        Instructions::Avx512Vnni => {
            if let Some(simd) = x86::Vnni::try_new() {
                return simd.vectorize(x86::OnVnni(simd, job));
            }
        }
        Instructions::Avx512 => {
            if let Some(simd) = x86::Avx512::try_new() {
                return simd.vectorize(x86::OnAvx512(simd, job));
            }
        }
        Instructions::Avx2 => {
            if let Some(simd) = x86::Avx2::try_new() {
                return simd.vectorize(x86::OnAvx2(simd, job));
            }
        }
        Instructions::Portable => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = instructions;
    job.run::<Portable, 4>(Portable);
}

/// The innermost loops of a path.
trait Kernel: Copy {
    /// Sums of some rows over all quads of `panel`, of which there are at most [`DEPTH`].
    fn sums<const ROWS: usize>(self, lines: &[Line; ROWS], panel: &[Panel<i16>], sums: &mut [Sums; ROWS]);
}

/// What a thread works with, as it left it the last time.
#[derive(Default)]
struct Scratch {
    lines: Vec<Line>,
    wide: Vec<Panel<i16>>,
}

thread_local! {
    static SCRATCH: Cell<Scratch> = Cell::default();
}

/// One multiplication.
struct Job<'a, R, F> {
    rows: R,
    matrix: Matrix<'a>,
    out: &'a mut [i32],
    finish: F,
}

/// Rows that are multiplied together where fewer are left than the path takes at once.
const FEW: usize = 4;

impl<R, F> Job<'_, R, F>
where
    R: Fn(usize, usize, &mut [Quad<i16>]),
    F: Fn(usize, usize, &Sums, &mut Sums),
{
    /// Runs it with `ROWS` rows at once, as many as the path has registers for.
    #[inline(always)]
    fn run<K: Kernel, const ROWS: usize>(self, kernel: K) {
        let Matrix { outputs, depth, panels } = self.matrix;
        let mut scratch = SCRATCH.take();
        let Scratch { lines, wide } = &mut scratch;
        wide.resize(DEPTH, [0; 4 * COLUMNS]);
        for (block, out) in self.out.chunks_mut(BLOCK * outputs).enumerate() {
            let (begin, count) = (block * BLOCK, out.len() / outputs);
            let whole = count / ROWS * ROWS;
            // What stands in lines beyond the last row's is summed up, too, and left out.
            let padded = whole + (count - whole).next_multiple_of(FEW);
            lines.resize(lines.len().max(padded), [[0; 4]; DEPTH]);
            for first in (0..depth.max(1)).step_by(DEPTH) {
                let last = depth.min(first + DEPTH);
                for (row, line) in lines[..count].iter_mut().enumerate() {
                    (self.rows)(begin + row, first, &mut line[..last - first]);
                }
                for panel in 0..outputs.div_ceil(COLUMNS) {
                    let quads = panel * depth + first..panel * depth + last;
                    let quads = match panels {
                        Panels::Halves(panels) => &panels[quads],
                        Panels::Bytes(panels) => widen(&panels[quads], wide),
                    };
                    let column = panel * COLUMNS;
                    let at = At { outputs, column, begins: first == 0, ends: last == depth };
                    let (many, few) = lines[..padded].split_at(whole);
                    let (out, rest) = out.split_at_mut(whole * outputs);
                    let finish = &self.finish;
                    at.multiply::<K, F, ROWS>(kernel, many, quads, out, begin, finish);
                    at.multiply::<K, F, FEW>(kernel, few, quads, rest, begin + whole, finish);
                }
            }
        }
        SCRATCH.set(scratch);
    }
}

/// Which part of a product.
#[derive(Clone, Copy)]
struct At {
    outputs: usize,
    column: usize,
    /// Whether nothing came before it, and nothing will come after it.
    begins: bool,
    ends: bool,
}

impl At {
    /// Multiplies rows by a part of a panel.
    #[inline(always)]
    fn multiply<K: Kernel, F: Fn(usize, usize, &Sums, &mut Sums), const ROWS: usize>(
        self,
        kernel: K,
        lines: &[Line],
        panel: &[Panel<i16>],
        out: &mut [i32],
        begin: usize,
        finish: &F,
    ) {
        let columns = COLUMNS.min(self.outputs - self.column);
        let mut sums = [[0; COLUMNS]; ROWS];
        let groups = lines.as_chunks::<ROWS>().0.iter().zip(out.chunks_mut(ROWS * self.outputs));
        for (group, (lines, out)) in groups.enumerate() {
            kernel.sums(lines, panel, &mut sums);
            for (row, sums) in sums.iter_mut().enumerate() {
                let start = row * self.outputs + self.column;
                // A row that is not there ends the group.
                let Some(out) = out.get_mut(start..start + columns) else { break };
                if !self.begins {
                    match out.first_chunk::<COLUMNS>() {
                        Some(before) => add(sums, before),
                        None => add(&mut sums[..columns], out),
                    }
                }
                let at = (begin + group * ROWS + row, self.column / COLUMNS);
                match out.first_chunk_mut() {
                    Some(out) if self.ends => finish(at.0, at.1, sums, out),
                    Some(out) => *out = *sums,
                    None => {
                        let mut whole = *sums;
                        if self.ends {
                            finish(at.0, at.1, sums, &mut whole);
                        }
                        out.copy_from_slice(&whole[..columns]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add(sums: &mut [i32], before: &[i32]) {
    for (sum, before) in sums.iter_mut().zip(before) {
        *sum = sum.wrapping_add(*before);
    }
}

/// Bytes as numbers of 16 bits.
#[inline(always)]
fn widen<'a>(bytes: &[Panel<i8>], wide: &'a mut [Panel<i16>]) -> &'a [Panel<i16>] {
    let wide = &mut wide[..bytes.len()];
    for (wide, bytes) in wide.iter_mut().zip(bytes) {
        *wide = bytes.map(i16::from);
    }
    wide
}

/// Plain loops. For ARM the compiler makes `ld4` and `smlal` of them; on x86 this path is for CPUs without AVX2 only, and slow.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn sums<const ROWS: usize>(self, lines: &[Line; ROWS], panel: &[Panel<i16>], all: &mut [Sums; ROWS]) {
        // 4 x 16 sums leave registers for the rest where there are 32 of 128 bits.
        const PART: usize = COLUMNS / 2;
        for part in 0..2 {
            let mut sums = [[0_i32; PART]; ROWS];
            for (at, panel) in panel.iter().enumerate().take(DEPTH) {
                let weights: &[Quad<i16>; PART] = bytemuck::cast_ref(&panel.as_chunks::<{ 4 * PART }>().0[part]);
                for (sums, line) in sums.iter_mut().zip(lines) {
                    let quad = line[at].map(i32::from);
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        for (factor, weight) in quad.iter().zip(weights) {
                            *sum = sum.wrapping_add(factor * i32::from(*weight));
                        }
                    }
                }
            }
            for (all, sums) in all.iter_mut().zip(sums) {
                all[part * PART..][..PART].copy_from_slice(&sums);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512i};
    use std::array::from_fn;

    use super::{COLUMNS, DEPTH, Job, Kernel, Line, Panel, Quad, Sums};

    pulp::simd_type! {
        pub(super) struct Vnni {
            foundation: "avx512f",
            words: "avx512bw",
            short: "avx512vl",
            dots: "avx512vnni",
        }

        pub(super) struct Avx512 {
            foundation: "avx512f",
            words: "avx512bw",
            short: "avx512vl",
        }

        pub(super) struct Avx2 {
            avx: "avx",
            avx2: "avx2",
        }
    }

    /// Work that is compiled for the CPU features of `$simd`, with `$rows` rows at once.
    macro_rules! on {
        ($name:ident, $simd:ident, $rows:literal) => {
            pub(super) struct $name<'a, R, F>(pub(super) $simd, pub(super) Job<'a, R, F>);

            impl<R, F> pulp::NullaryFnOnce for $name<'_, R, F>
            where
                R: Fn(usize, usize, &mut [Quad<i16>]),
                F: Fn(usize, usize, &Sums, &mut Sums),
            {
                type Output = ();

                #[inline(always)]
                fn call(self) {
                    self.1.run::<$simd, $rows>(self.0);
                }
            }
        };
    }

    // 12 x 2 sums of 16 and 6 x 2 sums of 8: with the weights and one quad, as many registers as there are.
    on!(OnVnni, Vnni, 12);
    on!(OnAvx512, Avx512, 12);
    on!(OnAvx2, Avx2, 6);

    /// With VNNI the compiler makes one instruction of the addition and the products.
    macro_rules! wide {
        ($simd:ident) => {
            impl Kernel for $simd {
                #[inline(always)]
                fn sums<const ROWS: usize>(self, lines: &[Line; ROWS], panel: &[Panel<i16>], all: &mut [Sums; ROWS]) {
                    const PART: usize = COLUMNS / 2;
                    let simd = self.foundation;
                    let [even, odd]: [__m512i; 2] =
                        [0, 1].map(|odd| bytemuck::cast(from_fn::<i32, 16, _>(|at| 2 * at as i32 + odd)));
                    for part in 0..2 {
                        // A column has two sums side by side: of the first and of the second two of each four inputs.
                        let mut sums = [[simd._mm512_setzero_si512(); 2]; ROWS];
                        for (at, panel) in panel.iter().enumerate().take(DEPTH) {
                            let weights: [__m512i; 2] = bytemuck::cast(panel.as_chunks::<{ 4 * PART }>().0[part]);
                            for (sums, line) in sums.iter_mut().zip(lines) {
                                let quad = simd._mm512_set1_epi64(bytemuck::cast(line[at]));
                                for (sum, weights) in sums.iter_mut().zip(weights) {
                                    *sum = simd._mm512_add_epi32(*sum, self.words._mm512_madd_epi16(quad, weights));
                                }
                            }
                        }
                        for (all, [low, high]) in all.iter_mut().zip(sums) {
                            let first = simd._mm512_permutex2var_epi32(low, even, high);
                            let second = simd._mm512_permutex2var_epi32(low, odd, high);
                            let sums: [i32; PART] = bytemuck::cast(simd._mm512_add_epi32(first, second));
                            all[part * PART..][..PART].copy_from_slice(&sums);
                        }
                    }
                }
            }
        };
    }

    wide!(Vnni);
    wide!(Avx512);

    impl Kernel for Avx2 {
        #[inline(always)]
        fn sums<const ROWS: usize>(self, lines: &[Line; ROWS], panel: &[Panel<i16>], all: &mut [Sums; ROWS]) {
            const PART: usize = COLUMNS / 4;
            for part in 0..4 {
                let mut sums = [[self.avx._mm256_setzero_si256(); 2]; ROWS];
                for (at, panel) in panel.iter().enumerate().take(DEPTH) {
                    let weights: [__m256i; 2] = bytemuck::cast(panel.as_chunks::<{ 4 * PART }>().0[part]);
                    for (sums, line) in sums.iter_mut().zip(lines) {
                        let quad = self.avx._mm256_set1_epi64x(bytemuck::cast(line[at]));
                        for (sum, weights) in sums.iter_mut().zip(weights) {
                            *sum = self.avx2._mm256_add_epi32(*sum, self.avx2._mm256_madd_epi16(quad, weights));
                        }
                    }
                }
                for (all, sums) in all.iter_mut().zip(sums) {
                    let sums: [[i32; 2]; PART] = bytemuck::cast(sums);
                    for (sum, two) in all[part * PART..].iter_mut().zip(sums) {
                        *sum = two[0].wrapping_add(two[1]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(a: &[i16], tokens: usize, weights: &[i8], [outputs, inputs]: [usize; 2]) -> Vec<i32> {
        let mut out = Vec::new();
        for token in 0..tokens {
            for output in 0..outputs {
                let (a, weights) = (&a[token * inputs..][..inputs], &weights[output * inputs..][..inputs]);
                let products = a.iter().zip(weights).map(|(a, weight)| i32::from(*a) * i32::from(*weight));
                out.push(products.fold(0, i32::wrapping_add));
            }
        }
        out
    }

    fn all_paths_agree(a: &[i16], tokens: usize, weights: &[i8], [outputs, inputs]: [usize; 2]) {
        let right = naive(a, tokens, weights, [outputs, inputs]);
        let halves: Vec<i16> = weights.iter().map(|weight| i16::from(*weight)).collect();
        let (bytes, halves) = (pack(weights, outputs, inputs), pack(&halves, outputs, inputs));
        for panels in [Panels::Bytes(&bytes), Panels::Halves(&halves)] {
            let matrix = Matrix { outputs, depth: inputs / 4, panels };
            for instructions in Instructions::available() {
                let mut out = vec![-1; tokens * outputs];
                multiply_with(instructions, a, matrix, &mut out);
                assert!(out == right, "{instructions:?}: {tokens} x {outputs} x {inputs}");
            }
            let mut out = vec![-1; tokens * outputs];
            multiply(a, matrix, &mut out);
            assert!(out == right, "the best: {tokens} x {outputs} x {inputs}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_path_gives_the_naive_sums(
            tokens in 0_usize..40,
            shape in (0_usize..100, prop_oneof![0_usize..20, 125_usize..140]).prop_map(|(n, k)| [n, 4 * k]),
            extreme: bool,
            seed: u64,
        ) {
            let mut noise = crate::device::Noise::new(seed);
            let mut draw = |largest: u32| {
                let value = if extreme { 2 * largest * noise.below(2) } else { noise.below(2 * largest + 1) };
                value as i32 - largest as i32
            };
            let a: Vec<i16> = (0..tokens * shape[1]).map(|_| draw(8_128) as i16).collect();
            let weights: Vec<i8> = (0..shape[0] * shape[1]).map(|_| draw(127) as i8).collect();
            all_paths_agree(&a, tokens, &weights, shape);
        }
    }

    #[test]
    fn the_shapes_of_minilm_and_the_largest_sums_are_right() {
        let mut noise = crate::device::Noise::new(7);
        for (tokens, shape) in [(193, [384, 384]), (50, [1_536, 384]), (205, [384, 1_536])] {
            let a: Vec<i16> = (0..tokens * shape[1]).map(|_| noise.below(16_257) as i16 - 8_128).collect();
            let weights: Vec<i8> = (0..shape[0] * shape[1]).map(|_| (noise.below(255) as i32 - 127) as i8).collect();
            all_paths_agree(&a, tokens, &weights, shape);
        }
        // All of one sign: 2080 x 8128 x 127 is the last multiple below 2^31, more wraps alike on every path.
        for (inputs, a) in [(2_080, 8_128), (2_080, -8_128), (5_000, 8_128), (5_000, i16::MIN)] {
            all_paths_agree(&vec![a; 5 * inputs], 5, &vec![127; 33 * inputs], [33, inputs]);
            all_paths_agree(&vec![a; 5 * inputs], 5, &vec![-128; 33 * inputs], [33, inputs]);
        }
    }
}
