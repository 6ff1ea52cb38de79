//! Who is who in sluice: names, join codes, bound keys with generations, and what a node watches.
//!
//! Pure: no sockets, files, clocks or randomness. Time comes in as [`UnixTime`], random bytes as arrays.

pub mod api;
mod generation;
mod join;
mod name;
mod plain;
mod stream;
mod time;
mod watch;

pub use generation::{Binding, BoundKey, Fingerprint, Lock, Presented, RejoinRefused, RenewRefused, Renewal};
pub use join::{CodeBinding, CodeUse, JoinCode, JoinCodeError, JoinSecret, proof_message};
pub use name::{
    AppId, BadName, HubId, IntegrationId, NodeId, Principal, ResourceId, Role, SiteId, SpiffeId, TenantId, TrustDomain,
    UserId,
};
pub use plain::{is_plain, plain};
pub use stream::{
    BadStreamId, KILL_SECONDS, Kill, LiveStream, LiveStreams, STREAM_TEXT, STREAMS_TOLD, StreamId, StreamsHeard,
    kill_key, kill_prefix,
};
pub use time::UnixTime;
pub use watch::{ConfigEnvelope, Gap, StateEvent, StateKey, StateView};
