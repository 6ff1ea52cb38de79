//! What control knows: records, the `Store` they are kept in, and the documents compiled from them.
//!
//! Pure. Capabilities take a snapshot and give a [`ChangeSet`]; a store commits it whole or not at all.

pub mod capacity;
pub mod compile;
mod exception;
mod id;
pub mod policy;
mod record;
mod records;
mod store;
#[cfg(feature = "suite")]
pub mod suite;

pub use exception::{ExceptionRecord, reachable};
pub use id::PLATFORM;
pub use record::{BadRecord, Kind, Record, RecordKey, Stored, Typed};
pub use records::{
    ApiToken, AppPlace, AppRecord, CardRecord, CardState, EnrollCode, GatewayRecord, HubRecord, HubState, Integration,
    NodeRecord, OwnerLink, ResourceRecord, Site, Tenant, UserRecord, UserRole,
};
pub use store::{
    AuditEntry, ChangeSet, Commit, Load, OutboxEntry, StateAudience, StateChange, StatePage, Store, StoreError, Write,
};
