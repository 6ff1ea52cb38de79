//! What worked on which network. In memory only: an agent keeps no data at rest.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use crate::Transport;

/// Networks remembered; the one heard of longest ago is forgotten first.
pub const MAX_NETWORKS: usize = 32;
/// What worked a day ago says little.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Where the agent is, as seen by one gateway's connections: its own addresses towards that gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Source address of IPv4 packets, if any would leave.
    pub v4: Option<Ipv4Addr>,
    /// Source address of IPv6 packets, if any would leave.
    pub v6: Option<Ipv6Addr>,
}

impl Network {
    /// Hosts get new addresses in the same network: compare /24 and /64.
    fn prefix(&self) -> (Option<u32>, Option<u128>) {
        (self.v4.map(|v4| u32::from(v4) >> 8), self.v6.map(|v6| u128::from(v6) >> 64))
    }
}

/// Which transport to dial first.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Oldest first.
    known: Vec<(Network, Transport, Duration)>,
}

impl Memory {
    /// Nothing known: QUIC.
    pub(super) fn preferred(&self, network: &Network, now: Duration) -> Transport {
        let found = self.known.iter().find(|(known, ..)| known.prefix() == network.prefix());
        found.filter(|(.., at)| now <= *at + KEPT).map_or(Transport::Quic, |(_, transport, _)| *transport)
    }

    pub(super) fn remember(&mut self, network: Network, transport: Transport, now: Duration) {
        self.known.retain(|(known, ..)| known.prefix() != network.prefix());
        if self.known.len() >= MAX_NETWORKS {
            self.known.remove(0);
        }
        self.known.push((network, transport, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u32) -> Network {
        Network { v4: Some(Ipv4Addr::from(n)), v6: None }
    }

    #[test]
    fn memory_is_per_network_bounded_and_ends() {
        let mut memory = Memory::default();
        let now = Duration::from_secs(5);
        for n in 0..100 {
            memory.remember(network(n << 8), Transport::Tcp, now);
        }
        assert_eq!(memory.known.len(), MAX_NETWORKS);
        assert_eq!(memory.preferred(&network(0), now), Transport::Quic, "forgotten");
        assert_eq!(memory.preferred(&network((99 << 8) + 7), now), Transport::Tcp, "another address, the same network");
        assert_eq!(memory.preferred(&network(99 << 8), now + KEPT * 2), Transport::Quic, "too old");
        memory.remember(network(99 << 8), Transport::Quic, now);
        assert_eq!(memory.preferred(&network(99 << 8), now), Transport::Quic);
    }
}
