//! One change set into an open savepoint.

use aws_lc_rs::hmac;
use rusqlite::{Connection, OptionalExtension, params};
use sluice_control_domain::{ChangeSet, Commit, OutboxEntry, PLATFORM, RecordKey, StateAudience, StateChange, Write};
use sluice_node_identity::TenantId;

use crate::{STATE_LOG_KEPT, audit};

pub(crate) fn tenant_text(tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(|| PLATFORM.to_owned(), ToString::to_string)
}

pub(crate) fn audience_text(audience: &StateAudience) -> String {
    match audience {
        StateAudience::Tenant => "tenant".to_owned(),
        StateAudience::Site(site) => format!("site/{site}"),
        StateAudience::Node(node) => format!("node/{node}"),
    }
}

/// Writes `set`. On `Conflict` or an error the caller undoes the savepoint.
pub(crate) fn change_set(connection: &Connection, key: &hmac::Key, set: &ChangeSet) -> rusqlite::Result<Commit> {
    for (record, version) in &set.expected {
        if version_of(connection, record)?.unwrap_or(0) != *version {
            return Ok(Commit::Conflict);
        }
    }
    for write in &set.writes {
        match write {
            Write::Put { key, body, index } => put(connection, key, &body.to_string(), index)?,
            Write::Delete(key) => delete(connection, key)?,
        }
    }
    let tenant = tenant_text(set.tenant.as_ref());
    state(connection, &tenant, &set.state)?;
    for entry in &set.outbox {
        outbox(connection, entry)?;
    }
    for id in &set.done {
        connection.prepare_cached("UPDATE outbox SET body = NULL WHERE id = ?1")?.execute([id])?;
    }
    for entry in &set.audit {
        audit::append(connection, key, &tenant, entry)?;
    }
    Ok(Commit::Done)
}

fn version_of(connection: &Connection, key: &RecordKey) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT version FROM records WHERE kind = ?1 AND tenant = ?2 AND id = ?3")?
        .query_row(params![key.kind.as_str(), key.tenant, key.id], |row| row.get(0))
        .optional()
}

fn put(connection: &Connection, key: &RecordKey, body: &str, index: &[(&str, String)]) -> rusqlite::Result<()> {
    let kind = key.kind.as_str();
    connection
        .prepare_cached(
            "INSERT INTO records VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT DO UPDATE SET version = version + 1, body = excluded.body",
        )?
        .execute(params![kind, key.tenant, key.id, body])?;
    unindex(connection, key)?;
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO idx VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for (name, value) in index {
        insert.execute(params![kind, name, value, key.tenant, key.id])?;
    }
    Ok(())
}

fn delete(connection: &Connection, key: &RecordKey) -> rusqlite::Result<()> {
    unindex(connection, key)?;
    connection.prepare_cached("DELETE FROM records WHERE kind = ?1 AND tenant = ?2 AND id = ?3")?.execute(params![
        key.kind.as_str(),
        key.tenant,
        key.id
    ])?;
    Ok(())
}

fn unindex(connection: &Connection, key: &RecordKey) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM idx WHERE kind = ?1 AND tenant = ?2 AND id = ?3")?.execute(params![
        key.kind.as_str(),
        key.tenant,
        key.id
    ])?;
    Ok(())
}

fn state(connection: &Connection, tenant: &str, changes: &[StateChange]) -> rusqlite::Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let (mut seq, floor): (u64, u64) = connection
        .prepare_cached("SELECT seq, floor FROM state_head WHERE tenant = ?1")?
        .query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?
        .unwrap_or((0, 0));
    for change in changes {
        seq = seq.saturating_add(1);
        let audience = audience_text(&change.audience);
        let value = change.value.as_ref().map(ToString::to_string);
        connection
            .prepare_cached("INSERT INTO state_log VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![tenant, seq, audience, change.key, value])?;
        match value {
            Some(value) => connection
                .prepare_cached("INSERT OR REPLACE INTO state_live VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![tenant, audience, change.key, seq, value])?,
            None => connection
                .prepare_cached("DELETE FROM state_live WHERE tenant = ?1 AND audience = ?2 AND key = ?3")?
                .execute(params![tenant, audience, change.key])?,
        };
    }
    let floor = floor.max(seq.saturating_sub(STATE_LOG_KEPT));
    connection
        .prepare_cached("DELETE FROM state_log WHERE tenant = ?1 AND seq <= ?2")?
        .execute(params![tenant, floor])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO state_head VALUES (?1, ?2, ?3)")?
        .execute(params![tenant, seq, floor])?;
    Ok(())
}

fn outbox(connection: &Connection, entry: &OutboxEntry) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO outbox (id, topic, body) VALUES (?1, ?2, ?3)")?
        .execute(params![entry.id, entry.topic, entry.body.to_string()])?;
    Ok(())
}
