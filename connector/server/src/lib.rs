//! The gateway's side of tunnels: takes them from agents, opens direct streams on them, relays sealed ones.
//!
//! It cannot read a sealed stream and decides nothing about a direct one: the agent judges every token itself.

mod direct;
mod limits;
mod registry;
mod relay;
mod tunnel;

use std::sync::Arc;

use sluice_connector_wire::TokenSigner;
use sluice_node_identity::{NodeId, SpiffeId, api::LiveTunnel};
use tokio::sync::{Semaphore, watch};

pub use direct::{DirectAsk, DirectStream, OpenError};
pub use limits::Limits;

use crate::{direct::Subjects, registry::Registry};

/// A gateway's tunnels. Cloning gives another handle to the same ones.
#[derive(Clone, Debug)]
pub struct TunnelServer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: SpiffeId,
    signer: TokenSigner,
    limits: Limits,
    registry: Registry,
    subjects: Arc<Subjects>,
    relays: Arc<Semaphore>,
}

impl TunnelServer {
    /// For the gateway `name`, whose caller key is `signer`.
    #[must_use]
    pub fn new(name: SpiffeId, signer: TokenSigner, limits: Limits) -> Self {
        let relays = Arc::new(Semaphore::new(limits.relays));
        let (registry, subjects) = (Registry::default(), Arc::default());
        Self { shared: Arc::new(Shared { name, signer, limits, registry, subjects, relays }) }
    }

    /// The tunnels there are now, newest first; for `POST /node/v1/tunnels`.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Vec<LiveTunnel>> {
        self.shared.registry.live()
    }

    /// Ends every direct stream opened for this `sub` (`user/<id>`), those being opened too. Gives how many.
    pub fn cut(&self, subject: &str) -> usize {
        self.shared.subjects.cut(subject)
    }

    /// Ends every tunnel of a connector that has been revoked. Gives how many.
    pub fn drop_connector(&self, connector: &NodeId) -> usize {
        self.shared.registry.close_connector(connector)
    }
}
