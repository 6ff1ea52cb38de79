//! The stage: fetched rows wait here until the fetch is whole.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use sluice_control_sync::{Key, Row};
use sluice_node_identity::IntegrationId;

use super::rows::name;
use crate::{CacheError, Target};

/// Empties the stage and notes which sync may fill it.
pub(super) fn begin(db: &mut Connection, integration: &IntegrationId, run: &str) -> Result<(), CacheError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute("DELETE FROM staged WHERE integration = ?1", [integration.as_str()])?;
    tx.execute(
        "INSERT INTO integration (id, generation, run) VALUES (?1, 0, ?2) ON CONFLICT (id) DO UPDATE SET run = ?2",
        params![integration.as_str(), run],
    )?;
    tx.commit()?;
    Ok(())
}

/// Adds rows; of two with one key the later counts.
pub(super) fn add(
    db: &mut Connection,
    target: &Target,
    run: &str,
    table: usize,
    rows: &[(Key, Row)],
) -> Result<(), CacheError> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    still(&tx, &target.integration, run)?;
    let table = name(target, table);
    for (key, row) in rows {
        tx.prepare_cached(
            "INSERT OR REPLACE INTO staged (integration, tbl, key, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![target.integration.as_str(), table, key, row.hash(), serde_json::to_string(row)?])?;
    }
    tx.commit()?;
    Ok(())
}

/// Refuses a sync that another one has overtaken.
pub(super) fn still(tx: &Transaction<'_>, integration: &IntegrationId, run: &str) -> Result<(), CacheError> {
    let current: Option<String> = tx
        .query_row("SELECT run FROM integration WHERE id = ?1", [integration.as_str()], |row| row.get(0))
        .optional()?;
    if current.as_deref() == Some(run) { Ok(()) } else { Err(CacheError::Overtaken) }
}
