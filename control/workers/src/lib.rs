//! Control's jobs: syncs into the tenants' caches, cards out of them, actions as users.
//!
//! A shell: what is believed, shown, ranked and written is decided in `control/sync` and `control/feed`.

mod act;
mod cache;
mod drain;
mod error;
mod exceptions;
mod http;
mod lease;
mod ports;
mod schedule;
mod seal;
mod service;
mod sqlite;
mod sync;

pub use cache::{Cache, CacheError, Changed, RowEdit, Swap, Target};
pub use error::WorkError;
pub use ports::{BoxedIo, Credentials, CredentialsError, Io, KeyError, Reach, ReachError, TenantKeys};
pub use service::{CardView, Parts, Workers};
pub use sqlite::{SqliteCache, backup_cache};
