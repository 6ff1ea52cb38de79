//! Which tunnels there are, and whom to ask for a stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_connector_mux::{Opener, Stream};
use sluice_node_identity::{NodeId, api::LiveTunnel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;

/// One tunnel as others see it.
#[derive(Clone, Debug)]
pub(crate) struct Tunnel {
    pub(crate) connector: NodeId,
    pub(crate) sid: String,
    /// Hash of the certificate that this gateway showed when the tunnel began.
    pub(crate) cnf: String,
    pub(crate) close: CancellationToken,
    opener: Opener,
    streams: Arc<Semaphore>,
}

/// A stream and the room it takes.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) room: OwnedSemaphorePermit,
}

impl Tunnel {
    pub(crate) fn new(connector: NodeId, sid: String, cnf: String, opener: Opener, limits: &Limits) -> Self {
        let streams = Arc::new(Semaphore::new(limits.streams_per_tunnel));
        Self { connector, sid, cnf, close: CancellationToken::new(), opener, streams }
    }

    /// Opens a stream; `None` when the tunnel is full or gone.
    pub(crate) async fn open(&self) -> Option<Opened> {
        let room = self.streams.clone().try_acquire_owned().ok()?;
        let stream = self.opener.open().await.ok()?;
        Some(Opened { stream, room })
    }

    fn live(&self) -> LiveTunnel {
        LiveTunnel { connector: self.connector.clone(), sid: self.sid.clone() }
    }
}

/// Why a tunnel was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("another tunnel has the same session id")]
    SessionInUse,
    #[error("as many tunnels as may be are open")]
    Full,
}

/// All tunnels, by age.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    tunnels: Mutex<BTreeMap<u64, Tunnel>>,
    live: watch::Sender<Vec<LiveTunnel>>,
}

impl Registry {
    /// Adds a tunnel and gives its number. Closes the connector's oldest when it has too many.
    pub(crate) fn insert(&self, tunnel: Tunnel, limits: &Limits) -> Result<u64, NotTaken> {
        let mut tunnels = self.lock();
        if tunnels.values().any(|other| other.sid == tunnel.sid) {
            return Err(NotTaken::SessionInUse);
        }
        let own: Vec<u64> =
            tunnels.iter().filter(|(_, other)| other.connector == tunnel.connector).map(|(id, _)| *id).collect();
        let surplus = (own.len() + 1).saturating_sub(limits.tunnels_per_connector);
        for oldest in own.into_iter().take(surplus) {
            if let Some(old) = tunnels.remove(&oldest) {
                old.close.cancel();
            }
        }
        if tunnels.len() >= limits.tunnels {
            self.publish(&tunnels);
            return Err(NotTaken::Full);
        }
        let id = tunnels.last_key_value().map_or(0, |(id, _)| id + 1);
        tunnels.insert(id, tunnel);
        self.publish(&tunnels);
        Ok(id)
    }

    /// Takes a tunnel out, if it is still the one with this session.
    pub(crate) fn remove(&self, id: u64, sid: &str) {
        let mut tunnels = self.lock();
        if tunnels.get(&id).is_some_and(|tunnel| tunnel.sid == sid) {
            tunnels.remove(&id);
            self.publish(&tunnels);
        }
    }

    /// Tunnels of any of these connectors: each one's newest before anybody's older ones, then those with most room.
    ///
    /// An agent keeps one tunnel, so an older one is probably a line that died unnoticed; that it has room is no merit.
    pub(crate) fn candidates(&self, connectors: &[NodeId]) -> Vec<Tunnel> {
        let tunnels = self.lock();
        let mut seen: BTreeMap<&NodeId, usize> = BTreeMap::new();
        let mut found = Vec::new();
        for tunnel in tunnels.values().rev().filter(|tunnel| connectors.contains(&tunnel.connector)) {
            let newer = seen.entry(&tunnel.connector).or_default();
            found.push((*newer, tunnel.clone()));
            *newer += 1;
        }
        found.sort_by_key(|(newer, tunnel)| (*newer, std::cmp::Reverse(tunnel.streams.available_permits())));
        found.into_iter().map(|(_, tunnel)| tunnel).collect()
    }

    /// The tunnel with this session, if it is this connector's.
    pub(crate) fn find(&self, connector: &NodeId, sid: &str) -> Option<Tunnel> {
        self.lock().values().find(|tunnel| tunnel.connector == *connector && tunnel.sid == sid).cloned()
    }

    pub(crate) fn close_connector(&self, connector: &NodeId) -> usize {
        let mut tunnels = self.lock();
        let before = tunnels.len();
        tunnels.retain(|_, tunnel| {
            let stays = tunnel.connector != *connector;
            if !stays {
                tunnel.close.cancel();
            }
            stays
        });
        self.publish(&tunnels);
        before - tunnels.len()
    }

    pub(crate) fn live(&self) -> watch::Receiver<Vec<LiveTunnel>> {
        self.live.subscribe()
    }

    fn publish(&self, tunnels: &BTreeMap<u64, Tunnel>) {
        let now: Vec<LiveTunnel> = tunnels.values().rev().map(Tunnel::live).collect();
        self.live.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Tunnel>> {
        // Every change above is complete before the guard goes, so a panic elsewhere leaves it whole.
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sluice_connector_mux::{Connection, End};

    use super::*;

    #[tokio::test]
    async fn a_connectors_newest_tunnel_is_asked_first_however_busy_it_is() {
        let (registry, limits) = (Registry::default(), Limits::default());
        let mut ends = Vec::new();
        let mut add = |connector: &str, sid: &str, busy: u32| {
            let end = Connection::over_tcp(tokio::io::duplex(1024).0, End::Gateway);
            let tunnel = Tunnel::new(connector.parse().unwrap(), sid.to_owned(), String::new(), end.opener(), &limits);
            tunnel.streams.clone().try_acquire_many_owned(busy).unwrap().forget();
            registry.insert(tunnel, &limits).unwrap();
            ends.push(end);
        };
        add("dc-1", "dead line", 0);
        add("dc-2", "other", 3);
        add("dc-1", "alive", 5);
        let asked = registry.candidates(&["dc-1".parse().unwrap(), "dc-2".parse().unwrap()]);
        let sids: Vec<&str> = asked.iter().map(|tunnel| tunnel.sid.as_str()).collect();
        assert_eq!(sids, ["other", "alive", "dead line"]);
    }
}
