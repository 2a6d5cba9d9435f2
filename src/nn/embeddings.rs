//! Rows of unit length on the host, in either precision: what goes from the encoder to the stages that compare.
#![deny(clippy::float_arithmetic)]

use bytemuck::{cast_slice, cast_slice_mut};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// In which arithmetic texts are embedded and compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Integers, the same on every machine; for models with GELU and mean pooling.
    #[default]
    Exact,
    /// 32-bit floats, which differ in the last digits between devices; for all models.
    F32,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Exact => "exact",
            Self::F32 => "f32",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "exact" => Ok(Self::Exact),
            "f32" => Ok(Self::F32),
            _ => Err("exact and f32 are known"),
        }
    }
}

/// Rows of unit length, all of one width and precision.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// Numbers in a row.
    pub width: usize,
    /// The rows.
    pub rows: Rows,
}

/// The numbers of rows, `[rows][width]`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Rows {
    /// Integers in 32768ths: a row's length is about 32768.
    Exact(Vec<i16>),
    /// Floats: a row's length is 1.
    F32(Vec<f32>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Self::Exact(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

impl Embeddings {
    /// No row yet.
    pub fn new(precision: Precision, width: usize) -> Self {
        let rows = match precision {
            Precision::Exact => Rows::Exact(Vec::new()),
            Precision::F32 => Rows::F32(Vec::new()),
        };
        Self { width, rows }
    }

    /// What the numbers are.
    pub fn precision(&self) -> Precision {
        match self.rows {
            Rows::Exact(_) => Precision::Exact,
            Rows::F32(_) => Precision::F32,
        }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or(0)
    }

    /// A copy of row `index`.
    pub fn row(&self, index: usize) -> Rows {
        let range = index * self.width..(index + 1) * self.width;
        match &self.rows {
            Rows::Exact(values) => Rows::Exact(values[range].to_vec()),
            Rows::F32(values) => Rows::F32(values[range].to_vec()),
        }
    }

    /// Adds rows at the end.
    ///
    /// # Errors
    /// [`Error::Usage`] if they are of another precision.
    pub fn append(&mut self, rows: Rows) -> Result<()> {
        match (&mut self.rows, rows) {
            (Rows::Exact(values), Rows::Exact(more)) => values.extend(more),
            (Rows::F32(values), Rows::F32(more)) => values.extend(more),
            _ => {
                return Err(Error::Usage {
                    argument: "embeddings".into(),
                    problem: "integers and floats cannot be compared with each other".into(),
                    remedy: "embed all texts in one precision".into(),
                });
            }
        }
        Ok(())
    }

    /// Keeps the first `count` rows.
    pub fn truncate(&mut self, count: usize) {
        match &mut self.rows {
            Rows::Exact(values) => values.truncate(count * self.width),
            Rows::F32(values) => values.truncate(count * self.width),
        }
    }

    /// Those of its rows that `rows` names, in that order.
    pub fn select(&self, rows: &[u32]) -> Self {
        fn all<T: Copy>(values: &[T], width: usize, rows: &[u32]) -> Vec<T> {
            rows.iter().flat_map(|row| &values[*row as usize * width..(*row as usize + 1) * width]).copied().collect()
        }
        let rows = match &self.rows {
            Rows::Exact(values) => Rows::Exact(all(values, self.width, rows)),
            Rows::F32(values) => Rows::F32(all(values, self.width, rows)),
        };
        Self { width: self.width, rows }
    }

    /// How many words of 32 bits a row takes on a device.
    pub(crate) fn words_in_row(&self) -> usize {
        match self.rows {
            Rows::Exact(_) => self.width.div_ceil(2),
            Rows::F32(_) => self.width,
        }
    }

    /// The rows named by `rows`, one after the other, as a device holds them: floats, or two integers a word.
    pub(crate) fn words(&self, rows: &[u32]) -> Vec<u32> {
        let pitch = self.words_in_row();
        let mut words = vec![0; rows.len() * pitch];
        for (words, row) in words.chunks_exact_mut(pitch.max(1)).zip(rows) {
            let bytes = self.bytes(*row);
            cast_slice_mut::<u32, u8>(words)[..bytes.len()].copy_from_slice(bytes);
        }
        words
    }

    /// The bytes of row `index`.
    pub(crate) fn bytes(&self, index: u32) -> &[u8] {
        let range = index as usize * self.width..(index as usize + 1) * self.width;
        match &self.rows {
            Rows::Exact(values) => cast_slice(&values[range]),
            Rows::F32(values) => cast_slice(&values[range]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_laid_out_as_devices_hold_them() {
        let mut exact = Embeddings::new(Precision::Exact, 3);
        exact.append(Rows::Exact(vec![1, -1, 2, 3, 4, -32_768])).expect("of one precision");
        assert_eq!(exact.words(&[1, 0]), [0x0004_0003, 0x0000_8000, 0xffff_0001, 2], "two a word, rows apart");
        assert_eq!((exact.count(), exact.words_in_row(), exact.precision()), (2, 2, Precision::Exact), "the sizes");
        assert_eq!(exact.row(1), Rows::Exact(vec![3, 4, -32_768]), "the second row");
        let floats = Embeddings { width: 2, rows: Rows::F32(vec![1.0, 0.0, 0.0, -1.0]) };
        assert_eq!(floats.words(&[1]), [0, 0xbf80_0000], "the bits");
        assert_eq!((floats.count(), floats.words_in_row(), floats.precision()), (2, 2, Precision::F32), "the sizes");
        let other_way = exact.select(&[1, 0, 1]);
        assert_eq!(other_way.rows, Rows::Exact(vec![3, 4, -32_768, 1, -1, 2, 3, 4, -32_768]), "as they are named");
        assert_eq!(floats.select(&[]).count(), 0, "none");
        let mut first = other_way.clone();
        first.truncate(1);
        assert_eq!(first.rows, exact.row(1), "the first of them");
        assert!(exact.append(floats.rows).is_err(), "precisions are not mixed");
        assert_eq!(exact.count(), 2, "what is refused leaves nothing behind");
    }
}
