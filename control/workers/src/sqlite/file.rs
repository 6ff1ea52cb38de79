//! A tenant's cache file: opening, its tables, copying it.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use rusqlite::Connection;
use sluice_node_identity::TenantId;
use zeroize::Zeroizing;

use crate::{CacheError, TenantKeys};

/// What the file's key is derived with.
pub(super) const KEY_INFO: &str = "cache";
/// A backup or another connection may hold the file so long.
const BUSY: Duration = Duration::from_secs(10);

/// Tables of the file. `tbl` and `key` are the system of record's own names.
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS integration (
        id TEXT PRIMARY KEY, generation INTEGER NOT NULL, run TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS base (
        integration TEXT NOT NULL, tbl TEXT NOT NULL, fingerprint BLOB NOT NULL,
        PRIMARY KEY (integration, tbl)) STRICT;
    CREATE TABLE IF NOT EXISTS live (
        integration TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (integration, tbl, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS staged (
        integration TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL, hash BLOB NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (integration, tbl, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS open_card (
        id TEXT PRIMARY KEY, integration TEXT NOT NULL, rule TEXT NOT NULL, tbl TEXT NOT NULL, key TEXT NOT NULL,
        user TEXT NOT NULL, kind TEXT NOT NULL) STRICT;
    CREATE INDEX IF NOT EXISTS open_card_row ON open_card (integration, tbl, key);
    CREATE TABLE IF NOT EXISTS message (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, integration TEXT NOT NULL, body TEXT NOT NULL) STRICT;
";

/// Makes the folder.
pub(super) fn prepare(dir: &Path) -> anyhow::Result<()> {
    let context = || dir.display().to_string();
    if !dir.exists() {
        fs::DirBuilder::new().mode(0o700).recursive(true).create(dir).with_context(context)?;
    }
    let mode = fs::metadata(dir).with_context(context)?.permissions().mode();
    ensure!(mode & 0o077 == 0, "{} is open to others; chmod it to 0700", dir.display());
    Ok(())
}

/// Where a tenant's file is.
pub(super) fn path(dir: &Path, tenant: &TenantId) -> PathBuf {
    dir.join(format!("{tenant}.db"))
}

/// Opens a file with its raw key, making it when absent.
pub(super) fn open(path: &Path, key: &[u8; 32]) -> Result<Connection, CacheError> {
    // SQLite gives its journals the rights of the file.
    let made = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    made.map_err(|error| CacheError::Failed(format!("{}: {error}", path.display())))?;
    let connection = Connection::open(path)?;
    unlock(&connection, key)?;
    connection.busy_timeout(BUSY)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY;",
    )?;
    connection.execute_batch(TABLES)?;
    Ok(connection)
}

/// Gives SQLCipher the raw key, so that it derives none by PBKDF2.
fn unlock(connection: &Connection, key: &[u8; 32]) -> Result<(), CacheError> {
    let mut text = Zeroizing::new(String::with_capacity(68));
    text.push_str("x'");
    for byte in key {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
    }
    text.push('\'');
    connection.pragma_update(None, "key", text.as_str())?;
    Ok(())
}

/// Copies a tenant's cache to `to`, encrypted with the same key, while it may be in use. `false`: it has none.
///
/// # Errors
/// When `to` exists, or one of them cannot be read or written.
pub fn backup_cache(dir: &Path, tenant: &TenantId, keys: &dyn TenantKeys, to: &Path) -> anyhow::Result<bool> {
    let from = path(dir, tenant);
    if !from.exists() {
        return Ok(false);
    }
    fs::OpenOptions::new()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| to.display().to_string())?;
    let key = keys.derive(tenant, KEY_INFO)?;
    let (from, mut copy) = (open(&from, &key)?, Connection::open(to)?);
    unlock(&copy, &key)?;
    // In one step, so that a write in between cannot make it begin again and again.
    rusqlite::backup::Backup::new(&from, &mut copy)?.run_to_completion(i32::MAX, Duration::ZERO, None)?;
    Ok(true)
}
