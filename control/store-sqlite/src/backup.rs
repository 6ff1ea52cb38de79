//! Copies of a running database, and what must happen to one that is put back.

use std::{os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use anyhow::Context;
use rusqlite::{Connection, backup::Backup};

use crate::connect::{self, DatabaseKey};

/// Pages copied per step; writers get in between steps.
const STEP_PAGES: i32 = 256;
const STEP_PAUSE: Duration = Duration::from_millis(2);
/// Far more state changes than can have happened since any backup that is still of use.
const JUMP: u64 = 1 << 32;

pub(crate) fn copy(from: &Path, key: &DatabaseKey, to: &Path) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| format!("make the backup file {}", to.display()))?;
    let source = connect::open(from, key)?;
    let mut target = connect::open(to, key)?;
    Backup::new(&source, &mut target)?.run_to_completion(STEP_PAGES, STEP_PAUSE, None)?;
    target.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;")?;
    target.close().map_err(|(_, error)| error)?;
    std::fs::File::open(to)?.sync_all().context("write the backup to disk")
}

pub(crate) fn jump_ahead(connection: &mut Connection) -> anyhow::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute("UPDATE state_head SET seq = seq + ?1, floor = seq + ?1", [JUMP])?;
    transaction.execute("DELETE FROM state_log", [])?;
    transaction.commit()?;
    Ok(())
}
