//! Which weights count, and each validator's in shares (YUMA §5).

use crate::fixed::{Divisor, I32F32};
use crate::matrix::{Csr, Matrix};

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

impl Admission<'_> {
    /// Whether a row's entry in a column counts.
    ///
    /// A row needs a permit. An entry (i, j) needs: `i != j` unless i is the owner; weights set after j was registered,
    /// `last_update_i > registered_j`; and no open commit from before that, `commit_i >= registered_j`.
    #[inline]
    pub fn counts(&self, uid: usize, column: u16) -> bool {
        let miner = usize::from(column);
        let Some(&registered) = self.block_at_registration.get(miner) else { return false };
        let may_weigh_itself = self.owner.map(usize::from) == Some(uid);
        let commit = self.commit_block.and_then(|blocks| blocks.get(uid).copied().flatten()).unwrap_or(u64::MAX);
        let fresh = self.last_update[uid] > registered && commit >= registered;
        self.permit[uid] && (miner != uid || may_weigh_itself) && fresh
    }
}

/// The weights that count, as submitted and in submission order; entries with value zero stay entries.
pub fn admitted<'a>(weights: &'a Csr<u16>, admission: Admission<'a>) -> impl Matrix<Value = u16> + 'a {
    weights.filtered(move |uid, column, weight| admission.counts(uid, column).then_some(weight))
}

/// Every row in shares of its sum: `w_ij = w_ij / SUM_j w_ij`. A row of zeros stays. Written to the memory of a matrix that has served.
pub fn shares(weights: &impl Matrix<Value = u16>, memory: Csr<I32F32>) -> Csr<I32F32> {
    let mut shares = memory.emptied(weights.most_entries());
    for row in 0..weights.rows() {
        push_shares(&mut shares, weights.row(row));
    }
    shares
}

/// Adds a row in shares of its sum.
pub(super) fn push_shares(shares: &mut Csr<I32F32>, row: impl Iterator<Item = (u16, u16)>) {
    let mut sum = 0_u32;
    // Counted in units of 2^-32 at first: a quotient does not change with the unit of both.
    shares.extend(row.map(|(column, weight)| {
        sum = sum.wrapping_add(weight.into());
        (column, I32F32::from_bits(weight.into()))
    }));
    // Only a sum above zero divides; beyond 32,767 entries it may have wrapped below.
    let divisor = (1..1 << 31).contains(&sum).then(|| Divisor::new(I32F32::from_bits(sum.into())));
    for share in shares.new_values_mut() {
        *share = divisor.map_or(I32F32::from_bits(share.to_bits() << 32), |divisor| divisor.divide(*share));
    }
    shares.end_row();
}
