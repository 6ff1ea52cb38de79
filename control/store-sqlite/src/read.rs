//! Reads: records, state pages, outbox.

use rusqlite::{Connection, OptionalExtension, Row, params, types::Type};
use serde_json::Value;
use sluice_control_domain::{Kind, Load, OutboxEntry, RecordKey, StateAudience, StatePage, Stored};

use crate::{PAGE, apply::audience_text};

pub(crate) fn load(connection: &Connection, what: &Load) -> rusqlite::Result<Vec<Stored>> {
    match what {
        Load::Keys(keys) => by_keys(connection, keys),
        Load::Scan { kind, tenant, after, limit } => connection
            .prepare_cached(
                "SELECT tenant, id, version, body FROM records
                 WHERE kind = ?1 AND tenant = ?2 AND id > ?3 ORDER BY id LIMIT ?4",
            )?
            .query_map(params![kind.as_str(), tenant, after.as_deref().unwrap_or(""), limit.min(&PAGE)], stored(*kind))?
            .collect(),
        Load::ByIndex { kind, tenant, name, value, limit } => connection
            .prepare_cached(
                "SELECT r.tenant, r.id, r.version, r.body FROM idx i
                 JOIN records r ON r.kind = i.kind AND r.tenant = i.tenant AND r.id = i.id
                 WHERE i.kind = ?1 AND i.name = ?2 AND i.value = ?3 AND (?4 IS NULL OR i.tenant = ?4)
                 ORDER BY i.tenant, i.id LIMIT ?5",
            )?
            .query_map(params![kind.as_str(), name, value, tenant, limit.min(&PAGE)], stored(*kind))?
            .collect(),
    }
}

fn by_keys(connection: &Connection, keys: &[RecordKey]) -> rusqlite::Result<Vec<Stored>> {
    let mut statement = connection
        .prepare_cached("SELECT tenant, id, version, body FROM records WHERE kind = ?1 AND tenant = ?2 AND id = ?3")?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let row = statement.query_row(params![key.kind.as_str(), key.tenant, key.id], stored(key.kind));
        found.extend(row.optional()?);
    }
    Ok(found)
}

fn stored(kind: Kind) -> impl Fn(&Row<'_>) -> rusqlite::Result<Stored> {
    move |row| {
        let key = RecordKey { kind, tenant: row.get(0)?, id: row.get(1)? };
        Ok(Stored { key, version: row.get(2)?, body: json(row, 3)? })
    }
}

pub(crate) fn json(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    parse(&row.get::<_, String>(column)?, column)
}

fn parse<T: serde::de::DeserializeOwned>(text: &str, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

pub(crate) fn typed<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    parse(&row.get::<_, String>(column)?, column)
}

pub(crate) fn state(
    connection: &Connection,
    tenant: &str,
    audiences: &[StateAudience],
    after: Option<u64>,
) -> rusqlite::Result<StatePage> {
    let (seq, floor): (u64, u64) = connection
        .prepare_cached("SELECT seq, floor FROM state_head WHERE tenant = ?1")?
        .query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or((0, 0));
    // A JSON array of texts as one parameter: the number of audiences is not part of the statement.
    let audiences = Value::from(audiences.iter().map(audience_text).collect::<Vec<_>>()).to_string();
    match after {
        Some(after) if after >= floor && after <= seq => connection
            .prepare_cached(
                "SELECT seq, key, value FROM state_log WHERE tenant = ?1 AND seq > ?2
                 AND audience IN (SELECT value FROM json_each(?3)) ORDER BY seq LIMIT ?4",
            )?
            .query_map(params![tenant, after, audiences, PAGE], |row| {
                let value: Option<String> = row.get(2)?;
                Ok((row.get(0)?, row.get(1)?, value.map(|text| parse(&text, 2)).transpose()?))
            })?
            .collect::<rusqlite::Result<_>>()
            .map(StatePage::Changes),
        _ => connection
            .prepare_cached(
                "SELECT key, value FROM state_live WHERE tenant = ?1
                 AND audience IN (SELECT value FROM json_each(?2)) ORDER BY key, seq",
            )?
            .query_map(params![tenant, audiences], |row| Ok((row.get(0)?, json(row, 1)?)))?
            .collect::<rusqlite::Result<_>>()
            .map(|entries| StatePage::Snapshot { seq, entries }),
    }
}

pub(crate) fn outbox(connection: &Connection, topic: &str, limit: u32) -> rusqlite::Result<Vec<OutboxEntry>> {
    connection
        .prepare_cached(
            "SELECT id, topic, body FROM outbox WHERE topic = ?1 AND body IS NOT NULL ORDER BY seq LIMIT ?2",
        )?
        .query_map(params![topic, limit], |row| {
            Ok(OutboxEntry { id: row.get(0)?, topic: row.get(1)?, body: json(row, 2)? })
        })?
        .collect()
}
