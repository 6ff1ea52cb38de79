//! The gateway's side of tunnels: takes them from agents, opens direct streams on them, relays sealed ones.
//!
//! It cannot read a sealed stream and decides nothing about a direct one: the agent judges every token itself.

mod alive;
mod choice;
mod direct;
mod leg;
mod limits;
mod line;
mod registry;
mod relay;
mod stream;
mod subjects;
mod tunnel;

use std::sync::Arc;

use sluice_connector_wire::TokenSigner;
use sluice_node_identity::{NodeId, SpiffeId, api::LiveTunnel};
use tokio::sync::{Semaphore, watch};

pub use direct::{DirectAsk, OpenError};
pub use limits::Limits;
pub use stream::{DirectDatagrams, DirectStream};
pub use tunnel::{Arrived, Mark};

use crate::{registry::Registry, subjects::Subjects};

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
    leaving: watch::Sender<bool>,
}

impl TunnelServer {
    /// For the gateway `name`, whose caller key is `signer`.
    #[must_use]
    pub fn new(name: SpiffeId, signer: TokenSigner, limits: Limits) -> Self {
        let relays = Arc::new(Semaphore::new(limits.relays.min(Semaphore::MAX_PERMITS)));
        let (registry, subjects, leaving) = (Registry::default(), Arc::default(), watch::Sender::new(false));
        Self { shared: Arc::new(Shared { name, signer, limits, registry, subjects, relays, leaving }) }
    }

    /// The tunnels there are now, newest first; for `POST /node/v1/tunnels`. One that takes no more streams is not
    /// among them.
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

    /// The gateway is stopping: agents are told on every line, no connection is taken any more, and relays are refused
    /// with a code that makes control try another gateway. What runs goes on, and what users already asked for may
    /// still open streams.
    pub fn leave(&self) {
        self.shared.registry.leave();
        self.shared.leaving.send_replace(true);
    }
}
