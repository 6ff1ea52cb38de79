//! Walking the stage and what is there side by side.

use rusqlite::{Statement, Transaction, params};
use sluice_control_sync::{Change, Delta, Key, Merge, Row, RowHash, Tally};

use super::rows::{Rows, name};
use crate::{CacheError, Swap};

/// Differences of one table.
pub(super) struct TableDiff {
    /// With both rows; without the rows that only left the window.
    pub(super) changes: Vec<Change>,
    /// Rows that left the window.
    pub(super) expired: Vec<Key>,
    /// Counts.
    pub(super) tally: Tally,
}

/// Compares one table.
pub(super) fn diff(tx: &Transaction<'_>, swap: &Swap, table: usize) -> Result<TableDiff, CacheError> {
    let mut deltas = Vec::new();
    let tally = {
        let mut old = tx.prepare(&select("live"))?;
        let mut new = tx.prepare(&select("staged"))?;
        let mut merge = Merge::new(hashes(&mut old, swap, table)?, hashes(&mut new, swap, table)?)?;
        while let Some(delta) = merge.next_delta()? {
            deltas.push(delta);
        }
        merge.tally()
    };
    let mut found = TableDiff { changes: Vec::new(), expired: Vec::new(), tally };
    for delta in deltas {
        let (key, was, is) = match delta {
            Delta::Inserted(key) => (key, false, true),
            Delta::Changed(key) => (key, true, true),
            Delta::Deleted(key) => (key, true, false),
        };
        let before = if was { Rows::new(tx, &swap.target).row(table, &key)? } else { None };
        let after = if is { staged(tx, swap, table, &key)? } else { None };
        if after.is_none() && before.as_ref().is_some_and(|row| left_window(swap, table, row)) {
            found.expired.push(key);
        } else {
            found.changes.push(Change { table, key, before, after });
        }
    }
    Ok(found)
}

fn select(from: &str) -> String {
    format!("SELECT key, hash FROM {from} WHERE integration = ?1 AND tbl = ?2 ORDER BY key")
}

fn hashes<'s>(
    statement: &'s mut Statement<'_>,
    swap: &Swap,
    table: usize,
) -> Result<impl Iterator<Item = Result<(Key, RowHash), rusqlite::Error>> + use<'s>, CacheError> {
    let bound = params![swap.target.integration.as_str(), name(&swap.target, table)];
    Ok(statement.query_map(bound, |row| Ok((row.get(0)?, row.get(1)?)))?)
}

fn staged(tx: &Transaction<'_>, swap: &Swap, table: usize, key: &Key) -> Result<Option<Row>, CacheError> {
    let body: String =
        tx.prepare_cached("SELECT body FROM staged WHERE integration = ?1 AND tbl = ?2 AND key = ?3")?
            .query_row(params![swap.target.integration.as_str(), name(&swap.target, table), key], |row| row.get(0))?;
    Ok(Some(serde_json::from_str(&body)?))
}

/// Whether a missing row was last touched before the first day that was asked for.
fn left_window(swap: &Swap, table: usize, row: &Row) -> bool {
    let window = swap.target.declaration.tables.get(table).and_then(|table| table.window.as_ref());
    let since = swap.since.get(table).and_then(Option::as_ref);
    let (Some(window), Some(since)) = (window, since) else { return false };
    row.cell(window.column).display().get(..since.len()).is_some_and(|day| day < since.as_str())
}
