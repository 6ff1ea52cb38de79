//! The store: snapshots out, change sets in. No transaction handle leaves it; nothing here assumes one process.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_node_identity::{NodeId, SiteId, TenantId, UnixTime};
use thiserror::Error;

use crate::{Kind, Record, RecordKey, Stored, Typed};

/// What to load.
#[derive(Clone, Debug)]
pub enum Load {
    /// Exactly these; absent ones are left out of the answer.
    Keys(Vec<RecordKey>),
    /// All of a sort in a tenant (or [`crate::PLATFORM`]), by id, from `after` on, at most `limit`.
    Scan {
        /// Sort.
        kind: Kind,
        /// Tenant.
        tenant: String,
        /// Last id of the page before.
        after: Option<String>,
        /// At most 1,000.
        limit: u32,
    },
    /// Those whose [`Record::index`] holds (name, value); `tenant: None` looks across tenants.
    ByIndex {
        /// Sort.
        kind: Kind,
        /// Tenant.
        tenant: Option<String>,
        /// Index name.
        name: &'static str,
        /// Index value.
        value: String,
        /// At most 1,000.
        limit: u32,
    },
}

/// One write.
#[derive(Clone, Debug)]
pub enum Write {
    /// Insert or replace.
    Put {
        /// Key.
        key: RecordKey,
        /// Body.
        body: Value,
        /// Its index entries; they replace the former ones.
        index: Vec<(&'static str, String)>,
    },
    /// Remove.
    Delete(RecordKey),
}

/// Who sees a state change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateAudience {
    /// Every node of the tenant.
    Tenant,
    /// Edges of one site.
    Site(SiteId),
    /// One node.
    Node(NodeId),
}

/// One keyed change for the state feed.
#[derive(Clone, Debug, PartialEq)]
pub struct StateChange {
    /// Who sees it.
    pub audience: StateAudience,
    /// e.g. `hub/<id>`.
    pub key: String,
    /// `None` removes the key.
    pub value: Option<Value>,
}

/// One message for a worker. Inserting an id that was ever inserted before does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutboxEntry {
    /// Globally unique, derived from what caused it.
    pub id: String,
    /// Which worker.
    pub topic: String,
    /// What to do.
    pub body: Value,
}

/// One link of the tenant's audit chain. The store adds sequence number, previous hash and hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: UnixTime,
    /// `user/<id>`, `node/<id>`, `hub/<id>`, `token/<id>`, `root`, `service/<name>`.
    pub actor: String,
    /// Stable, dotted: `node.join`, `hub.revoke`, …
    pub act: String,
    /// What it was done to.
    pub subject: String,
    /// Further facts, never secrets.
    pub detail: Value,
}

/// All effects of one decision. Committed whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct ChangeSet {
    /// Tenant whose audit chain and state feed this belongs to; `None` for the platform's.
    pub tenant: Option<TenantId>,
    /// Versions the decision was made on; 0 means "must not exist".
    pub expected: Vec<(RecordKey, u64)>,
    /// Record writes.
    pub writes: Vec<Write>,
    /// State feed.
    pub state: Vec<StateChange>,
    /// Work for workers.
    pub outbox: Vec<OutboxEntry>,
    /// Outbox ids that are done.
    pub done: Vec<String>,
    /// Audit.
    pub audit: Vec<AuditEntry>,
}

impl ChangeSet {
    /// An empty change set in a tenant's name.
    #[must_use]
    pub fn of(tenant: &TenantId) -> Self {
        Self { tenant: Some(tenant.clone()), ..Self::default() }
    }

    /// Creates `record`; conflicts when it exists.
    ///
    /// # Panics
    /// Never: records are plain data.
    #[must_use]
    pub fn create<R: Record>(self, record: &R) -> Self {
        self.put_at(record, 0)
    }

    /// Replaces a loaded record; conflicts when it changed since.
    #[must_use]
    pub fn update<R: Record>(self, loaded: &Typed<R>, body: &R) -> Self {
        self.put_at(body, loaded.version)
    }

    /// Removes a loaded record; conflicts when it changed since.
    #[must_use]
    pub fn delete<R: Record>(mut self, loaded: &Typed<R>) -> Self {
        self.expected.push((loaded.body.key(), loaded.version));
        self.writes.push(Write::Delete(loaded.body.key()));
        self
    }

    /// Adds a state change.
    #[must_use]
    pub fn state(mut self, change: StateChange) -> Self {
        self.state.push(change);
        self
    }

    /// Adds an audit entry.
    #[must_use]
    pub fn audit(mut self, entry: AuditEntry) -> Self {
        self.audit.push(entry);
        self
    }

    fn put_at<R: Record>(mut self, record: &R, version: u64) -> Self {
        self.expected.push((record.key(), version));
        // A record is a struct of strings, numbers and maps with string keys: it always has a JSON form.
        let body = serde_json::to_value(record).unwrap_or(Value::Null);
        self.writes.push(Write::Put { key: record.key(), body, index: record.index() });
        self
    }
}

/// What became of a change set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Durable.
    Done,
    /// Something expected has changed: load again and decide again. Nothing was written.
    Conflict,
}

/// A page of the state feed for one node.
#[derive(Clone, Debug, PartialEq)]
pub enum StatePage {
    /// Changes after the asked number, oldest first, as (seq, key, value); and the number reached.
    Changes(Vec<(u64, String, Option<Value>)>),
    /// The asked number is unknown or too old (or none was given): everything there is, and its number.
    Snapshot {
        /// Number reached.
        seq: u64,
        /// Live keys.
        entries: Vec<(String, Value)>,
    },
}

/// The store failed; nothing is known to be written. Retrying may help.
#[derive(Debug, Error)]
#[error("the store failed: {0}")]
pub struct StoreError(pub String);

/// Where control keeps its records. Implementations are held to one shared suite of tests.
#[async_trait]
pub trait Store: Send + Sync {
    /// Loads a consistent snapshot.
    async fn load(&self, what: Load) -> Result<Vec<Stored>, StoreError>;

    /// Commits all of `set`, durably, or nothing.
    async fn commit(&self, set: ChangeSet) -> Result<Commit, StoreError>;

    /// State changes a node may see: those for its tenant, its site (edges) and itself.
    async fn state(
        &self,
        tenant: &TenantId,
        audiences: &[StateAudience],
        after: Option<u64>,
    ) -> Result<StatePage, StoreError>;

    /// Undone outbox entries of a topic, oldest first.
    async fn outbox(&self, topic: &str, limit: u32) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Takes the lease of a named job until `until` and gives its fencing token; `None` when another holds it.
    async fn lease(&self, job: &str, holder: &str, now: UnixTime, until: UnixTime) -> Result<Option<u64>, StoreError>;

    /// A page of a tenant's audit chain (`None`: the platform's), as (seq, entry, hash), oldest first.
    async fn audit(
        &self,
        tenant: Option<&TenantId>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<(u64, AuditEntry, String)>, StoreError>;

    /// Returns once something was committed after the commit numbered `seen`; gives the newest number.
    async fn changed(&self, seen: u64) -> u64;
}
