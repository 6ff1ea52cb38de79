//! Tunnels: one to each gateway of the document that is not revoked, kept up.
//!
//! `sluice_connector_wire::race` decides what to dial when; here is what it takes to do it.

mod keeper;
mod life;
mod line;
mod network;
mod overview;
mod prove;
mod quic;
mod way_out;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use sluice_connector_wire::{ClassPair, GatewayEndpoint, Presented, StreamKind, Transport};
use sluice_node_identity::NodeId;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{Shared, ledger::Way, now};

pub(crate) use overview::Overview;
pub use overview::{LaneStatus, LinkStatus, TunnelStatus};
pub use way_out::{BoxedIo, Io, Outward, Reaching, TlsWords, WayOut};

/// How often to look whether a tunnel's task has panicked.
const CHECK_EVERY: Duration = Duration::from_secs(5);
/// Beyond what streams get to end, for goodbyes.
const GOODBYE: Duration = Duration::from_secs(5);

/// What every stream of a connection knows about it.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) gateway: NodeId,
    pub(crate) sid: String,
    /// Hash of the certificate the gateway showed on this connection.
    pub(crate) cnf: String,
    pub(crate) transport: Transport,
    pub(crate) pair: ClassPair,
}

impl Tunnel {
    /// What a direct stream's token must fit.
    pub(crate) fn presented(&self) -> Presented<'_> {
        Presented { kind: StreamKind::Direct, caller: self.gateway.as_str(), sid: &self.sid, cnf: &self.cnf }
    }

    /// For the table of streams.
    pub(crate) fn way(&self) -> Way<'_> {
        Way { gateway: &self.gateway, transport: self.transport, pair: self.pair }
    }
}

/// One tunnel's task; dropping it breaks everything off.
struct Kept {
    endpoint: GatewayEndpoint,
    /// Lets its streams end, and then itself.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Kept {
    fn begin(shared: &Arc<Shared>, endpoint: GatewayEndpoint) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(keeper::keep(shared.clone(), endpoint.clone(), stopped));
        Self { endpoint, stop, task }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All of them.
#[derive(Default)]
struct Tunnels {
    links: BTreeMap<NodeId, Kept>,
    /// To where a gateway was before it moved: their streams may end.
    left: BTreeMap<NodeId, Kept>,
}

impl Tunnels {
    /// To these and no others.
    fn keep(&mut self, shared: &Arc<Shared>, endpoints: Vec<GatewayEndpoint>) {
        let place = |gateway: &NodeId| endpoints.iter().find(|endpoint| endpoint.id == *gateway);
        self.left.retain(|gateway, kept| place(gateway).is_some() && !kept.task.is_finished());
        for (gateway, kept) in std::mem::take(&mut self.links) {
            match place(&gateway) {
                None => tracing::info!(%gateway, "tunnel is given up: it is locked, or in the document no more"),
                Some(_) if kept.task.is_finished() => {
                    tracing::error!(%gateway, "a tunnel's task ended by itself; starting it again");
                }
                Some(now) if *now == kept.endpoint => drop(self.links.insert(gateway, kept)),
                Some(_) => {
                    tracing::info!(%gateway, "the gateway has moved; what runs at its former place may end");
                    kept.stop.send_replace(true);
                    self.left.insert(gateway, kept);
                }
            }
        }
        for endpoint in endpoints {
            self.links.entry(endpoint.id.clone()).or_insert_with(|| Kept::begin(shared, endpoint));
        }
    }

    /// New sessions, in which no token of before can be shown, make the memory of spent ones needless.
    async fn begin_anew(&mut self, shared: &Shared) {
        tracing::warn!("the clock was set back; all tunnels begin anew");
        for (_, mut kept) in std::mem::take(self).all() {
            kept.task.abort();
            let _aborted = (&mut kept.task).await.is_err();
        }
        shared.gatekeeper().begin_anew();
    }

    /// Lets the streams of all tunnels end, except of gateways that are locked, or become so.
    async fn end(self, shared: &Shared, locked: watch::Receiver<BTreeSet<NodeId>>) {
        let until = Instant::now() + shared.pieces.limits.drain + GOODBYE;
        let ending = self.all().map(|(gateway, mut kept)| {
            kept.stop.send_replace(true);
            let mut locked = locked.clone();
            async move {
                tokio::select! {
                    ended = &mut kept.task => {
                        if ended.is_err_and(|error| error.is_panic()) {
                            tracing::error!(%gateway, "a tunnel's task panicked");
                        }
                    }
                    _ = locked.wait_for(|locked| locked.contains(&gateway)) => {}
                    () = sleep_until(until) => {}
                }
            }
        });
        join_all(ending).await;
    }

    fn all(self) -> impl Iterator<Item = (NodeId, Kept)> {
        self.links.into_iter().chain(self.left)
    }
}

/// Keeps a tunnel to every gateway that the document names and the state feed has not locked, until `shutdown`.
pub(crate) async fn keep_all(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let (mut wanted, mut locked) = (shared.gateways.subscribe(), shared.locked.subscribe());
    let mut tunnels = Tunnels::default();
    loop {
        if shared.gatekeeper().is_stuck(now()) {
            tunnels.begin_anew(&shared).await;
        }
        let mut endpoints = wanted.borrow_and_update().clone();
        let refused = locked.borrow_and_update().clone();
        endpoints.retain(|endpoint| !refused.contains(&endpoint.id));
        tunnels.keep(&shared, endpoints);
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            changed = locked.changed() => if changed.is_err() { break },
            () = sleep(CHECK_EVERY) => {}
            // A sender that is gone means the same as a shutdown.
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    tunnels.end(&shared, locked).await;
}
