//! Sparse and dense matrices, stored by row.
#![deny(clippy::float_arithmetic)]

/// What all matrices have in common: rows of entries, each with its column and value.
///
/// What is made of a matrix is itself one, computed while its rows are read: [`Self::mapped`] and [`Self::filtered`] store nothing.
pub trait Matrix {
    /// What an entry holds.
    type Value: Copy;

    /// The number of rows.
    fn rows(&self) -> usize;

    /// The entries `(column, value)` of a row, in order.
    fn row(&self, row: usize) -> impl Iterator<Item = (u16, Self::Value)>;

    /// As many entries as there can be at most.
    fn most_entries(&self) -> usize;

    /// The entries that `value` gives a value for, of row, column and value, with that value.
    fn filtered<U: Copy, F: Fn(usize, u16, Self::Value) -> Option<U>>(&self, value: F) -> Filtered<'_, Self, F> {
        Filtered { matrix: self, value }
    }

    /// The same entries with other values.
    fn mapped<U: Copy>(
        &self,
        value: impl Fn(usize, u16, Self::Value) -> U,
    ) -> Filtered<'_, Self, impl Fn(usize, u16, Self::Value) -> Option<U>> {
        self.filtered(move |row, column, old| Some(value(row, column, old)))
    }

    /// The entries in memory.
    fn to_csr(&self) -> Csr<Self::Value> {
        let mut csr = Csr::with_capacity(self.rows(), self.most_entries());
        for row in 0..self.rows() {
            csr.extend(self.row(row));
            csr.end_row();
        }
        csr
    }
}

/// A matrix made of another, see [`Matrix::filtered`].
#[derive(Clone, Copy, Debug)]
pub struct Filtered<'a, M: ?Sized, F> {
    matrix: &'a M,
    value: F,
}

impl<M: Matrix + ?Sized, U: Copy, F: Fn(usize, u16, M::Value) -> Option<U>> Matrix for Filtered<'_, M, F> {
    type Value = U;

    fn rows(&self) -> usize {
        self.matrix.rows()
    }

    #[inline]
    fn row(&self, row: usize) -> impl Iterator<Item = (u16, U)> {
        self.matrix.row(row).filter_map(move |(column, old)| Some((column, (self.value)(row, column, old)?)))
    }

    fn most_entries(&self) -> usize {
        self.matrix.most_entries()
    }
}

/// A sparse matrix in compressed rows (CSR).
///
/// Inside a row the entries keep the order in which they were given: for a weight matrix that is the submission order, which the
/// epoch depends on. An entry with value zero is an entry. Columns are 16 bits wide, as uids are, and are not bounded by the number
/// of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr<T> {
    offsets: Vec<u32>,
    columns: Vec<u16>,
    values: Vec<T>,
}

impl<T> Default for Csr<T> {
    /// No rows.
    fn default() -> Self {
        Self { offsets: vec![0], columns: Vec::new(), values: Vec::new() }
    }
}

impl<T: Copy> Csr<T> {
    /// The largest number of entries, so that two matrices can still be united.
    pub const MAX_ENTRIES: usize = (u32::MAX / 2) as usize;

    /// A matrix of empty rows.
    pub fn empty(rows: usize) -> Self {
        Self { offsets: vec![0; rows + 1], columns: Vec::new(), values: Vec::new() }
    }

    /// A matrix without rows and with room for as many as are to come.
    pub fn with_capacity(rows: usize, entries: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { offsets, columns: Vec::with_capacity(entries), values: Vec::with_capacity(entries) }
    }

    /// Without rows, with the memory that there is and room for as many entries as are to come.
    pub(crate) fn emptied(mut self, entries: usize) -> Self {
        self.offsets.truncate(1);
        self.columns.clear();
        self.values.clear();
        self.columns.reserve(entries);
        self.values.reserve(entries);
        self
    }

    /// How many entries there is memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.values.capacity()
    }

    /// A matrix from triples `(row, column, value)`, in any order of rows; entries of one row keep their order.
    ///
    /// `None` where a row is not below `rows` or there are more than [`Self::MAX_ENTRIES`].
    pub fn from_triples(rows: usize, triples: &[(u16, u16, T)]) -> Option<Self> {
        if triples.len() > Self::MAX_ENTRIES {
            return None;
        }
        let mut sorted: Vec<&(u16, u16, T)> = triples.iter().collect();
        if !triples.is_sorted_by_key(|triple| triple.0) {
            sorted.sort_by_key(|triple| triple.0);
        }
        if sorted.last().is_some_and(|triple| usize::from(triple.0) >= rows) {
            return None;
        }
        let mut matrix = Self::with_capacity(rows, triples.len());
        for &&(row, column, value) in &sorted {
            while matrix.rows() < usize::from(row) {
                matrix.end_row();
            }
            matrix.push(column, value);
        }
        while matrix.rows() < rows {
            matrix.end_row();
        }
        Some(matrix)
    }

    /// Adds an entry to the row that is being written.
    #[inline]
    pub fn push(&mut self, column: u16, value: T) {
        self.columns.push(column);
        self.values.push(value);
    }

    /// Adds entries to the row that is being written.
    #[inline]
    pub fn extend(&mut self, entries: impl Iterator<Item = (u16, T)>) {
        entries.for_each(|(column, value)| self.push(column, value));
    }

    /// Adds these columns to the row that is being written, with as many values.
    pub(crate) fn extend_as(&mut self, columns: &[u16], values: impl Iterator<Item = T>) {
        self.columns.extend_from_slice(columns);
        self.values.extend(values);
        debug_assert_eq!(self.columns.len(), self.values.len(), "a value for every column");
    }

    /// Adds rows of another matrix as they are.
    pub(crate) fn append_rows(&mut self, other: &Self, rows: std::ops::Range<usize>) {
        let (Some(&start), Some(&end)) = (other.offsets.get(rows.start), other.offsets.get(rows.end)) else { return };
        let before = self.columns.len() as u32;
        self.columns.extend_from_slice(&other.columns[start as usize..end as usize]);
        self.values.extend_from_slice(&other.values[start as usize..end as usize]);
        self.offsets.extend(other.offsets[rows.start + 1..=rows.end].iter().map(|offset| offset - start + before));
    }

    /// The values of the row that is being written.
    pub fn new_values_mut(&mut self) -> &mut [T] {
        let start = self.offsets.last().map_or(0, |&start| start as usize);
        &mut self.values[start..]
    }

    /// Replaces every value by what `value` gives for row, column and value; where that is `None`, the entry goes.
    #[inline]
    pub fn retain_map(&mut self, value: impl Fn(usize, u16, T) -> Option<T>) {
        let (mut start, mut kept) = (0, 0);
        for row in 0..self.rows() {
            let end = self.offsets[row + 1] as usize;
            for place in start..end {
                // Written in any case, and overwritten by the next where it goes: which do is hard to foretell.
                let (column, old) = (self.columns[place], self.values[place]);
                let new = value(row, column, old);
                self.columns[kept] = column;
                self.values[kept] = new.unwrap_or(old);
                kept += usize::from(new.is_some());
            }
            start = end;
            self.offsets[row + 1] = kept as u32;
        }
        self.columns.truncate(kept);
        self.values.truncate(kept);
    }

    /// Replaces every value by what `value` gives for row, column and value.
    #[inline]
    pub fn map_in_place(&mut self, mut value: impl FnMut(usize, u16, T) -> T) {
        for row in 0..self.rows() {
            let range = self.range(row);
            let places = self.columns[range.clone()].iter().zip(&mut self.values[range]);
            places.for_each(|(&column, place)| *place = value(row, column, *place));
        }
    }

    /// Ends the row that is being written.
    #[inline]
    pub fn end_row(&mut self) {
        self.offsets.push(self.columns.len() as u32);
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// Where each row begins in [`Self::columns`] and [`Self::values`], and one past the last: `rows + 1` numbers.
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The column of every entry, row by row.
    pub fn columns(&self) -> &[u16] {
        &self.columns
    }

    /// The value of every entry, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    #[inline]
    fn range(&self, row: usize) -> std::ops::Range<usize> {
        match (self.offsets.get(row), self.offsets.get(row + 1)) {
            (Some(&start), Some(&end)) => start as usize..end as usize,
            _ => 0..0,
        }
    }

    /// The entries `(column, value)` of a row, in order; none for a row that is not there.
    #[inline]
    pub fn row(&self, row: usize) -> impl ExactSizeIterator<Item = (u16, T)> + Clone {
        let range = self.range(row);
        let (columns, values) = (&self.columns[range.clone()], &self.values[range]);
        columns.iter().zip(values).map(|(&column, &value)| (column, value))
    }

    /// The columns of a row, in order; none for a row that is not there.
    pub fn row_columns(&self, row: usize) -> &[u16] {
        &self.columns[self.range(row)]
    }

    /// The values of a row, in order; none for a row that is not there.
    pub fn row_values(&self, row: usize) -> &[T] {
        &self.values[self.range(row)]
    }

    /// Every entry `(row, column, value)`, in order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, u16, T)> {
        (0..self.rows()).flat_map(move |row| self.row(row).map(move |(column, value)| (row, column, value)))
    }

    /// Replaces a row.
    pub fn set_row(&mut self, row: usize, entries: &[(u16, T)]) -> bool {
        let range = self.range(row);
        if row >= self.rows() || self.len() - range.len() + entries.len() > Self::MAX_ENTRIES {
            return false;
        }
        for offset in &mut self.offsets[row + 1..] {
            *offset = *offset - range.len() as u32 + entries.len() as u32;
        }
        self.columns.splice(range.clone(), entries.iter().map(|entry| entry.0));
        self.values.splice(range, entries.iter().map(|entry| entry.1));
        true
    }
}

impl<T: Copy> Matrix for Csr<T> {
    type Value = T;

    fn rows(&self) -> usize {
        Self::rows(self)
    }

    #[inline]
    fn row(&self, row: usize) -> impl Iterator<Item = (u16, T)> {
        Self::row(self, row)
    }

    fn most_entries(&self) -> usize {
        self.len()
    }
}

impl<T: Copy> Matrix for Dense<T> {
    type Value = T;

    fn rows(&self) -> usize {
        Self::rows(self)
    }

    #[inline]
    fn row(&self, row: usize) -> impl Iterator<Item = (u16, T)> {
        let values = self.values.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default();
        values.iter().enumerate().map(|(column, &value)| (column as u16, value))
    }

    fn most_entries(&self) -> usize {
        self.values.len()
    }
}

/// A dense matrix, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dense<T> {
    columns: usize,
    values: Vec<T>,
}

impl<T: Copy> Dense<T> {
    /// A matrix of one value.
    pub fn filled(rows: usize, columns: usize, value: T) -> Self {
        Self { columns, values: vec![value; rows * columns] }
    }

    /// The number of rows; 0 where there are no columns.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.columns).unwrap_or(0)
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// All values, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The rows, to be changed in place.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [T]> {
        self.values.chunks_exact_mut(self.columns.max(1))
    }

    /// Every entry `(row, column, value)`, in order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, u16, T)> {
        let columns = self.columns.max(1);
        self.values.iter().enumerate().map(move |(place, &value)| (place / columns, (place % columns) as u16, value))
    }
}
