//! What operators see of tunnels.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use sluice_connector_wire::{ClassPair, GatewayEndpoint, Transport};
use sluice_node_identity::NodeId;
use tokio::time::Instant;

/// One tunnel, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelStatus {
    /// To which gateway.
    pub gateway: NodeId,
    /// Its name or address, as dialled.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The session's nonce, while one lasts.
    pub sid: Option<String>,
    /// Most urgent pair first.
    pub lanes: Vec<LaneStatus>,
}

/// A tunnel's connections of one pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStatus {
    /// Which pair.
    pub pair: ClassPair,
    /// Where new streams go; `None`: nowhere at present.
    pub in_use: Option<LinkStatus>,
    /// Connections that only finish their streams.
    pub finishing: usize,
    /// Dials under way.
    pub attempts: usize,
    /// Time until the next dial that is settled: again, or QUIC beside TCP.
    pub next_dial: Option<Duration>,
    /// Why the last attempt or connection of each transport ended, in words; cleared when it comes up.
    pub last_error: BTreeMap<&'static str, String>,
}

/// A connection in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Over what.
    pub transport: Transport,
    /// How it leads out: `direct`, or which proxy.
    pub via: String,
    /// How long it has been up.
    pub up_for: Duration,
    /// Smoothed round-trip time.
    pub rtt: Option<Duration>,
    /// Streams it carries.
    pub streams: usize,
}

/// What a connection notes about itself.
#[derive(Debug, Default)]
pub(crate) struct LinkFacts {
    via: OnceLock<String>,
    /// 0 before the first answer.
    rtt_micros: AtomicU64,
    streams: AtomicUsize,
}

impl LinkFacts {
    pub(super) fn came_by(&self, via: String) {
        self.via.get_or_init(|| via);
    }

    pub(super) fn measured(&self, rtt: Option<Duration>) {
        let micros = rtt.map_or(0, |rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX).max(1));
        self.rtt_micros.store(micros, Relaxed);
    }

    pub(super) fn carries(&self, streams: usize) {
        self.streams.store(streams, Relaxed);
    }

    fn status(&self, transport: Transport, since: Instant) -> LinkStatus {
        let rtt = Some(self.rtt_micros.load(Relaxed)).filter(|micros| *micros > 0);
        LinkStatus {
            transport,
            via: self.via.get().cloned().unwrap_or_default(),
            up_for: since.elapsed(),
            rtt: rtt.map(Duration::from_micros),
            streams: self.streams.load(Relaxed),
        }
    }
}

/// A lane as its tunnel last noted it.
#[derive(Clone, Debug)]
pub(super) struct LaneNote {
    pub(super) pair: ClassPair,
    pub(super) in_use: Option<(Transport, Instant, Arc<LinkFacts>)>,
    pub(super) finishing: usize,
    pub(super) attempts: usize,
    pub(super) next_dial: Option<Instant>,
    pub(super) errors: BTreeMap<&'static str, String>,
}

impl LaneNote {
    fn status(&self) -> LaneStatus {
        LaneStatus {
            pair: self.pair,
            in_use: self.in_use.as_ref().map(|(transport, since, facts)| facts.status(*transport, *since)),
            finishing: self.finishing,
            attempts: self.attempts,
            next_dial: self.next_dial.map(|at| at.saturating_duration_since(Instant::now())),
            last_error: self.errors.clone(),
        }
    }
}

#[derive(Debug)]
struct Noted {
    endpoint: GatewayEndpoint,
    sid: Option<String>,
    lanes: Vec<LaneNote>,
}

/// A gateway that moves has two tunnels for a while.
type Place = (NodeId, String, u16);

fn place(endpoint: &GatewayEndpoint) -> Place {
    (endpoint.id.clone(), endpoint.host.clone(), endpoint.port)
}

/// All tunnels.
#[derive(Debug, Default)]
pub(crate) struct Overview(Mutex<BTreeMap<Place, Noted>>);

impl Overview {
    pub(super) fn note(&self, endpoint: &GatewayEndpoint, sid: Option<String>, lanes: Vec<LaneNote>) {
        self.lock().insert(place(endpoint), Noted { endpoint: endpoint.clone(), sid, lanes });
    }

    pub(super) fn remove(&self, endpoint: &GatewayEndpoint) {
        self.lock().remove(&place(endpoint));
    }

    pub(crate) fn tunnels(&self) -> Vec<TunnelStatus> {
        let status = |noted: &Noted| TunnelStatus {
            gateway: noted.endpoint.id.clone(),
            host: noted.endpoint.host.clone(),
            port: noted.endpoint.port,
            sid: noted.sid.clone(),
            lanes: noted.lanes.iter().map(LaneNote::status).collect(),
        };
        self.lock().values().map(status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Place, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
