//! Control's wire side: TLS listener, node API, EST, admin API, console.

pub mod admin_api;
mod connection;
pub mod console;
mod est;
mod fleet;
mod keys;
mod listener;
mod node_api;
pub mod pages;
mod record;
mod services;
mod strangers;
mod streams;
mod tunnels;

use std::sync::Arc;

use sluice_control_domain::Store;
use sluice_node_identity::UnixTime;

pub use connection::{Names, Remote, Shown};
pub use keys::ControlKeys;
pub use listener::{ListenerSettings, Rooms, bind, serve};
pub use services::{CardView, FeedService, IntegrationService, ServiceError};
pub use streams::Streams;
pub use tunnels::{REPORT_SECONDS, TUNNELS_PER_GATEWAY, Tunnels};

/// What the wire side works on.
#[derive(Clone)]
pub struct ServerParts {
    /// Records.
    pub store: Arc<dyn Store>,
    /// Keys and authorities.
    pub keys: Arc<ControlKeys>,
    /// Tunnels that gateways hold now.
    pub tunnels: Arc<Tunnels>,
    /// Streams that connectors carry now.
    pub streams: Arc<Streams>,
    /// The clock.
    pub clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
    /// `host:port` at which gateways reach this listener; goes into their documents.
    pub advertised: String,
}
