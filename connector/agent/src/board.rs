//! What is told of tunnels: which connections are up, how quick they are, and what hindered those that are not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sluice_connector_wire::{ClassPair, Transport};
use sluice_node_identity::NodeId;

/// Where a dial towards a gateway came to its end; the context of the error that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hurdle {
    /// Its name.
    Resolve,
    /// Its address is none of `gateway_networks`.
    Guard,
    /// No connection.
    Connect,
    /// Not TLS, or not the gateway that was meant.
    Tls,
    /// The gateway would not talk, or stopped.
    Broke,
}

impl Hurdle {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Guard => "guard",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Broke => "broke",
        }
    }
}

impl fmt::Display for Hurdle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the gateway's name",
            Self::Guard => "the gateway's address (gateway_networks)",
            Self::Connect => "connecting to the gateway",
            Self::Tls => "TLS handshake with the gateway",
            Self::Broke => "the tunnel broke",
        })
    }
}

/// Shared by all tunnels.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    up: BTreeMap<u64, Arc<Leg>>,
    ever: BTreeSet<(NodeId, ClassPair)>,
    redials: u64,
    hindered: BTreeMap<Hurdle, u64>,
}

/// One connection of a tunnel.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) gateway: NodeId,
    pub(crate) pair: ClassPair,
    pub(crate) transport: Transport,
    since: Instant,
    /// 0 before the first measurement.
    rtt_micros: AtomicU32,
}

impl Leg {
    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        let micros = self.rtt_micros.load(Ordering::Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }
}

/// A connection is up as long as this lives.
#[derive(Debug)]
pub(crate) struct Up {
    board: Arc<Board>,
    number: u64,
    leg: Arc<Leg>,
}

impl Up {
    /// The round-trip time last measured.
    pub(crate) fn measured(&self, rtt: Duration) {
        let micros = u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX).max(1);
        self.leg.rtt_micros.store(micros, Ordering::Relaxed);
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.board.inner().up.remove(&self.number);
    }
}

/// All that is told, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Connections that are up.
    pub(crate) up: Vec<Arc<Leg>>,
    /// Connections that came up again after they had been lost or replaced.
    pub(crate) redials: u64,
    /// Dials that failed and tunnels that broke.
    pub(crate) hindered: BTreeMap<Hurdle, u64>,
}

impl Board {
    /// A connection has come up.
    pub(crate) fn up(self: &Arc<Self>, gateway: &NodeId, pair: ClassPair, transport: Transport) -> Up {
        let leg =
            Leg { gateway: gateway.clone(), pair, transport, since: Instant::now(), rtt_micros: AtomicU32::new(0) };
        let leg = Arc::new(leg);
        let mut inner = self.inner();
        let number = inner.next;
        inner.next = number.wrapping_add(1);
        if !inner.ever.insert((gateway.clone(), pair)) {
            inner.redials += 1;
        }
        inner.up.insert(number, leg.clone());
        drop(inner);
        Up { board: self.clone(), number, leg }
    }

    /// A dial failed, or a tunnel broke.
    pub(crate) fn hindered(&self, error: &anyhow::Error) {
        let hurdle = error.downcast_ref::<Hurdle>().copied().unwrap_or(Hurdle::Broke);
        *self.inner().hindered.entry(hurdle).or_default() += 1;
    }

    /// What there is to tell; forgets gateways that `wanted` has no more.
    pub(crate) fn told(&self, wanted: &[NodeId]) -> Told {
        let mut inner = self.inner();
        inner.ever.retain(|(gateway, _)| wanted.contains(gateway));
        Told { up: inner.up.values().cloned().collect(), redials: inner.redials, hindered: inner.hindered.clone() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn connections_show_while_they_live_and_redials_are_counted() {
        let (board, gateway): (_, NodeId) = (Arc::new(Board::default()), "gw-1".parse().unwrap());
        let wanted = [gateway.clone()];
        let first = board.up(&gateway, ClassPair::Standard, Transport::Tcp);
        let second = board.up(&gateway, ClassPair::Bulk, Transport::Tcp);
        assert_eq!((board.told(&wanted).up.len(), board.told(&wanted).redials), (2, 0));
        drop(first);
        let _again = board.up(&gateway, ClassPair::Standard, Transport::Quic);
        let told = board.told(&wanted);
        assert_eq!((told.up.len(), told.redials), (2, 1));
        drop(second);
        // A gateway that has left the document begins anew.
        board.told(&[]);
        let _anew = board.up(&gateway, ClassPair::Standard, Transport::Tcp);
        assert_eq!(board.told(&wanted).redials, 1);
    }

    #[test]
    fn failures_are_counted_by_where_they_happened() {
        let board = Board::default();
        let deep = Err::<(), _>(anyhow!("refused")).context(Hurdle::Connect).context("outside").unwrap_err();
        assert!(format!("{deep:#}").contains("connecting to the gateway: refused"));
        board.hindered(&deep);
        board.hindered(&anyhow!("reset"));
        let counted: Vec<_> = board.told(&[]).hindered.into_iter().collect();
        assert_eq!(counted, [(Hurdle::Connect, 1), (Hurdle::Broke, 1)]);
    }
}
