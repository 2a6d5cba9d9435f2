//! The one `unsafe` room of the float twins: a bounds-checked door to the `gemm` crates. Only the f32 one is taken: the
//! umbrella crate would compile four more element types.

/// A matrix in a slice: element (i, j) stands at `i * row + j * column`.
#[derive(Clone, Copy)]
pub(crate) struct Strides {
    pub row: usize,
    pub column: usize,
}

/// out (m x n) = a (m x k) * b (k x n), on one thread. The sums run over k in an order that depends on k alone, as long
/// as neither m nor n is 1 (the crate then takes another path), which is why the twins pad to two.
///
/// Does nothing but zero `out` if `k` is 0, and nothing at all if a matrix does not lie in its slice, which would be a
/// bug of the caller and is asserted in checked builds.
pub(crate) fn multiply(
    [m, n, k]: [usize; 3],
    (a, of_a): (&[f32], Strides),
    (b, of_b): (&[f32], Strides),
    (out, of_out): (&mut [f32], Strides),
) {
    let spans = |rows: usize, columns: usize, strides: Strides| {
        if rows == 0 || columns == 0 { 0 } else { (rows - 1) * strides.row + (columns - 1) * strides.column + 1 }
    };
    let lies_inside = spans(m, k, of_a) <= a.len() && spans(k, n, of_b) <= b.len() && spans(m, n, of_out) <= out.len();
    // Two elements of `out` on one address would race inside the kernel's vectors.
    let distinct =
        of_out.row.max(of_out.column) >= of_out.row.min(of_out.column) * if of_out.row < of_out.column { m } else { n };
    debug_assert!(lies_inside && distinct, "a matrix lies outside its slice");
    if !lies_inside || !distinct || m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        (0..n).for_each(|column| (0..m).for_each(|row| out[row * of_out.row + column * of_out.column] = 0.0));
        return;
    }
    #[expect(unsafe_code, reason = "gemm takes pointers; every address is checked against its slice above")]
    // SAFETY: the spans above bound every address that the strides reach; `out` is borrowed mutably, so it does not
    // overlap `a` or `b`; strides are far below isize::MAX, as slices are.
    unsafe {
        gemm_f32::gemm::f32::get_gemm_fn()(
            m,
            n,
            k,
            out.as_mut_ptr(),
            of_out.column as isize,
            of_out.row as isize,
            false,
            a.as_ptr(),
            of_a.column as isize,
            of_a.row as isize,
            b.as_ptr(),
            of_b.column as isize,
            of_b.row as isize,
            0.0_f32,
            1.0_f32,
            false,
            false,
            false,
            gemm_common::Parallelism::None,
        );
    }
}
