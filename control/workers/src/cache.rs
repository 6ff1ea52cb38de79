//! A tenant's copy of its systems of record, as the workers see it.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_control_feed::{FeedMessage, People, Person};
use sluice_control_sync::{Declaration, Key, MassDeletion, Row};
use sluice_node_identity::{IntegrationId, TenantId, UnixTime};
use thiserror::Error;

/// Why the cache did not do what was asked; then nothing changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CacheError {
    /// Too many rows are missing.
    #[error("table {table}: {why}")]
    Incredible {
        /// Table.
        table: String,
        /// Why.
        why: MassDeletion,
    },
    /// Another sync of the same integration began later.
    #[error("another sync took over; its result counts")]
    Overtaken,
    /// The database failed.
    #[error("the cache failed: {0}")]
    Failed(String),
}

/// Which rows are meant.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whose.
    pub tenant: TenantId,
    /// From where.
    pub integration: IntegrationId,
    /// How they are read.
    pub declaration: Arc<Declaration>,
}

/// A finished fetch, to take the place of what is there.
#[derive(Clone, Debug)]
pub struct Swap {
    /// Which rows.
    pub target: Target,
    /// The sync's name, as given to [`Cache::begin`].
    pub run: String,
    /// For each table: first day of its window.
    pub since: Vec<Option<String>>,
    /// Who may get cards.
    pub people: Arc<People>,
    /// When.
    pub now: UnixTime,
}

/// One row as just read from the system of record.
#[derive(Clone, Debug)]
pub struct RowEdit {
    /// Which rows.
    pub target: Target,
    /// Table number.
    pub table: usize,
    /// Which row.
    pub key: Key,
    /// The row; `None`: it is gone.
    pub row: Option<Row>,
    /// A card that is done with this, and why.
    pub close: Option<(String, String)>,
    /// Who may get cards.
    pub people: Arc<People>,
    /// When.
    pub now: UnixTime,
}

/// What changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Rows there are now.
    pub rows: u64,
    /// Rows that are new, other or gone; 0 for a baseline.
    pub changed: u64,
    /// Cards made.
    pub cards: u64,
    /// Cards closed.
    pub closed: u64,
    /// Cards not made because one sync made too many.
    pub suppressed: u64,
}

/// Where the copies are kept. Every tenant's is apart, under its own key.
#[async_trait]
pub trait Cache: Send + Sync {
    /// Begins a full sync called `run`: empties the stage and shuts out earlier syncs of the integration.
    async fn begin(&self, target: &Target, run: &str) -> Result<(), CacheError>;

    /// Adds fetched rows to the stage.
    async fn stage(&self, target: &Target, run: &str, table: usize, rows: Vec<(Key, Row)>) -> Result<(), CacheError>;

    /// Compares the stage with what is there, puts it in its place and notes the cards that follow: all or nothing.
    async fn swap(&self, swap: Swap) -> Result<Changed, CacheError>;

    /// Puts one row in place and notes the cards that follow: all or nothing.
    async fn edit(&self, edit: RowEdit) -> Result<Changed, CacheError>;

    /// For each (table, key): whether `person` may see that row now. A row that is not there is not seen.
    async fn visible(
        &self,
        target: &Target,
        person: &Person,
        rows: Vec<(String, Key)>,
    ) -> Result<Vec<bool>, CacheError>;

    /// Whether `person` may see this row (not necessarily as it is in the cache).
    async fn sees(&self, target: &Target, person: &Person, table: usize, row: Row) -> Result<bool, CacheError>;

    /// Rows of a table as JSON objects, by key, at most `limit`. For full administrators.
    async fn rows(&self, target: &Target, table: usize, limit: u32) -> Result<Vec<serde_json::Value>, CacheError>;

    /// One row.
    async fn row(&self, target: &Target, table: usize, key: &Key) -> Result<Option<Row>, CacheError>;

    /// Messages for the feed in order, at most `limit`, with their numbers.
    async fn messages(
        &self,
        tenant: &TenantId,
        limit: u32,
    ) -> Result<Vec<(u64, IntegrationId, FeedMessage)>, CacheError>;

    /// Forgets messages up to this number: the feed has them.
    async fn delivered(&self, tenant: &TenantId, up_to: u64) -> Result<(), CacheError>;
}
