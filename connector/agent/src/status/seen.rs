//! Everything the status page tells, at one moment.

use std::{collections::BTreeMap, fs, sync::Arc};

use sluice_connector_wire::CheckedList;
use sluice_node_identity::{NodeId, SpiffeId, UnixTime};

use crate::{Agent, board, ledger::Sums, now};

/// A joined connector.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: SpiffeId,
    pub(super) now: UnixTime,
    /// When control was last heard of.
    pub(super) heard: UnixTime,
    pub(super) list: Option<Arc<CheckedList>>,
    pub(super) gateways: Vec<NodeId>,
    pub(super) tunnels: board::Told,
    pub(super) streams: usize,
    pub(super) streams_limit: usize,
    pub(super) sums: Sums,
    /// Tokens remembered, by caller.
    pub(super) spent: BTreeMap<String, usize>,
    pub(super) spent_limit: usize,
}

impl Seen {
    pub(super) fn of(agent: &Agent, heard: UnixTime) -> Self {
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
            heard,
            list,
            tunnels: shared.board.told(&gateways),
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
