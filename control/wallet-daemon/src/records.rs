//! The wallet's records: sealed credentials under places that tell nothing.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, bail, ensure};
use aws_lc_rs::rand;
use rusqlite::{Connection, OptionalExtension, params};
use sluice_control_wallet::{Credential, Key, Owner, RecordName, Request, Response, SealRandom, open, seal};
use sluice_node_identity::{IntegrationId, TenantId};
use zeroize::Zeroizing;

use crate::files::{DATABASE, KeyFiles, own_file, random_key};

/// Most credentials of one tenant.
const MAX_RECORDS: u64 = 200_000;
/// Most opened tenant keys kept in memory.
const MAX_OPEN_KEYS: usize = 1_024;

/// An open wallet.
pub(crate) struct Records {
    database: Connection,
    files: KeyFiles,
    keys: HashMap<TenantId, Key>,
}

impl Records {
    /// Opens the wallet in `dir`, making it when there is none.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Self> {
        let files = KeyFiles::open(dir)?;
        let path = dir.join(DATABASE);
        own_file(&path, false)?;
        let database = Connection::open(&path).with_context(|| path.display().to_string())?;
        database.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             CREATE TABLE IF NOT EXISTS record (
                 tenant TEXT NOT NULL, place BLOB NOT NULL, version INTEGER NOT NULL, sealed BLOB NOT NULL,
                 PRIMARY KEY (tenant, place)) STRICT, WITHOUT ROWID;",
        )?;
        Ok(Self { database, files, keys: HashMap::new() })
    }

    /// Does what was asked; the caller has checked the grant. Writes are durable when it returns.
    pub(crate) fn answer(&mut self, request: Request) -> anyhow::Result<Response> {
        match request {
            Request::ReadService { tenant, integration } => self.read(tenant, integration, Owner::Service),
            Request::ReadUser { tenant, integration, user } => self.read(tenant, integration, Owner::User(user)),
            Request::Write { tenant, integration, owner, credential } => {
                self.write(tenant, integration, owner, &credential)?;
                Ok(Response::Done)
            }
            Request::Delete { tenant, integration, owner } => {
                let Some(key) = self.key(&tenant)? else { return Ok(Response::Done) };
                let place = RecordName { tenant, integration, owner, version: 0 };
                self.database
                    .prepare_cached("DELETE FROM record WHERE tenant = ?1 AND place = ?2")?
                    .execute(params![place.tenant.as_str(), place.place(&key)])?;
                Ok(Response::Done)
            }
            Request::Exists { tenant, integration, owner } => {
                let Some(key) = self.key(&tenant)? else { return Ok(Response::Exists { exists: false }) };
                let name = RecordName { tenant, integration, owner, version: 0 };
                let exists = self.version(&name, &key)?.is_some();
                Ok(Response::Exists { exists })
            }
        }
    }

    fn read(&mut self, tenant: TenantId, integration: IntegrationId, owner: Owner) -> anyhow::Result<Response> {
        let Some(key) = self.key(&tenant)? else { return Ok(Response::Absent) };
        let mut name = RecordName { tenant, integration, owner, version: 0 };
        let found: Option<(i64, Vec<u8>)> = self
            .database
            .prepare_cached("SELECT version, sealed FROM record WHERE tenant = ?1 AND place = ?2")?
            .query_row(params![name.tenant.as_str(), name.place(&key)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((version, sealed)) = found else { return Ok(Response::Absent) };
        name.version = u64::try_from(version)?;
        let plain = open(&key, &name, &sealed)?;
        let credential: Credential = serde_json::from_slice(&plain).context("a stored credential")?;
        Ok(Response::Credential { credential })
    }

    fn write(
        &mut self,
        tenant: TenantId,
        integration: IntegrationId,
        owner: Owner,
        credential: &Credential,
    ) -> anyhow::Result<()> {
        ensure!(
            Credential::new(credential.login(), credential.expose_password()).is_ok(),
            "a credential of wrong size"
        );
        let key = match self.key(&tenant)? {
            Some(key) => key,
            None => {
                let key = self.files.make_tenant(&tenant)?;
                self.remember(&tenant, &key);
                key
            }
        };
        let mut name = RecordName { tenant, integration, owner, version: 0 };
        let former = self.version(&name, &key)?;
        if former.is_none() {
            let count: i64 = self.database.query_row(
                "SELECT count(*) FROM record WHERE tenant = ?1",
                [name.tenant.as_str()],
                |row| row.get(0),
            )?;
            if u64::try_from(count)? >= MAX_RECORDS {
                bail!("tenant {} has {MAX_RECORDS} credentials, which is the most", name.tenant);
            }
        }
        name.version = former.unwrap_or(0) + 1;
        let plain = Zeroizing::new(serde_json::to_vec(credential)?);
        let mut random = SealRandom { key: random_key()?, key_nonce: [0; 12], nonce: [0; 12] };
        rand::fill(&mut random.key_nonce).and_then(|()| rand::fill(&mut random.nonce)).context("no random bytes")?;
        let sealed = seal(&key, &name, &plain, &random)?;
        self.database
            .prepare_cached("INSERT OR REPLACE INTO record (tenant, place, version, sealed) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![name.tenant.as_str(), name.place(&key), i64::try_from(name.version)?, sealed])?;
        Ok(())
    }

    fn version(&self, name: &RecordName, key: &Key) -> anyhow::Result<Option<u64>> {
        let version: Option<i64> = self
            .database
            .prepare_cached("SELECT version FROM record WHERE tenant = ?1 AND place = ?2")?
            .query_row(params![name.tenant.as_str(), name.place(key)], |row| row.get(0))
            .optional()?;
        Ok(version.map(u64::try_from).transpose()?)
    }

    fn key(&mut self, tenant: &TenantId) -> anyhow::Result<Option<Key>> {
        if let Some(key) = self.keys.get(tenant) {
            return Ok(Some(key.clone()));
        }
        let key = self.files.tenant(tenant)?;
        if let Some(key) = &key {
            self.remember(tenant, key);
        }
        Ok(key)
    }

    fn remember(&mut self, tenant: &TenantId, key: &Key) {
        if self.keys.len() >= MAX_OPEN_KEYS {
            self.keys.clear();
        }
        self.keys.insert(tenant.clone(), key.clone());
    }
}

/// Copies the wallet's database (sealed records, no key) to `to` while the wallet may be running.
///
/// # Errors
/// When `to` exists, or one of them cannot be read or written.
pub fn backup(dir: &Path, to: &Path) -> anyhow::Result<()> {
    ensure!(!to.exists(), "{} exists; it is not overwritten", to.display());
    let path = dir.join(DATABASE);
    let from = Connection::open_with_flags(&path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)
        .with_context(|| path.display().to_string())?;
    let mut copy = Connection::open(to).with_context(|| to.display().to_string())?;
    // In one step, so that a write in between cannot make it begin again and again.
    rusqlite::backup::Backup::new(&from, &mut copy)?.run_to_completion(i32::MAX, std::time::Duration::ZERO, None)?;
    Ok(())
}
