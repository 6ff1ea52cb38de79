//! Which connection gets the next stream.

use std::{sync::Arc, time::Duration};

use sluice_connector_wire::ClassPair;

use crate::leg::Leg;

/// Differences below this are noise and must not draw all load to one connector.
const LEAST_RTT: Duration = Duration::from_millis(1);

/// One way to try.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) leg: Arc<Leg>,
}

impl Way {
    /// Whether this way can be expected to answer when `other` does not: another agent, or the same one over another
    /// transport. The same agent by the same transport would only dial a slow target twice.
    pub(crate) fn is_independent_of(&self, other: &Self) -> bool {
        let (own, other) = (&self.leg.facts, &other.leg.facts);
        own.sid != other.sid || own.transport != other.transport
    }
}

/// Pairs to try for a stream of `pair`. What is not urgent gets on the urgent connection last.
const fn fallback(pair: ClassPair) -> [ClassPair; 3] {
    match pair {
        ClassPair::Interactive => [ClassPair::Interactive, ClassPair::Standard, ClassPair::Bulk],
        ClassPair::Standard => [ClassPair::Standard, ClassPair::Bulk, ClassPair::Interactive],
        ClassPair::Bulk => [ClassPair::Bulk, ClassPair::Standard, ClassPair::Interactive],
    }
}

/// All ways through these tunnels, best first: each tunnel's best connection before anybody's second best.
///
/// A tunnel is its age among its connector's (0 = newest) and its connections, newest first. An agent keeps one
/// tunnel, so an older one is probably a line that died unnoticed; that it has room is no merit. Among the others
/// counts the round-trip time multiplied by the streams the agent would then carry. Who has just refused for good comes
/// after all others.
pub(crate) fn order(tunnels: Vec<(usize, Vec<Arc<Leg>>)>, pair: ClassPair) -> Vec<Way> {
    let mut ranked = Vec::new();
    for (age, legs) in tunnels {
        let preferred =
            fallback(pair).into_iter().flat_map(|pair| legs.iter().filter(move |leg| leg.facts.pair == pair));
        for (at, leg) in preferred.filter(|leg| !leg.is_retired()).enumerate() {
            let rank = (leg.refused_lately(), at, age, leg.is_full(), score(leg.rtt(), leg.load()));
            ranked.push((rank, Way { leg: leg.clone() }));
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, way)| way).collect()
}

fn score(rtt: Duration, load: u32) -> u128 {
    rtt.max(LEAST_RTT).as_micros() * (u128::from(load) + 1)
}
