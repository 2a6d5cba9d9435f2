//! Sums of products of integers on the CPU: rows of i16 times a matrix of i8, exact and the same on every path.
//!
//! Integers add up to the same sum in any order, so the path is chosen by speed alone: with AVX-512 VNNI one instruction takes
//! 32 products of i16 (`vpdpwssd`), without it `vpmaddwd` makes the pairs of products and an addition follows; elsewhere the
//! compiler vectorises plain loops. Weights are kept as i16, in pairs along the inputs, so that no path unpacks them while it
//! multiplies. Two passes of `vpdpbusd` over limbs of 8 bits take as many instructions; measured, they were a tenth slower.
//!
//! Sums are modulo 2^32. What the integer encoder multiplies is proven to fit (`nn/exact/ranges.rs`).
//!
//! There is no `unsafe` here: `pulp` detects what the CPU has and hands out its instructions only with that proof. It has no
//! `vpdpwssd`, but the compiler makes one of a `vpmaddwd` and the addition that follows.
#![deny(clippy::float_arithmetic)]

use std::borrow::Cow;
use std::sync::LazyLock;

use super::exact::IntegerLinear;

/// Two neighbours along the inputs.
type Pair = [i16; 2];

/// Columns of a panel.
const COLUMNS: usize = 32;

/// The weights of two inputs and all columns of a panel.
type Panel = [i16; 2 * COLUMNS];

/// Where a panel holds the weight of `column` for the pair's first (0) or second (1) input: side by side where an instruction
/// multiplies pairs, one half after the other where plain loops are vectorised.
const fn slot(column: usize, half: usize) -> usize {
    if cfg!(target_arch = "x86_64") { 2 * column + half } else { COLUMNS * half + column }
}

/// Sums of some rows and the columns of a panel.
type Sums<const ROWS: usize> = [[i32; COLUMNS]; ROWS];

/// Pairs of inputs that are taken at once: a panel's part (32 KiB) and a few rows stay in the first-level cache.
const DEPTH: usize = 256;

/// Rows that are taken at once: they and a matrix of the size of a feed-forward layer stay in the second-level cache.
const BLOCK: usize = 192;

/// A matrix of i8, laid out for [`multiply`].
#[derive(Clone, Debug)]
pub struct PackedWeights {
    outputs: usize,
    inputs: usize,
    /// `[panels][pairs]`; what is beyond the matrix is 0.
    panels: Vec<Panel>,
}

impl PackedWeights {
    /// Lays out the weights of `linear`.
    pub fn new(linear: &IntegerLinear) -> Self {
        Self::from_rows(&linear.weights, linear.outputs, linear.inputs)
    }

    /// Lays out `weights [outputs][inputs]`. What a slice lacks is taken for 0; that would be a bug of the caller and is
    /// asserted in checked builds.
    pub fn from_rows(weights: &[i8], outputs: usize, inputs: usize) -> Self {
        debug_assert_eq!(weights.len(), outputs * inputs, "the slice is not the matrix");
        let pairs = inputs.div_ceil(2);
        let mut panels = vec![[0; 2 * COLUMNS]; outputs.div_ceil(COLUMNS) * pairs];
        for (output, row) in weights.chunks(inputs.max(1)).take(outputs).enumerate() {
            let first = output / COLUMNS * pairs;
            for (panel, pair) in panels[first..].iter_mut().zip(row.chunks(2)) {
                for (half, weight) in pair.iter().enumerate() {
                    panel[slot(output % COLUMNS, half)] = i16::from(*weight);
                }
            }
        }
        Self { outputs, inputs, panels }
    }

    /// Rows of the matrix.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Numbers in a row of the matrix.
    pub fn inputs(&self) -> usize {
        self.inputs
    }
}

/// A way to multiply. All give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// x86 with AVX-512 and its VNNI extension.
    Avx512Vnni,
    /// x86 with AVX-512 (F, BW).
    Avx512,
    /// x86 with AVX2.
    Avx2,
    /// Any CPU.
    Portable,
}

impl Path {
    /// The paths that this CPU can take, the fastest one first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [
            (Self::Avx512Vnni, x86::Vnni::try_new().is_some()),
            (Self::Avx512, x86::Avx512::try_new().is_some()),
            (Self::Avx2, x86::Avx2::try_new().is_some()),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [];
        let wide = wide.into_iter().filter_map(|(path, here): (Self, bool)| here.then_some(path));
        wide.chain([Self::Portable]).collect()
    }
}

/// out `[tokens][outputs]` = a `[tokens][inputs]` times the transposed weights, on one thread.
///
/// Does nothing if a slice has not the size that `tokens` and the weights call for; that would be a bug of the caller and is
/// asserted in checked builds.
pub fn multiply(a: &[i16], tokens: usize, weights: &PackedWeights, out: &mut [i32]) {
    static BEST: LazyLock<Path> = LazyLock::new(|| Path::available()[0]);
    multiply_on(*BEST, a, tokens, weights, out);
}

/// As [`multiply`], on a path of the caller's choice; one that this CPU cannot take is replaced by [`Path::Portable`].
pub fn multiply_on(path: Path, a: &[i16], tokens: usize, weights: &PackedWeights, out: &mut [i32]) {
    let fits = a.len() == tokens * weights.inputs && out.len() == tokens * weights.outputs;
    debug_assert!(fits, "a slice has another size than its matrix");
    if !fits || out.is_empty() {
        return;
    }
    if weights.inputs == 0 {
        out.fill(0);
        return;
    }
    let job = Job { a: pairs(a, weights.inputs), tokens, weights, out };
    #[cfg(target_arch = "x86_64")]
    match path {
        Path::Avx512Vnni => {
            if let Some(simd) = x86::Vnni::try_new() {
                return simd.vectorize(x86::OnVnni(simd, job));
            }
        }
        Path::Avx512 => {
            if let Some(simd) = x86::Avx512::try_new() {
                return simd.vectorize(x86::OnAvx512(simd, job));
            }
        }
        Path::Avx2 => {
            if let Some(simd) = x86::Avx2::try_new() {
                return simd.vectorize(x86::OnAvx2(simd, job));
            }
        }
        Path::Portable => {}
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = path;
    job.run::<Portable, 4>(Portable);
}

/// The rows in pairs, an odd input at the end paired with a 0.
fn pairs(a: &[i16], inputs: usize) -> Cow<'_, [Pair]> {
    if inputs.is_multiple_of(2) {
        Cow::Borrowed(a.as_chunks().0)
    } else {
        let pair = |pair: &[i16]| [pair[0], pair.get(1).copied().unwrap_or(0)];
        Cow::Owned(a.chunks_exact(inputs).flat_map(|row| row.chunks(2).map(pair)).collect())
    }
}

/// The innermost loops of a path.
trait Kernel: Copy {
    /// Sums over all pairs of `panel`, for rows of as many pairs.
    fn sums<const ROWS: usize>(self, rows: [&[Pair]; ROWS], panel: &[Panel]) -> Sums<ROWS>;
}

/// One multiplication.
struct Job<'a> {
    a: Cow<'a, [Pair]>,
    tokens: usize,
    weights: &'a PackedWeights,
    out: &'a mut [i32],
}

impl Job<'_> {
    /// Runs it with `ROWS` rows at once, as many as the path has registers for.
    #[inline(always)]
    fn run<K: Kernel, const ROWS: usize>(mut self, kernel: K) {
        let pairs = self.weights.inputs.div_ceil(2);
        for block in (0..self.tokens).step_by(BLOCK) {
            let end = self.tokens.min(block + BLOCK);
            for depth in (0..pairs).step_by(DEPTH) {
                let depths = depth..pairs.min(depth + DEPTH);
                for (index, panel) in self.weights.panels.chunks_exact(pairs).enumerate() {
                    let panel = &panel[depths.clone()];
                    let at = At { first: block, depth, column: index * COLUMNS };
                    let at = self.rows::<K, ROWS>(kernel, panel, at, end);
                    let at = self.rows::<K, 4>(kernel, panel, at, end);
                    self.rows::<K, 1>(kernel, panel, at, end);
                }
            }
        }
    }

    /// Whole groups of `ROWS` rows from `at.first` to below `end`; returns where the first one that is left stands.
    #[inline(always)]
    fn rows<K: Kernel, const ROWS: usize>(&mut self, kernel: K, panel: &[Panel], mut at: At, end: usize) -> At {
        let pairs = self.weights.inputs.div_ceil(2);
        let outputs = self.weights.outputs;
        let columns = COLUMNS.min(outputs - at.column);
        while at.first + ROWS <= end {
            let row = |row: usize| &self.a[(at.first + row) * pairs + at.depth..][..panel.len()];
            let sums = kernel.sums::<ROWS>(std::array::from_fn(row), panel);
            for (row, sums) in sums.iter().enumerate() {
                let out = &mut self.out[(at.first + row) * outputs + at.column..][..columns];
                if at.depth == 0 {
                    out.copy_from_slice(&sums[..columns]);
                } else {
                    out.iter_mut().zip(sums).for_each(|(out, sum)| *out = out.wrapping_add(*sum));
                }
            }
            at.first += ROWS;
        }
        at
    }
}

/// The first row, pair and column of a tile.
#[derive(Clone, Copy)]
struct At {
    first: usize,
    depth: usize,
    column: usize,
}

/// Plain loops. For ARM the compiler makes `smlal` of them; on x86 this path is for CPUs without AVX2 only, and slow.
#[derive(Clone, Copy)]
struct Portable;

impl Kernel for Portable {
    #[inline(always)]
    fn sums<const ROWS: usize>(self, rows: [&[Pair]; ROWS], panel: &[Panel]) -> Sums<ROWS> {
        const WIDTH: usize = 16;
        let rows = rows.map(|row| &row[..panel.len()]);
        let mut all = [[0; COLUMNS]; ROWS];
        for first in (0..COLUMNS).step_by(WIDTH) {
            let mut sums = [[0_i32; WIDTH]; ROWS];
            for (at, panel) in panel.iter().enumerate() {
                for half in 0..2 {
                    let weights: [i16; WIDTH] = std::array::from_fn(|column| panel[slot(first + column, half)]);
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        let factor = i32::from(row[at][half]);
                        for (sum, weight) in sums.iter_mut().zip(weights) {
                            *sum = sum.wrapping_add(i32::from(weight) * factor);
                        }
                    }
                }
            }
            for (all, sums) in all.iter_mut().zip(sums) {
                all[first..first + WIDTH].copy_from_slice(&sums);
            }
        }
        all
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256i, __m512i};

    use super::{COLUMNS, Job, Kernel, Pair, Panel, Sums};

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
            pub(super) struct $name<'a>(pub(super) $simd, pub(super) Job<'a>);

            impl pulp::NullaryFnOnce for $name<'_> {
                type Output = ();

                #[inline(always)]
                fn call(self) {
                    self.1.run::<$simd, $rows>(self.0);
                }
            }
        };
    }

    // 12 x 2 sums of 16 and 6 x 2 sums of 8: with the weights and one pair, as many registers as there are.
    on!(OnVnni, Vnni, 12);
    on!(OnAvx512, Avx512, 12);
    on!(OnAvx2, Avx2, 6);

    /// With VNNI the compiler makes one instruction of the addition and the products.
    macro_rules! wide {
        ($simd:ident) => {
            impl Kernel for $simd {
                #[inline(always)]
                fn sums<const ROWS: usize>(self, rows: [&[Pair]; ROWS], panel: &[Panel]) -> Sums<ROWS> {
                    let rows = rows.map(|row| &row[..panel.len()]);
                    let mut sums = [[self.foundation._mm512_setzero_si512(); 2]; ROWS];
                    for (at, panel) in panel.iter().enumerate() {
                        let weights: [__m512i; 2] = bytemuck::cast(*panel);
                        for (sums, row) in sums.iter_mut().zip(rows) {
                            let pair = self.foundation._mm512_set1_epi32(bytemuck::cast(row[at]));
                            for (sum, weights) in sums.iter_mut().zip(weights) {
                                let products = self.words._mm512_madd_epi16(pair, weights);
                                *sum = self.foundation._mm512_add_epi32(*sum, products);
                            }
                        }
                    }
                    sums.map(|sums| bytemuck::cast(sums))
                }
            }
        };
    }

    wide!(Vnni);
    wide!(Avx512);

    impl Kernel for Avx2 {
        #[inline(always)]
        fn sums<const ROWS: usize>(self, rows: [&[Pair]; ROWS], panel: &[Panel]) -> Sums<ROWS> {
            let rows = rows.map(|row| &row[..panel.len()]);
            let mut all = [[0; COLUMNS]; ROWS];
            for half in 0..2 {
                let mut sums = [[self.avx._mm256_setzero_si256(); 2]; ROWS];
                for (at, panel) in panel.iter().enumerate() {
                    let weights: [[__m256i; 2]; 2] = bytemuck::cast(*panel);
                    for (sums, row) in sums.iter_mut().zip(rows) {
                        let pair = self.avx._mm256_set1_epi32(bytemuck::cast(row[at]));
                        for (sum, weights) in sums.iter_mut().zip(weights[half]) {
                            *sum = self.avx2._mm256_add_epi32(*sum, self.avx2._mm256_madd_epi16(pair, weights));
                        }
                    }
                }
                for (all, sums) in all.iter_mut().zip(sums) {
                    let sums: [i32; COLUMNS / 2] = bytemuck::cast(sums);
                    all[half * COLUMNS / 2..][..COLUMNS / 2].copy_from_slice(&sums);
                }
            }
            all
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
        let packed = PackedWeights::from_rows(weights, outputs, inputs);
        let shape = format!("{tokens} x {outputs} x {inputs}");
        for path in Path::available() {
            let mut out = vec![-1; tokens * outputs];
            multiply_on(path, a, tokens, &packed, &mut out);
            assert!(out == right, "{path:?}: {shape}");
        }
        let mut out = vec![-1; tokens * outputs];
        multiply(a, tokens, &packed, &mut out);
        assert!(out == right, "the path that is chosen: {shape}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_path_gives_the_naive_sums(
            tokens in 0_usize..40,
            shape in (0_usize..100, prop_oneof![0_usize..80, 500_usize..560]).prop_map(|(n, k)| [n, k]),
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
        for (inputs, a) in [(2_080, 8_128), (2_080, -8_128), (5_001, 8_128), (5_001, i16::MIN)] {
            all_paths_agree(&vec![a; 5 * inputs], 5, &vec![127; 33 * inputs], [33, inputs]);
            all_paths_agree(&vec![a; 5 * inputs], 5, &vec![-128; 33 * inputs], [33, inputs]);
        }
    }

    #[test]
    fn the_portable_path_is_always_there_and_the_last_choice() {
        assert_eq!(Path::available().last(), Some(&Path::Portable), "the last one");
    }
}
