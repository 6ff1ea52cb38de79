//! Keyed connections and the schema.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use aws_lc_rs::{hkdf, hmac};
use rusqlite::Connection;
use zeroize::{Zeroize, Zeroizing};

/// Version of the tables below, in `PRAGMA user_version`.
const SCHEMA_VERSION: i64 = 1;
const BUSY: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
CREATE TABLE records (
    kind TEXT NOT NULL, tenant TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, tenant, id)) WITHOUT ROWID;
CREATE TABLE idx (
    kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, tenant TEXT NOT NULL, id TEXT NOT NULL,
    PRIMARY KEY (kind, name, value, tenant, id)) WITHOUT ROWID;
CREATE INDEX idx_by_record ON idx (kind, tenant, id);
CREATE TABLE state_head (tenant TEXT PRIMARY KEY, seq INTEGER NOT NULL, floor INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE state_log (
    tenant TEXT NOT NULL, seq INTEGER NOT NULL, audience TEXT NOT NULL, key TEXT NOT NULL, value TEXT,
    PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
CREATE TABLE state_live (
    tenant TEXT NOT NULL, audience TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (tenant, audience, key)) WITHOUT ROWID;
-- A row stays for ever with body NULL once done: its id must never be inserted again.
CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, body TEXT);
CREATE INDEX outbox_undone ON outbox (topic, seq) WHERE body IS NOT NULL;
CREATE TABLE leases (job TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL, token INTEGER NOT NULL)
    WITHOUT ROWID;
CREATE TABLE audit (
    tenant TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL, prev TEXT NOT NULL, hash TEXT NOT NULL,
    PRIMARY KEY (tenant, seq)) WITHOUT ROWID;
CREATE TABLE commits (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);
INSERT INTO commits VALUES (1, 0);
";

/// SQLCipher's raw key. Never printed.
#[derive(Clone)]
pub struct DatabaseKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for DatabaseKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseKey(redacted)")
    }
}

impl DatabaseKey {
    /// Wraps 32 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn audit_key(&self) -> hmac::Key {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sluice-store-v1");
        let mut key = Zeroizing::new([0; 32]);
        // Filling exactly one hash length cannot fail; a zero key would only make verification of old links fail.
        let filled =
            salt.extract(self.0.as_ref()).expand(&[b"audit"], hkdf::HKDF_SHA256).and_then(|okm| okm.fill(key.as_mut()));
        debug_assert!(filled.is_ok(), "HKDF refused its own hash length");
        hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
    }

    fn pragma(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str("PRAGMA key = \"x'");
        for byte in self.0.iter() {
            let mut digits = format!("{byte:02x}");
            text.push_str(&digits);
            digits.zeroize();
        }
        text.push_str("'\"");
        text
    }
}

/// Opens a keyed connection with write-ahead log and full synchronisation.
pub(crate) fn open(path: &Path, key: &DatabaseKey) -> anyhow::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(&key.pragma())?;
    connection
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
        .context("the database key is wrong or the file is damaged")?;
    connection.busy_timeout(BUSY)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    ensure!(mode == "wal", "the file system gives no write-ahead log (journal mode {mode})");
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;")?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Brings the tables to this release's form.
pub(crate) fn migrate(connection: &mut Connection) -> anyhow::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        0 => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        SCHEMA_VERSION => {}
        newer => anyhow::bail!("tables of version {newer}; this release reads {SCHEMA_VERSION}: run a newer sluice"),
    }
    transaction.commit()?;
    Ok(())
}

/// Number of the last commit.
pub(crate) fn commits(connection: &Connection) -> anyhow::Result<u64> {
    Ok(connection.query_row("SELECT number FROM commits", [], |row| row.get(0))?)
}
