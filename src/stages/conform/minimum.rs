//! What becomes of a row that weighs fewer than the subnet's minimum.

/// What is done about it. SDKs 9 and 10 pad without a word, SDK 11 raises an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BelowMinimum {
    /// Nothing is sent.
    #[default]
    Error,
    /// Every uid gets 1e-5 on top, as SDKs 9 and 10 do.
    Pad,
    /// What nobody earned goes to the subnet's owner, whose income the chain burns.
    Burn,
}

impl BelowMinimum {
    /// All of them, by their names.
    pub const ALL: [(&'static str, Self); 3] = [("error", Self::Error), ("pad", Self::Pad), ("burn", Self::Burn)];
}

/// Adds 1e-5 to the weight of every uid.
pub fn pad(weights: &mut [f64]) {
    weights.iter_mut().for_each(|weight| *weight += 1e-5);
}

/// What was burned, and who made up the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Burned {
    /// How many of the weights that the subnet wants nobody earned.
    pub missing: usize,
    /// Of how many.
    pub minimum: usize,
    /// Uids that got the least weight there is, as the chain counts weights.
    pub fillers: Vec<usize>,
}

/// Gives the subnet's owner what nobody earned. Where k of `weights` (shares by uid, which sum to 1 or are all 0) are above 0 and the subnet
/// wants m, the owner gets (m - k) / m of the row, and those k keep k / m of it between them, in proportion: a row that is not full does
/// not pay more to the few who are in it.
///
/// The owner is one more weight. Where that does not make m, the lowest uids without a weight get 1 / 65535 of the largest each, the least
/// that is not rounded away, or the chain would refuse the row.
///
/// `None`, and nothing done, where there are m or more, or no such owner.
pub fn burn(weights: &mut [f64], owner: usize, minimum: usize) -> Option<Burned> {
    let minimum = minimum.clamp(1, weights.len().max(1));
    let earned = weights.iter().filter(|weight| **weight > 0.0).count();
    if earned >= minimum || owner >= weights.len() {
        return None;
    }
    let missing = minimum - earned;
    for weight in &mut *weights {
        *weight *= earned as f64 / minimum as f64;
    }
    weights[owner] += missing as f64 / minimum as f64;
    let least = weights.iter().copied().fold(0.0, f64::max) / 65_535.0;
    let count = weights.iter().filter(|weight| **weight > 0.0).count();
    let nobodies = weights.iter().enumerate().filter(|(_, weight)| **weight == 0.0).map(|(uid, _)| uid);
    let fillers: Vec<usize> = nobodies.take(minimum - count).collect();
    for &uid in &fillers {
        weights[uid] = least;
    }
    Some(Burned { missing, minimum, fillers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_earned_goes_to_the_owner() {
        // 3 of 8 earned, one half, one quarter and one quarter: 3/8 is theirs and 5/8 the owner's.
        let mut weights = vec![0.0, 0.5, 0.25, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let burned = burn(&mut weights, 9, 8).expect("too few");
        let least = 0.625 / 65_535.0;
        let right = [least, 0.1875, 0.093_75, 0.093_75, least, least, least, 0.0, 0.0, 0.625];
        assert_eq!(weights, right, "shares");
        assert_eq!(burned, Burned { missing: 5, minimum: 8, fillers: vec![0, 4, 5, 6] }, "four make up the numbers");
    }

    #[test]
    fn an_owner_who_earned_gets_both() {
        let mut weights = vec![0.5, 0.5, 0.0];
        burn(&mut weights, 0, 3).expect("too few");
        assert_eq!(weights[..2], [1.0 / 3.0 + 1.0 / 3.0, 1.0 / 3.0], "its own third and the missing one");
        assert!(weights[2] > 0.0, "the third weight");
    }

    #[test]
    fn where_nobody_earned_all_is_burned() {
        let mut weights = vec![0.0; 4];
        assert!(burn(&mut weights, 2, 1).is_some_and(|burned| burned.fillers.is_empty()), "one weight is enough");
        assert_eq!(weights, [0.0, 0.0, 1.0, 0.0], "all of it");
        assert!(burn(&mut [0.0; 4], 2, 0).is_some(), "an empty row is none, whatever the minimum");
    }

    #[test]
    fn a_full_row_stays() {
        let mut weights = vec![0.5, 0.5, 0.0];
        assert_eq!(burn(&mut weights, 2, 2), None, "two of two");
        assert_eq!(burn(&mut weights, 3, 3), None, "no such owner");
        assert_eq!(weights, [0.5, 0.5, 0.0], "untouched");
    }
}
