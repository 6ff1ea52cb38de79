//! The cache as one SQLCipher file for each tenant.

mod apply;
mod diff;
mod file;
mod rows;
mod stage;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use rusqlite::Connection;
use sluice_control_feed::{FeedMessage, Person};
use sluice_control_sync::{Key, Row};
use sluice_node_identity::{IntegrationId, TenantId};

use crate::{Cache, CacheError, Changed, RowEdit, Swap, Target, TenantKeys};

pub use file::backup_cache;

/// Most tenants whose files are open at once.
const MAX_OPEN: usize = 256;

/// Caches in a folder.
pub struct SqliteCache {
    dir: PathBuf,
    keys: Arc<dyn TenantKeys>,
    open: Mutex<HashMap<TenantId, Arc<Tenant>>>,
}

/// One tenant's file: writes queue on one connection and never hold up reads on the other.
struct Tenant {
    writer: Mutex<Connection>,
    reader: Mutex<Connection>,
}

/// Which of a tenant's connections.
#[derive(Clone, Copy)]
enum Side {
    Write,
    Read,
}

impl std::fmt::Debug for SqliteCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteCache").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl From<rusqlite::Error> for CacheError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<serde_json::Error> for CacheError {
    fn from(error: serde_json::Error) -> Self {
        Self::Failed(format!("a stored row cannot be read: {error}"))
    }
}

impl SqliteCache {
    /// Caches below `dir`, which is made when absent.
    ///
    /// # Errors
    /// When the folder cannot be made, or is open to others.
    pub fn new(dir: &Path, keys: Arc<dyn TenantKeys>) -> anyhow::Result<Self> {
        file::prepare(dir)?;
        Ok(Self { dir: dir.to_owned(), keys, open: Mutex::new(HashMap::new()) })
    }

    fn tenant(&self, tenant: &TenantId) -> Result<Arc<Tenant>, CacheError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.get(tenant) {
            return Ok(Arc::clone(found));
        }
        if open.len() >= MAX_OPEN {
            open.retain(|_, tenant| Arc::strong_count(tenant) > 1);
        }
        let key = self.keys.derive(tenant, file::KEY_INFO).map_err(|error| CacheError::Failed(error.to_string()))?;
        let path = file::path(&self.dir, tenant);
        let writer = Mutex::new(file::open(&path, &key)?);
        let found = Arc::new(Tenant { writer, reader: Mutex::new(file::open(&path, &key)?) });
        open.insert(tenant.clone(), Arc::clone(&found));
        Ok(found)
    }

    /// Runs `job` on a blocking thread with one of the tenant's connections.
    async fn on<T: Send + 'static>(
        &self,
        tenant: &TenantId,
        side: Side,
        job: impl FnOnce(&mut Connection) -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let tenant = self.tenant(tenant)?;
        let work = move || {
            let connection = match side {
                Side::Write => &tenant.writer,
                Side::Read => &tenant.reader,
            };
            job(&mut connection.lock().unwrap_or_else(PoisonError::into_inner))
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| CacheError::Failed(error.to_string()))?
    }
}

#[async_trait]
impl Cache for SqliteCache {
    async fn begin(&self, target: &Target, run: &str) -> Result<(), CacheError> {
        let (integration, run) = (target.integration.clone(), run.to_owned());
        self.on(&target.tenant, Side::Write, move |db| stage::begin(db, &integration, &run)).await
    }

    async fn stage(&self, target: &Target, run: &str, table: usize, rows: Vec<(Key, Row)>) -> Result<(), CacheError> {
        let (to, run) = (target.clone(), run.to_owned());
        self.on(&target.tenant, Side::Write, move |db| stage::add(db, &to, &run, table, &rows)).await
    }

    async fn swap(&self, swap: Swap) -> Result<Changed, CacheError> {
        let tenant = swap.target.tenant.clone();
        self.on(&tenant, Side::Write, move |db| apply::swap(db, &swap)).await
    }

    async fn edit(&self, edit: RowEdit) -> Result<Changed, CacheError> {
        let tenant = edit.target.tenant.clone();
        self.on(&tenant, Side::Write, move |db| apply::edit(db, &edit)).await
    }

    async fn visible(
        &self,
        target: &Target,
        person: &Person,
        rows: Vec<(String, Key)>,
    ) -> Result<Vec<bool>, CacheError> {
        let (of, person) = (target.clone(), person.clone());
        self.on(&target.tenant, Side::Read, move |db| {
            rows.iter().map(|(table, key)| rows::visible(db, &of, &person, table, key)).collect()
        })
        .await
    }

    async fn sees(&self, target: &Target, person: &Person, table: usize, row: Row) -> Result<bool, CacheError> {
        let (of, person) = (target.clone(), person.clone());
        self.on(&target.tenant, Side::Read, move |db| rows::sees(db, &of, &person, table, &row)).await
    }

    async fn rows(&self, target: &Target, table: usize, limit: u32) -> Result<Vec<serde_json::Value>, CacheError> {
        let of = target.clone();
        self.on(&target.tenant, Side::Read, move |db| rows::list(db, &of, table, limit)).await
    }

    async fn row(&self, target: &Target, table: usize, key: &Key) -> Result<Option<Row>, CacheError> {
        let (of, key) = (target.clone(), key.clone());
        self.on(&target.tenant, Side::Read, move |db| rows::Rows::new(db, &of).row(table, &key)).await
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<(u64, IntegrationId, FeedMessage)>, CacheError> {
        if !file::path(&self.dir, tenant).exists() {
            return Ok(Vec::new());
        }
        self.on(tenant, Side::Read, move |db| rows::messages(db, limit)).await
    }

    async fn delivered(&self, tenant: &TenantId, up_to: u64) -> Result<(), CacheError> {
        self.on(tenant, Side::Write, move |db| rows::delivered(db, up_to)).await
    }
}
