//! Whether the connector does its work, for whoever restarts or alarms.

use serde::{Deserialize, Serialize};
use sluice_node_identity::NodeId;

use super::seen::Seen;

/// Answer of `/health`: 200 when `ok`, else 503.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Joined, a list that has not ended, control not silent for too long, and a tunnel to at least one gateway if there is any.
    pub ok: bool,
    /// Whether it has an identity.
    pub joined: bool,
    /// Its name, once joined.
    pub name: Option<String>,
    /// The allow-list in use.
    pub list: Option<ListHealth>,
    /// Every gateway of the document.
    pub gateways: Vec<GatewayHealth>,
    /// Seconds since control was last heard of; absent when never.
    pub control_heard_seconds_ago: Option<u64>,
    /// Why control refuses it, in control's words; it may be locked.
    pub control_refuses: Option<String>,
    /// Whether control has been silent for so long that nothing new is opened.
    pub stale: bool,
    /// Streams that run.
    pub streams: usize,
}

/// An allow-list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListHealth {
    /// Its number.
    pub epoch: u64,
    /// Its number.
    pub version: u64,
    /// Until nothing new is opened; 0 when that is so already.
    pub seconds_left: u64,
}

/// The tunnel to one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayHealth {
    /// Which.
    pub id: NodeId,
    /// Whether a connection is up.
    pub up: bool,
    /// Those that are.
    pub connections: Vec<LegHealth>,
    /// Why the last attempt or connection of each pair and transport ended, where none has come up since.
    pub last_errors: Vec<String>,
}

/// One connection of a tunnel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LegHealth {
    /// Pair of traffic classes.
    pub pair: String,
    /// `tcp` or `quic`.
    pub transport: String,
    /// How long it has been up.
    pub seconds: u64,
    /// Round-trip time last measured.
    pub rtt_milliseconds: Option<f64>,
}

impl Health {
    /// Of a connector; of one that has not joined yet when there is nothing to see.
    pub(super) fn of(seen: Option<&Seen>) -> Self {
        let Some(seen) = seen else { return Self::default() };
        let heard = seen.contact.heard;
        let gateways: Vec<GatewayHealth> = seen.gateways.iter().map(|id| gateway(seen, id)).collect();
        let tunnelled = gateways.is_empty() || gateways.iter().any(|gateway| gateway.up);
        let list = seen.list.as_ref().map(|list| ListHealth {
            epoch: list.list().epoch,
            version: list.list().version,
            seconds_left: seen.list_left(),
        });
        Self {
            ok: seen.list_left() > 0 && tunnelled && !seen.contact.stale,
            joined: true,
            name: Some(seen.name.to_string()),
            list,
            gateways,
            control_heard_seconds_ago: (heard.0 > 0).then(|| seen.now.since(heard)),
            control_refuses: seen.contact.refused.clone(),
            stale: seen.contact.stale,
            streams: seen.streams,
        }
    }
}

fn gateway(seen: &Seen, id: &NodeId) -> GatewayHealth {
    let legs = seen.tunnels.up.iter().filter(|leg| leg.gateway == *id);
    let connections: Vec<LegHealth> = legs
        .map(|leg| LegHealth {
            pair: leg.pair.to_string(),
            transport: leg.transport.to_string(),
            seconds: leg.age().as_secs(),
            rtt_milliseconds: leg.rtt().map(|rtt| rtt.as_secs_f64() * 1_000.0),
        })
        .collect();
    let last_errors = seen.hindered.get(id).cloned().unwrap_or_default();
    GatewayHealth { id: id.clone(), up: !connections.is_empty(), connections, last_errors }
}
