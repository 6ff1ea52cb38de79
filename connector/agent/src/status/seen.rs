//! Everything the status page tells, at one moment.

use std::{collections::BTreeMap, fs, sync::Arc};

use sluice_connector_wire::CheckedList;
use sluice_node_identity::{NodeId, SpiffeId, UnixTime};

use super::Contact;
use crate::{Agent, TunnelStatus, board, ledger::Sums, now};

/// A joined connector.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: SpiffeId,
    pub(super) now: UnixTime,
    /// How it stands with control.
    pub(super) contact: Contact,
    pub(super) list: Option<Arc<CheckedList>>,
    pub(super) gateways: Vec<NodeId>,
    pub(super) tunnels: board::Told,
    /// Why each gateway's last attempts and connections ended.
    pub(super) hindered: BTreeMap<NodeId, Vec<String>>,
    pub(super) streams: usize,
    pub(super) streams_limit: usize,
    pub(super) sums: Sums,
    /// Tokens remembered, by caller.
    pub(super) spent: BTreeMap<String, usize>,
    pub(super) spent_limit: usize,
}

impl Seen {
    pub(super) fn of(agent: &Agent, contact: Contact) -> Self {
        let shared = &agent.shared;
        let gateways: Vec<NodeId> = shared.gateways.borrow().iter().map(|gateway| gateway.id.clone()).collect();
        let gatekeeper = shared.gatekeeper();
        let (list, spent) = (gatekeeper.list(), gatekeeper.remembered());
        drop(gatekeeper);
        // Let go before the ledger is asked: it tells of changes while it holds its own lock.
        let streams = *shared.ledger.count().borrow();
        Self {
            name: shared.pieces.name.clone(),
            now: now(),
            contact,
            list,
            tunnels: shared.board.told(&gateways),
            hindered: agent.tunnels().into_iter().map(hindered).collect(),
            gateways,
            streams,
            streams_limit: shared.pieces.limits.streams,
            sums: shared.ledger.sums(),
            spent,
            spent_limit: shared.pieces.limits.spent_per_caller,
        }
    }

    /// Seconds until nothing new is opened; 0 also without a list.
    pub(super) fn list_left(&self) -> u64 {
        self.list.as_ref().map_or(0, |list| list.list().not_after.since(self.now))
    }
}

fn hindered(tunnel: TunnelStatus) -> (NodeId, Vec<String>) {
    let errors = tunnel.lanes.into_iter().flat_map(|lane| {
        let pair = lane.pair;
        lane.last_error.into_iter().map(move |(transport, why)| format!("{pair} by {transport}: {why}"))
    });
    (tunnel.gateway, errors.collect())
}

/// What the process takes.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Resident memory, bytes.
    pub(super) resident: Option<u64>,
    /// Open files.
    pub(super) files: Option<u64>,
}

impl Process {
    /// As the kernel tells; nothing where it does not.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        // The folder that is being read is open too.
        let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
        Self {
            resident: kibibytes.map(|kibibytes| kibibytes.saturating_mul(1024)),
            files: files.and_then(|files| u64::try_from(files).ok()),
        }
    }
}
