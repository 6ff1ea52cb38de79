//! What changed between the cached rows and the fetched ones.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Key, Row, RowHash};

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// The row is new.
    New,
    /// The row was there and is another.
    Change,
    /// The row is gone.
    Delete,
}

/// A change with both rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Table number.
    pub table: usize,
    /// Which row.
    pub key: Key,
    /// The row before; `None` when it is new.
    pub before: Option<Row>,
    /// The row now; `None` when it is gone.
    pub after: Option<Row>,
}

impl Change {
    /// Its kind; a change without any row is none.
    #[must_use]
    pub const fn kind(&self) -> Option<ChangeKind> {
        match (&self.before, &self.after) {
            (None, Some(_)) => Some(ChangeKind::New),
            (Some(_), Some(_)) => Some(ChangeKind::Change),
            (Some(_), None) => Some(ChangeKind::Delete),
            (None, None) => None,
        }
    }
}

/// One difference, by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta {
    /// Only among the new rows.
    Inserted(Key),
    /// In both, with different hashes.
    Changed(Key),
    /// Only among the old rows.
    Deleted(Key),
}

/// Counts of a [`Merge`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that were there.
    pub old: u64,
    /// Rows that are there.
    pub new: u64,
    /// Rows that are gone.
    pub deleted: u64,
}

/// Below this many old rows any share may go.
const FEW: u64 = 10;

/// A sync that would delete too much is not believed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "{deleted} of {old} rows are missing; nothing was changed. If they are truly gone, raise max_deleted_percent for one sync"
)]
pub struct MassDeletion {
    /// Rows that would go.
    pub deleted: u64,
    /// Rows that were there.
    pub old: u64,
}

impl Tally {
    /// Refuses a sync that empties a table or deletes more than `percent` of it. `expired` of the deleted rows only
    /// left the window.
    ///
    /// # Errors
    /// [`MassDeletion`].
    pub const fn believe(&self, expired: u64, percent: u8) -> Result<(), MassDeletion> {
        let deleted = self.deleted.saturating_sub(expired);
        let emptied = self.new == 0 && deleted > 0 && percent < 100;
        let many = self.old >= FEW && deleted.saturating_mul(100) > self.old.saturating_mul(percent as u64);
        if emptied || many { Err(MassDeletion { deleted, old: self.old }) } else { Ok(()) }
    }
}

/// Walks two sequences of (key, hash), each strictly ascending by key, and gives the differences in that order.
/// Holds one item of each: memory does not grow with the table.
#[derive(Debug)]
pub struct Merge<O, N> {
    old: O,
    new: N,
    next_old: Option<(Key, RowHash)>,
    next_new: Option<(Key, RowHash)>,
    tally: Tally,
}

impl<O, N, E> Merge<O, N>
where
    O: Iterator<Item = Result<(Key, RowHash), E>>,
    N: Iterator<Item = Result<(Key, RowHash), E>>,
{
    /// Begins.
    ///
    /// # Errors
    /// Those of the sequences.
    pub fn new(mut old: O, mut new: N) -> Result<Self, E> {
        let (next_old, next_new) = (old.next().transpose()?, new.next().transpose()?);
        Ok(Self { old, new, next_old, next_new, tally: Tally::default() })
    }

    /// The next difference; `None` at the end.
    ///
    /// # Errors
    /// Those of the sequences.
    pub fn next_delta(&mut self) -> Result<Option<Delta>, E> {
        loop {
            let order = match (&self.next_old, &self.next_new) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((old, _)), Some((new, _))) => old.cmp(new),
            };
            let old = if order.is_le() { self.take_old()? } else { None };
            let new = if order.is_ge() { self.take_new()? } else { None };
            match (old, new) {
                (Some((key, _)), None) => {
                    self.tally.deleted += 1;
                    return Ok(Some(Delta::Deleted(key)));
                }
                (None, Some((key, _))) => return Ok(Some(Delta::Inserted(key))),
                (Some((key, was)), Some((_, is))) if was != is => return Ok(Some(Delta::Changed(key))),
                _ => {}
            }
        }
    }

    /// Counts so far; final once [`Self::next_delta`] gave `None`.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    fn take_old(&mut self) -> Result<Option<(Key, RowHash)>, E> {
        self.tally.old += 1;
        let next = self.old.next().transpose()?;
        Ok(std::mem::replace(&mut self.next_old, next))
    }

    fn take_new(&mut self) -> Result<Option<(Key, RowHash)>, E> {
        self.tally.new += 1;
        let next = self.new.next().transpose()?;
        Ok(std::mem::replace(&mut self.next_new, next))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{collections::BTreeMap, convert::Infallible};

    use proptest::prelude::*;

    use super::*;

    type Table = BTreeMap<String, u8>;

    fn deltas(old: &Table, new: &Table) -> (Vec<Delta>, Tally) {
        let items = |table: &Table| -> Vec<Result<(Key, RowHash), Infallible>> {
            table.iter().map(|(key, value)| Ok((key.clone(), [*value; 16]))).collect()
        };
        let mut merge = Merge::new(items(old).into_iter(), items(new).into_iter()).unwrap();
        let mut out = Vec::new();
        while let Some(delta) = merge.next_delta().unwrap() {
            out.push(delta);
        }
        (out, merge.tally())
    }

    fn model(old: &Table, new: &Table) -> Vec<Delta> {
        let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        keys.into_iter()
            .filter_map(|key| match (old.get(key), new.get(key)) {
                (None, Some(_)) => Some(Delta::Inserted(key.clone())),
                (Some(_), None) => Some(Delta::Deleted(key.clone())),
                (was, is) => (was != is).then(|| Delta::Changed(key.clone())),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn m6_the_diff_agrees_with_its_model(
            old in prop::collection::btree_map("[a-d]{0,3}", 0..3_u8, 0..20),
            new in prop::collection::btree_map("[a-d]{0,3}", 0..3_u8, 0..20),
        ) {
            let (found, tally) = deltas(&old, &new);
            prop_assert_eq!(&found, &model(&old, &new));
            let deleted = old.keys().filter(|key| !new.contains_key(*key)).count() as u64;
            prop_assert_eq!(tally, Tally { old: old.len() as u64, new: new.len() as u64, deleted });
        }
    }

    #[test]
    fn m6_an_empty_or_shrunken_fetch_is_not_believed() {
        let tally = |old, new, deleted| Tally { old, new, deleted };
        assert!(tally(500, 0, 500).believe(0, 50).is_err());
        assert!(tally(3, 0, 3).believe(0, 50).is_err(), "even a small table is not emptied");
        assert!(tally(500, 249, 251).believe(0, 50).is_err());
        assert!(tally(500, 250, 250).believe(0, 50).is_ok());
        assert!(tally(500, 100, 400).believe(300, 50).is_ok(), "rows that left the window do not count");
        assert!(tally(0, 0, 0).believe(0, 0).is_ok());
        assert!(tally(500, 0, 500).believe(0, 100).is_ok(), "an operator can insist");
    }
}
