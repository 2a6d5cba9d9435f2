//! Which weights count, and each validator's in shares (YUMA §5).

use crate::fixed::I32F32;
use crate::matrix::Csr;

/// What decides whether a weight counts. Vectors hold one value per uid.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'a> {
    /// Who may set weights.
    pub permit: &'a [bool],
    /// Whose weight on itself counts.
    pub owner: Option<u16>,
    /// The block of each row's last weights.
    pub last_update: &'a [u64],
    /// The block at which each column was registered.
    pub block_at_registration: &'a [u64],
    /// The block of each row's earliest open commit, where commit-reveal is on.
    pub commit_block: Option<&'a [Option<u64>]>,
}

/// The weights that count, as submitted and in submission order; entries with value zero stay entries.
///
/// A row needs a permit. An entry (i, j) needs: `i != j` unless i is the owner; weights set after j was registered,
/// `last_update_i > registered_j`; and no open commit from before that, `commit_i >= registered_j`.
pub fn admitted(weights: &Csr<u16>, admission: Admission<'_>) -> Csr<I32F32> {
    let mut admitted = Csr::with_capacity(weights.rows(), weights.len());
    for (uid, (&permit, &last_update)) in admission.permit.iter().zip(admission.last_update).enumerate() {
        if permit {
            let may_weigh_itself = admission.owner.map(usize::from) == Some(uid);
            let commit =
                admission.commit_block.and_then(|blocks| blocks.get(uid).copied().flatten()).unwrap_or(u64::MAX);
            for (column, weight) in weights.row(uid) {
                let miner = usize::from(column);
                let Some(&registered) = admission.block_at_registration.get(miner) else { continue };
                if (miner != uid || may_weigh_itself) && last_update > registered && commit >= registered {
                    admitted.push(column, I32F32::from_u16(weight));
                }
            }
        }
        admitted.end_row();
    }
    admitted
}

/// Divides every row by its sum: `w_ij = w_ij / SUM_j w_ij`. A row of zeros stays.
pub fn normalize_rows(weights: &mut Csr<I32F32>) {
    for row in 0..weights.rows() {
        let values = weights.row_values_mut(row);
        if values.iter().sum::<I32F32>() > I32F32::ZERO {
            I32F32::normalize(values);
        }
    }
}
