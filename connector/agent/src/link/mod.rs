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

/// New sessions, in which no token of before can be shown, make the memory of spent ones needless.
async fn begin_anew(shared: &Shared, links: &mut BTreeMap<NodeId, (GatewayEndpoint, JoinHandle<()>)>) {
    tracing::warn!("the clock was set back; all tunnels begin anew");
    let tasks: Vec<JoinHandle<()>> = std::mem::take(links).into_values().map(|(_, task)| task).collect();
    for task in &tasks {
        task.abort();
    }
    for task in tasks {
        let _aborted = task.await.is_err();
    }
    shared.gatekeeper().begin_anew();
}

/// Keeps a tunnel to every gateway that the document names and the state feed has not locked, until `shutdown`.
pub(crate) async fn keep_all(shared: Arc<Shared>, mut shutdown: watch::Receiver<bool>) {
    let (mut wanted, mut locked) = (shared.gateways.subscribe(), shared.locked.subscribe());
    let mut links: BTreeMap<NodeId, (GatewayEndpoint, JoinHandle<()>)> = BTreeMap::new();
    loop {
        if shared.gatekeeper().is_stuck(now()) {
            begin_anew(&shared, &mut links).await;
        }
        let mut endpoints = wanted.borrow_and_update().clone();
        let refused = locked.borrow_and_update().clone();
        endpoints.retain(|endpoint| !refused.contains(&endpoint.id));
        links.retain(|gateway, (endpoint, task)| {
            let stays = endpoints.contains(endpoint);
            if !stays {
                let why = if refused.contains(gateway) { "it is locked" } else { "the document has changed" };
                tracing::info!(%gateway, "tunnel is given up: {why}");
                task.abort();
            } else if task.is_finished() {
                tracing::error!(%gateway, "a tunnel's task ended by itself; starting it again");
            }
            stays && !task.is_finished()
        });
        for endpoint in endpoints {
            links.entry(endpoint.id.clone()).or_insert_with(|| {
                let task = tokio::spawn(keeper::keep(shared.clone(), endpoint.clone(), shutdown.clone()));
                (endpoint, task)
            });
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { break },
            changed = locked.changed() => if changed.is_err() { break },
            () = sleep(CHECK_EVERY) => {}
            // A sender that is gone means the same as a shutdown.
            _ = shutdown.wait_for(|stop| *stop) => break,
        }
    }
    let tasks = links.into_iter().map(|(gateway, (_, task))| (gateway, task)).collect();
    end_all(&shared, tasks, locked).await;
}

/// Lets the streams of all tunnels end, except of gateways that are locked, or become so.
async fn end_all(shared: &Shared, links: Vec<(NodeId, JoinHandle<()>)>, locked: watch::Receiver<BTreeSet<NodeId>>) {
    let until = Instant::now() + shared.pieces.limits.drain + GOODBYE;
    let ending = links.into_iter().map(|(gateway, mut task)| {
        let mut locked = locked.clone();
        async move {
            let refused = locked.wait_for(|locked| locked.contains(&gateway));
            tokio::select! {
                ended = &mut task => {
                    if ended.is_err_and(|error| error.is_panic()) {
                        tracing::error!(%gateway, "a tunnel's task panicked");
                    }
                }
                _ = refused => task.abort(),
                () = sleep_until(until) => task.abort(),
            }
        }
    });
    join_all(ending).await;
}
