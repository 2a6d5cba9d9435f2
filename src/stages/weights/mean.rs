//! The mean of a column.

use serde::{Deserialize, Serialize};

use super::table::{Column, Table};
use super::{Combine, Flaw, between};

/// Each miner's mean of a column, in [0, 1]; with `above`, of +1 for each number above it and -1 for each other one, in [-1, 1].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mean {
    /// Of what.
    pub column: Column,
    /// From where on a number counts as good; numbers count as they are if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// What becomes of the values so far.
    pub combine: Combine,
}

impl Mean {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        self.above.map_or(Ok(()), |above| between("above", above, 0.0, 1.0))
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) {
        let means = match self.above {
            None => table.column(self.column),
            // Exact: a product of floats with 16 bits and one of 53 is rounded once.
            Some(above) => {
                table.means(-1, |row| if f64::from(row.get(self.column)) > above * 65_535.0 { 1 } else { -1 })
            }
        };
        self.combine.apply(values, means);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::table;

    #[test]
    fn numbers_or_signs() {
        let table = table(&[&[Some(65_535), Some(0), Some(40_000), Some(40_000)], &[Some(65_535), None, None, None]]);
        let mut values = vec![None; 2];
        let mean = Mean { above: Some(0.5), ..Mean::default() };
        mean.apply(&table, &mut values);
        assert_eq!(values, [Some(0.5), Some(-0.5)], "three of four above, one of four: what is missing is not above");
        Mean { combine: Combine::Multiply, ..Mean::default() }.apply(&table, &mut values);
        assert_eq!(values[1], Some(-0.125), "-1/2 times 1/4");
        assert!(Mean { above: Some(f64::NAN), ..Mean::default() }.check().is_err(), "no threshold");
    }
}
