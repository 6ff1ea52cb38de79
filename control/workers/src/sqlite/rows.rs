//! Reading rows, messages, and who may see what.

use rusqlite::{Connection, OptionalExtension, params};
use sluice_control_feed::{FeedMessage, Lookup, Person, see};
use sluice_control_sync::{Cell, Key, Row};
use sluice_node_identity::IntegrationId;

use crate::{CacheError, Target};

/// A table's name by its number.
pub(super) fn name(target: &Target, table: usize) -> &str {
    target.declaration.tables.get(table).map_or("", |table| table.name.as_str())
}

/// Rows as they are now.
pub(super) struct Rows<'c> {
    db: &'c Connection,
    target: &'c Target,
}

impl<'c> Rows<'c> {
    pub(super) const fn new(db: &'c Connection, target: &'c Target) -> Self {
        Self { db, target }
    }

    /// One row.
    pub(super) fn row(&self, table: usize, key: &Key) -> Result<Option<Row>, CacheError> {
        let body: Option<String> = self
            .db
            .prepare_cached("SELECT body FROM live WHERE integration = ?1 AND tbl = ?2 AND key = ?3")?
            .query_row(params![self.target.integration.as_str(), name(self.target, table), key], |row| row.get(0))
            .optional()?;
        Ok(body.map(|body| serde_json::from_str(&body)).transpose()?)
    }
}

impl Lookup for Rows<'_> {
    type Error = CacheError;

    fn cell(&self, table: usize, key: &Key, column: usize) -> Result<Cell, CacheError> {
        Ok(self.row(table, key)?.map_or(Cell::Null, |row| row.cell(column).clone()))
    }
}

/// Whether a person may see a row.
pub(super) fn sees(
    db: &Connection,
    target: &Target,
    person: &Person,
    table: usize,
    row: &Row,
) -> Result<bool, CacheError> {
    Ok(see(&target.declaration, table, row, &Rows::new(db, target), person)?.is_some())
}

/// Whether a person may see the row that is there.
pub(super) fn visible(
    db: &Connection,
    target: &Target,
    person: &Person,
    table: &str,
    key: &Key,
) -> Result<bool, CacheError> {
    let Some((table, _)) = target.declaration.table(table) else { return Ok(false) };
    let Some(row) = Rows::new(db, target).row(table, key)? else { return Ok(false) };
    sees(db, target, person, table, &row)
}

/// Rows of a table for administrators.
pub(super) fn list(
    db: &Connection,
    target: &Target,
    table: usize,
    limit: u32,
) -> Result<Vec<serde_json::Value>, CacheError> {
    let Some(spec) = target.declaration.tables.get(table) else { return Ok(Vec::new()) };
    let mut statement =
        db.prepare_cached("SELECT body FROM live WHERE integration = ?1 AND tbl = ?2 ORDER BY key LIMIT ?3")?;
    let bodies = statement
        .query_map(params![target.integration.as_str(), spec.name, limit], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    bodies.iter().map(|body| Ok(spec.to_json(&serde_json::from_str(body)?))).collect()
}

/// Messages for the feed, oldest first.
pub(super) fn messages(db: &Connection, limit: u32) -> Result<Vec<(u64, IntegrationId, FeedMessage)>, CacheError> {
    let mut statement = db.prepare_cached("SELECT seq, integration, body FROM message ORDER BY seq LIMIT ?1")?;
    let found = statement
        .query_map([limit], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    found
        .into_iter()
        .map(|(seq, integration, body)| {
            let integration = integration.parse().map_err(|_| CacheError::Failed("a message is damaged".into()))?;
            Ok((seq.unsigned_abs(), integration, serde_json::from_str(&body)?))
        })
        .collect()
}

/// Forgets messages.
pub(super) fn delivered(db: &Connection, up_to: u64) -> Result<(), CacheError> {
    let up_to = i64::try_from(up_to).unwrap_or(i64::MAX);
    db.prepare_cached("DELETE FROM message WHERE seq <= ?1")?.execute([up_to])?;
    Ok(())
}
