//! The subnet owner's share.

use serde::{Deserialize, Serialize};

use super::normalise::{Normalise, To};
use super::table::Table;
use super::{Flaw, flaw};

/// A share of the row for the subnet's owner, whose incentive the chain burns. Comes last.
///
/// The share goes to a uid only where that uid's coldkey is the one named here: a uid may have been given to somebody else since. He gets
/// exactly the share, whatever he earned himself (that is left out), and all of it where nobody has earned anything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burn {
    /// Above 0, at most 1.
    pub share: f64,
    /// The owner's coldkey.
    pub coldkey: String,
    /// His uid; that of the subnet's state (`hyper.owner_uid`) if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u16>,
}

impl Burn {
    pub(super) fn check(&self) -> Result<(), Flaw> {
        if self.coldkey.is_empty() {
            return flaw("coldkey", "it is empty", "give the subnet owner's coldkey");
        }
        if self.share > 0.0 && self.share <= 1.0 {
            return Ok(());
        }
        flaw("share", format!("{} is not above 0 and at most 1", self.share), "0.5 burns half of the row")
    }

    /// The uid that gets the share.
    pub(super) fn target(&self, owner_uid: Option<u16>) -> Option<u16> {
        self.uid.or(owner_uid)
    }

    /// The uid that gets the share. `coldkey` tells a uid's: `None` where nobody has the uid, `Some(None)` where the coldkey is not known.
    pub(super) fn owner<'a>(
        &self,
        owner_uid: Option<u16>,
        coldkey: impl Fn(u16) -> Option<Option<&'a str>>,
    ) -> Result<u16, Flaw> {
        let Some(uid) = self.target(owner_uid) else {
            return flaw(
                "uid",
                "neither the criteria nor the subnet's state say which uid is the owner's",
                "give uid, or a state with hyper.owner_uid (--metagraph)",
            );
        };
        match coldkey(uid) {
            Some(Some(coldkey)) if coldkey == self.coldkey => Ok(uid),
            Some(Some(other)) => {
                let problem = format!("uid {uid} belongs to coldkey {other:?}, not to the owner's {:?}", self.coldkey);
                flaw("coldkey", problem, "find the uid that is the owner's now; nothing was given to this one")
            }
            Some(None) => {
                let problem = format!("the coldkey of uid {uid} is not known, so the share could go to anybody");
                flaw("coldkey", problem, "give a state of the subnet that has coldkeys (--metagraph)")
            }
            None => {
                let problem = format!("nobody is known to have uid {uid}");
                flaw("uid", problem, "give the subnet's state with its hotkeys (--metagraph), and the owner's uid")
            }
        }
    }

    pub(super) fn apply(&self, table: &Table, values: &mut [Option<f64>]) -> Result<(), Flaw> {
        let at = |uid: u16| table.entrants.iter().position(|entrant| entrant.uid == Some(uid));
        let uid = self.owner(table.owner_uid, |uid| Some(table.entrants[at(uid)?].coldkey.as_deref()))?;
        let Some(owner) = at(uid) else { return Ok(()) };
        values[owner] = Some(0.0);
        Normalise { to: To::Sum }.apply(values);
        let earned = values.iter().flatten().any(|value| *value > 0.0);
        let share = if earned { self.share } else { 1.0 };
        values.iter_mut().flatten().for_each(|value| *value *= 1.0 - share);
        values[owner] = Some(share);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::weights::table::tests::one_prompt;

    fn owned(uid: u16, coldkey: Option<&str>) -> Table {
        let mut table = one_prompt(&[(1, None), (1, None), (1, None)]);
        table.entrants[2].uid = Some(uid);
        table.entrants[2].coldkey = coldkey.map(str::to_owned);
        table.owner_uid = Some(7);
        table
    }

    fn burn(share: f64) -> Burn {
        Burn { share, coldkey: "5Owner".into(), uid: None }
    }

    #[test]
    fn the_owner_gets_exactly_the_share() {
        let table = owned(7, Some("5Owner"));
        let run = |share, values: [Option<f64>; 3]| {
            let mut values = values.to_vec();
            burn(share).apply(&table, &mut values).expect("the owner's");
            values
        };
        assert_eq!(run(0.5, [Some(3.0), Some(1.0), None]), [Some(0.375), Some(0.125), Some(0.5)], "half");
        let own = run(0.5, [Some(3.0), Some(1.0), Some(9.0)]);
        assert_eq!(own, [Some(0.375), Some(0.125), Some(0.5)], "half, whatever he earned himself");
        assert_eq!(run(0.5, [Some(0.0), None, None]), [Some(0.0), None, Some(1.0)], "all of it where nobody earned");
        assert_eq!(run(1.0, [Some(1.0), None, None]), [Some(0.0), None, Some(1.0)], "everything");
    }

    #[test]
    fn nobody_else_gets_it() {
        let refused = |table: &Table, burn: &Burn| {
            let mut values = vec![Some(1.0), None, None];
            let flaw = burn.apply(table, &mut values).expect_err("not the owner's");
            assert_eq!(values, [Some(1.0), None, None], "nothing has moved");
            (flaw.field, flaw.problem)
        };
        let (field, problem) = refused(&owned(7, Some("5Thief")), &burn(0.5));
        assert!(field == "coldkey" && problem.contains("uid 7") && problem.contains("5Thief"), "{problem}");
        assert_eq!(refused(&owned(7, None), &burn(0.5)).0, "coldkey", "an unknown coldkey is not the owner's");
        assert_eq!(refused(&owned(8, Some("5Owner")), &burn(0.5)).0, "uid", "the state's uid is nobody's");
        let other = Burn { uid: Some(9), ..burn(0.5) };
        assert_eq!(refused(&owned(7, Some("5Owner")), &other).0, "uid", "the given uid is nobody's");
        let ownerless = Table { owner_uid: None, ..owned(7, Some("5Owner")) };
        assert_eq!(refused(&ownerless, &burn(0.5)).0, "uid", "no uid at all");
    }

    #[test]
    fn shares_and_coldkeys_are_checked() {
        for share in [0.0, 1.5, f64::NAN] {
            assert_eq!(burn(share).check().expect_err("no share").field, "share", "{share}");
        }
        assert_eq!(Burn { coldkey: String::new(), ..burn(0.5) }.check().expect_err("none").field, "coldkey", "empty");
    }
}
