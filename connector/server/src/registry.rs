//! Which tunnels there are, and of which connections each consists.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_connector_mux::Opener;
use sluice_connector_wire::ClassPair;
use sluice_node_identity::{NodeId, api::LiveTunnel};
use tokio::sync::watch;

use crate::{
    choice::{self, Way},
    leg::{Facts, Leg},
    limits::Limits,
};

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("another connector has a tunnel with the same session id")]
    SessionInUse,
    #[error("as many tunnels as may be are open")]
    Full,
    #[error("as many connections as may be are open")]
    TooManyConnections,
    #[error("this connector has as many connections as it may; it opens them without using them")]
    TooManyOfConnector,
    #[error("the gateway is stopping")]
    Leaving,
}

/// All tunnels.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    table: Mutex<Table>,
    live: watch::Sender<Vec<LiveTunnel>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    leaving: bool,
    tunnels: HashMap<String, Tunnel>,
    /// Sessions by age, oldest first.
    by_connector: BTreeMap<NodeId, BTreeSet<(u64, String)>>,
    /// Connections, those without a hello too.
    connections: usize,
    connections_of: HashMap<NodeId, usize>,
}

#[derive(Debug)]
struct Tunnel {
    born: u64,
    connector: NodeId,
    /// By age, oldest first. A handful.
    legs: Vec<(u64, Arc<Leg>)>,
}

impl Tunnel {
    fn takes_streams(&self) -> bool {
        self.legs.iter().any(|(_, leg)| !leg.is_retired())
    }
}

/// A connection's place, from before its hello to its end.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    registry: &'a Registry,
    connector: NodeId,
}

/// A connection's entry, from its hello to its end.
#[derive(Debug)]
pub(crate) struct Registered<'a> {
    registry: &'a Registry,
    number: u64,
    pub(crate) leg: Arc<Leg>,
}

impl Registry {
    /// Counts a connection that is proved to be this connector's.
    pub(crate) fn enter(&self, connector: &NodeId, limits: &Limits) -> Result<Place<'_>, NotTaken> {
        let mut table = self.lock();
        if table.connections >= limits.connections {
            return Err(NotTaken::TooManyConnections);
        }
        let own = table.connections_of.entry(connector.clone()).or_default();
        if *own >= limits.connections_per_connector {
            return Err(NotTaken::TooManyOfConnector);
        }
        *own += 1;
        table.connections += 1;
        Ok(Place { registry: self, connector: connector.clone() })
    }

    /// Adds a connection to its tunnel, which it may begin. What is too much of one connector's closes its oldest.
    pub(crate) fn insert(&self, facts: Facts, opener: Opener, limits: &Limits) -> Result<Registered<'_>, NotTaken> {
        let mut table = self.lock();
        if table.leaving {
            return Err(NotTaken::Leaving);
        }
        table.next += 1;
        let number = table.next;
        let tunnel = table.tunnel_for(&facts, number, limits)?;
        let agent = tunnel.legs.last().map_or_else(Arc::default, |(_, sibling)| sibling.agent().clone());
        let leg = Arc::new(Leg::new(facts, opener, limits.streams_per_connection, agent));
        tunnel.legs.push((number, leg.clone()));
        self.publish(&table);
        Ok(Registered { registry: self, number, leg })
    }

    /// Ways to any of these connectors, best first.
    pub(crate) fn ways(&self, connectors: &[NodeId], pair: ClassPair) -> Vec<Way> {
        let table = self.lock();
        let mut tunnels = Vec::new();
        for connector in connectors.iter().collect::<BTreeSet<_>>() {
            let newest_first = table.by_connector.get(connector).into_iter().flatten().rev();
            let usable = newest_first.filter_map(|(_, sid)| table.tunnels.get(sid)).filter(|t| t.takes_streams());
            for (age, tunnel) in usable.enumerate() {
                tunnels.push((age, tunnel.legs.iter().rev().map(|(_, leg)| leg.clone()).collect()));
            }
        }
        drop(table);
        choice::order(tunnels, pair)
    }

    /// Ways through one tunnel, if it is this connector's, best first.
    pub(crate) fn ways_of(&self, connector: &NodeId, sid: &str, pair: ClassPair) -> Vec<Way> {
        let legs = match self.lock().tunnels.get(sid).filter(|tunnel| tunnel.connector == *connector) {
            Some(tunnel) => tunnel.legs.iter().rev().map(|(_, leg)| leg.clone()).collect(),
            None => return Vec::new(),
        };
        choice::order(vec![(0, legs)], pair)
    }

    /// Closes every connection of a connector; gives how many tunnels that ends.
    pub(crate) fn close_connector(&self, connector: &NodeId) -> usize {
        let mut table = self.lock();
        let Some(sids) = table.by_connector.remove(connector) else { return 0 };
        for (_, sid) in &sids {
            table.close(sid);
        }
        self.publish(&table);
        sids.len()
    }

    /// From now on no connection is taken.
    pub(crate) fn leave(&self) {
        let mut table = self.lock();
        table.leaving = true;
        self.publish(&table);
    }

    pub(crate) fn live(&self) -> watch::Receiver<Vec<LiveTunnel>> {
        self.live.subscribe()
    }

    fn publish(&self, table: &Table) {
        // Nobody is to look for a tunnel here any more when the gateway is stopping.
        let mut now: Vec<(u64, LiveTunnel)> = table
            .tunnels
            .iter()
            .filter(|(_, tunnel)| tunnel.takes_streams() && !table.leaving)
            .map(|(sid, tunnel)| (tunnel.born, LiveTunnel { connector: tunnel.connector.clone(), sid: sid.clone() }))
            .collect();
        now.sort_unstable_by_key(|(born, _)| std::cmp::Reverse(*born));
        let now: Vec<LiveTunnel> = now.into_iter().map(|(_, tunnel)| tunnel).collect();
        self.live.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change above is complete before the guard goes, so a panic elsewhere leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    /// Makes room for one more connection of this pair.
    fn close_surplus(&mut self, pair: ClassPair, most: usize) {
        let own = self.legs.iter().filter(|(_, leg)| leg.facts.pair == pair).count();
        let mut surplus = (own + 1).saturating_sub(most);
        self.legs.retain(|(_, leg)| {
            let goes = surplus > 0 && leg.facts.pair == pair;
            if goes {
                surplus -= 1;
                leg.close.cancel();
            }
            !goes
        });
    }
}

impl Table {
    /// The tunnel that a new connection belongs to, with room for it.
    fn tunnel_for(&mut self, new: &Facts, number: u64, limits: &Limits) -> Result<&mut Tunnel, NotTaken> {
        if !self.tunnels.contains_key(&new.sid) {
            self.make_room(&new.connector, limits)?;
            self.by_connector.entry(new.connector.clone()).or_default().insert((number, new.sid.clone()));
        }
        let begin = || Tunnel { born: number, connector: new.connector.clone(), legs: Vec::new() };
        let tunnel = self.tunnels.entry(new.sid.clone()).or_insert_with(begin);
        if tunnel.connector != new.connector {
            return Err(NotTaken::SessionInUse);
        }
        tunnel.close_surplus(new.pair, limits.connections_per_pair);
        Ok(tunnel)
    }

    /// Room for one more tunnel of this connector.
    fn make_room(&mut self, connector: &NodeId, limits: &Limits) -> Result<(), NotTaken> {
        let own = self.by_connector.get(connector);
        let surplus = (own.map_or(0, BTreeSet::len) + 1).saturating_sub(limits.tunnels_per_connector);
        if self.tunnels.len().saturating_sub(surplus) >= limits.tunnels {
            return Err(NotTaken::Full);
        }
        let oldest: Vec<_> = own.into_iter().flatten().take(surplus).cloned().collect();
        for old in oldest {
            self.close(&old.1);
            if let Some(own) = self.by_connector.get_mut(connector) {
                own.remove(&old);
            }
        }
        Ok(())
    }

    fn close(&mut self, sid: &str) {
        for (_, leg) in self.tunnels.remove(sid).map(|tunnel| tunnel.legs).into_iter().flatten() {
            leg.close.cancel();
        }
    }

    /// Takes one connection out, and its tunnel if it was the last.
    fn remove(&mut self, number: u64, gone: &Facts) {
        let Some(tunnel) = self.tunnels.get_mut(&gone.sid) else { return };
        tunnel.legs.retain(|(other, _)| *other != number);
        if !tunnel.legs.is_empty() {
            return;
        }
        let (connector, key) = (tunnel.connector.clone(), (tunnel.born, gone.sid.clone()));
        self.tunnels.remove(&gone.sid);
        if let Some(own) = self.by_connector.get_mut(&connector) {
            own.remove(&key);
            if own.is_empty() {
                self.by_connector.remove(&connector);
            }
        }
    }
}

impl Registered<'_> {
    /// No new streams here.
    pub(crate) fn retire(&self) {
        self.leg.retire();
        self.registry.publish(&self.registry.lock());
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // Whoever still holds the connection must not take it for one that lives.
        self.leg.retire();
        let mut table = self.registry.lock();
        table.remove(self.number, &self.leg.facts);
        self.registry.publish(&table);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.registry.lock();
        table.connections -= 1;
        if let Some(own) = table.connections_of.get_mut(&self.connector) {
            *own -= 1;
            if *own == 0 {
                table.connections_of.remove(&self.connector);
            }
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
