//! Which tunnels gateways hold now. In memory only: gateways tell again every 10 s and on every change.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use sluice_node_identity::{NodeId, TenantId, UnixTime, api::LiveTunnel};

/// Most tunnels of one gateway.
pub const TUNNELS_PER_GATEWAY: usize = 1_000;
/// A report is believed this long, seconds: three of its repetitions.
pub const REPORT_SECONDS: u64 = 30;

/// What one gateway told, and when.
type Report = (UnixTime, Vec<LiveTunnel>);

/// The registry. Shared behind an `Arc`; bounded by the nodes that exist, since only joined gateways report.
#[derive(Debug, Default)]
pub struct Tunnels(Mutex<HashMap<(TenantId, NodeId), Report>>);

impl Tunnels {
    /// Replaces what `gateway` holds.
    pub fn report(&self, tenant: &TenantId, gateway: &NodeId, tunnels: Vec<LiveTunnel>, now: UnixTime) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (at, _)| now.since(*at) <= REPORT_SECONDS);
        all.insert((tenant.clone(), gateway.clone()), (now, tunnels));
    }

    /// The tenant's gateways, newest report first.
    #[must_use]
    pub fn gateways(&self, tenant: &TenantId, now: UnixTime) -> Vec<NodeId> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = all.iter().filter(|((owner, _), (at, _))| owner == tenant && now.since(*at) <= REPORT_SECONDS);
        let mut found: Vec<_> = current.map(|((_, gateway), (at, _))| (*at, gateway.clone())).collect();
        found.sort_by(|(a, _), (b, _)| b.cmp(a));
        found.into_iter().map(|(_, gateway)| gateway).collect()
    }

    /// Gateways that hold a tunnel to `connector`, with the tunnel's session, newest report first.
    #[must_use]
    pub fn to(&self, tenant: &TenantId, connector: &NodeId, now: UnixTime) -> Vec<(NodeId, String)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = all
            .iter()
            .filter(|((owner, _), (at, _))| owner == tenant && now.since(*at) <= REPORT_SECONDS)
            .flat_map(|((_, gateway), (at, tunnels))| {
                let ours = tunnels.iter().filter(|tunnel| tunnel.connector == *connector);
                ours.map(|tunnel| (*at, gateway.clone(), tunnel.sid.clone()))
            })
            .collect();
        found.sort_by(|(a, ..), (b, ..)| b.cmp(a));
        found.into_iter().map(|(_, gateway, sid)| (gateway, sid)).collect()
    }
}
