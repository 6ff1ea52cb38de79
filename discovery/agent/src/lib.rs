//! The hub LAN's sockets: DHCP, DNS, router advertisements, discovery, and the check-in door.
//!
//! A shell: it carries packets to the rules and their verdicts back, and hands admissions to the kernel writer. Sockets
//! are bound before privileges are dropped ([`Sockets::bind`]); everything after needs none.

mod advertise;
mod certificate;
mod dhcp;
mod dns;
mod door;
mod forward;
mod http;
mod lan;
mod neighbour;
mod orders;
mod report;
mod seats;
mod serve;
mod sockets;

use async_trait::async_trait;
use ipnetwork::IpNetwork;
use sluice_discovery_rules::{EdgeDocument, dhcp::Scope, staging::Action};
use sluice_node_identity::{
    HubId, TenantId, TrustDomain,
    api::{CheckIns, HubStanding},
};

pub use serve::{Agent, Handle};
pub use sockets::Sockets;

/// What the hub LAN is, from the edge's local file.
#[derive(Clone, Debug)]
pub struct Lan {
    /// Interface the hubs are behind.
    pub interface: String,
    /// The edge's own addresses there, each with its prefix.
    pub addresses: Vec<IpNetwork>,
    /// What DHCP gives; none: no DHCP.
    pub scope: Option<Scope>,
    /// What option 15 says, and where DNS hints are found.
    pub domain: Option<String>,
    /// Resolver for admitted devices' other questions; none: they are refused.
    pub resolver: Option<std::net::SocketAddr>,
}

/// What the agent needs of the control service, through the node client.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// Whose hubs may check in here.
    fn owner(&self) -> (TrustDomain, TenantId);
    /// What the state feed says of a hub.
    fn standing(&self, hub: &HubId) -> Option<HubStanding>;
    /// Whether the feed has been silent for longer than `max_stale`.
    fn is_stale(&self) -> bool;
    /// A server certificate for the door: PEM CSR in; PEM chain out, leaf first, the tenant's hub root last.
    async fn hub_facing(&self, csr: String) -> anyhow::Result<String>;
    /// Tells who was seen where.
    async fn check_ins(&self, seen: CheckIns) -> anyhow::Result<()>;
}

/// The kernel writer, as the agent sees it. An error ends the agent, and with it every admission.
#[async_trait]
pub trait Kernel: Send + 'static {
    /// Lets devices pass, or stops them, in this order.
    ///
    /// # Errors
    /// When the writer is gone or cannot do it.
    async fn apply(&mut self, actions: &[Action]) -> anyhow::Result<()>;

    /// Puts a document's staging destinations and traffic policy in force, both or neither.
    ///
    /// # Errors
    /// The outer one when the writer is gone; the inner one when it refused and nothing changed.
    async fn document(&mut self, document: &EdgeDocument) -> anyhow::Result<Result<(), String>>;
}
