//! DHCPv4 server for one hub LAN (RFC 2131, RFC 2132): one stable lease per device, hints for recognised hubs.

mod lease;
mod packet;
mod scope;
mod server;

pub use lease::{Ended, Lease};
pub use packet::{Kind, MAX_PACKET, Malformed, Request};
pub use scope::{MAX_POOL, Scope, ScopeError};
pub use server::{Outcome, Reply, Seen, Server};

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
