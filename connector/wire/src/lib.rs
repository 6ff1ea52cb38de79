//! What travels in a tunnel and who may believe it: documents, allow-list, stream tokens, frames.
//!
//! Pure: time and randomness are passed in.

mod allow;
mod document;
mod frame;
mod token;

pub use allow::{AllowList, AllowRule, Caller, CallerKind, Protocol, SignedAllowList};
pub use document::{ConnectorDocument, GatewayEndpoint, SCHEMA};
pub use frame::{AgentHello, OpenReply, OpenRequest, RelayOpen, StreamKind};
pub use token::{StreamClaims, Target};
