//! Control's store in one SQLCipher file: a single writer with group commit, a pool of readers.

mod apply;
mod audit;
mod backup;
mod connect;
mod read;
mod readers;
mod writer;

use std::path::{Path, PathBuf};

use anyhow::Context;
use async_trait::async_trait;
use sluice_control_domain::{
    AuditEntry, ChangeSet, Commit, Load, OutboxEntry, StateAudience, StatePage, Store, StoreError, Stored,
};
use sluice_node_identity::{TenantId, UnixTime};
use tokio::sync::watch;

pub use audit::{AuditBroken, AuditCheckpoint};
pub use connect::DatabaseKey;

/// Entries of a tenant's state feed that are kept as changes; a node further behind gets a snapshot.
pub const STATE_LOG_KEPT: u64 = 10_000;
/// Most records, index hits, outbox entries or audit entries one call gives.
pub const PAGE: u32 = 1_000;

/// The store. Cheap to share behind an `Arc`; dropping it finishes what was queued and closes the file.
pub struct SqliteStore {
    path: PathBuf,
    key: DatabaseKey,
    readers: readers::Readers,
    writer: writer::Writer,
    commits: watch::Receiver<u64>,
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the database at `path`, making it when absent. `key` is SQLCipher's raw key; the audit chains' MAC key
    /// is derived from it.
    ///
    /// # Errors
    /// When the file cannot be opened, the key is wrong, or a newer release wrote it.
    pub fn open(path: &Path, key: &[u8; 32]) -> anyhow::Result<Self> {
        let key = DatabaseKey::new(*key);
        let mut connection = connect::open(path, &key).with_context(|| format!("open the store {}", path.display()))?;
        connect::migrate(&mut connection).with_context(|| format!("prepare the store {}", path.display()))?;
        let (told, commits) = watch::channel(connect::commits(&connection)?);
        let readers = readers::Readers::open(path, &key)?;
        let writer = writer::Writer::start(connection, key.audit_key(), told)?;
        Ok(Self { path: path.to_owned(), key, readers, writer, commits })
    }

    /// Checks every link of a tenant's audit chain (`None`: the platform's), and that `known`, an earlier checkpoint
    /// kept elsewhere, is still part of it. Gives the newest checkpoint.
    ///
    /// # Errors
    /// Outer: the store failed. Inner: [`AuditBroken`] names the first link that does not hold.
    pub async fn verify_audit(
        &self,
        tenant: Option<&TenantId>,
        known: Option<AuditCheckpoint>,
    ) -> Result<Result<AuditCheckpoint, AuditBroken>, StoreError> {
        let (tenant, key) = (apply::tenant_text(tenant), self.key.audit_key());
        self.readers.run(move |connection| audit::verify(connection, &key, &tenant, known.as_ref())).await
    }

    /// Copies a consistent state of the database to `path`, encrypted with the same key, while work goes on.
    ///
    /// # Errors
    /// When `path` exists or cannot be written.
    pub async fn backup_to(&self, path: &Path) -> anyhow::Result<()> {
        let (from, key, to) = (self.path.clone(), self.key.clone(), path.to_owned());
        tokio::task::spawn_blocking(move || backup::copy(&from, &key, &to)).await.context("the backup task died")?
    }

    /// To be called once on a restored database before it serves: state feeds jump ahead, so that every node, whatever
    /// number it last saw, is given a snapshot.
    ///
    /// # Errors
    /// When the database cannot be opened or written.
    pub fn after_restore(path: &Path, key: &[u8; 32]) -> anyhow::Result<()> {
        let mut connection = connect::open(path, &DatabaseKey::new(*key))?;
        connect::migrate(&mut connection)?;
        backup::jump_ahead(&mut connection)
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn load(&self, what: Load) -> Result<Vec<Stored>, StoreError> {
        self.readers.run(move |connection| read::load(connection, &what)).await
    }

    async fn commit(&self, set: ChangeSet) -> Result<Commit, StoreError> {
        self.writer.commit(set).await
    }

    async fn state(
        &self,
        tenant: &TenantId,
        audiences: &[StateAudience],
        after: Option<u64>,
    ) -> Result<StatePage, StoreError> {
        let (tenant, audiences) = (tenant.to_string(), audiences.to_vec());
        self.readers.run(move |connection| read::state(connection, &tenant, &audiences, after)).await
    }

    async fn outbox(&self, topic: &str, limit: u32) -> Result<Vec<OutboxEntry>, StoreError> {
        let topic = topic.to_owned();
        self.readers.run(move |connection| read::outbox(connection, &topic, limit.min(PAGE))).await
    }

    async fn lease(&self, job: &str, holder: &str, now: UnixTime, until: UnixTime) -> Result<Option<u64>, StoreError> {
        self.writer.lease(job.to_owned(), holder.to_owned(), now, until).await
    }

    async fn audit(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, AuditEntry, String)>, StoreError> {
        let tenant = apply::tenant_text(tenant);
        self.readers.run(move |connection| audit::page(connection, &tenant, after, limit.min(PAGE))).await
    }

    async fn changed(&self, seen: u64) -> u64 {
        let mut commits = self.commits.clone();
        let newest = commits.wait_for(|newest| *newest > seen).await.ok().map(|newest| *newest);
        match newest {
            Some(newest) => newest,
            // The writer is gone, so nothing will ever be committed again.
            None => std::future::pending().await,
        }
    }
}
