//! Taking QUIC connections: strangers first prove their address, few handshakes run at a time, none for long.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use quinn::{Endpoint, Incoming};
use rustls::pki_types::CertificateDer;
use tokio::{
    task::{self, JoinSet},
    time::timeout,
};

/// What strangers may use.
#[derive(Clone, Copy, Debug)]
pub struct AcceptLimits {
    /// Handshakes running at a time: 256.
    pub handshakes: usize,
    /// The same for one address (IPv6: one /64): 16.
    pub per_address: usize,
    /// Time for one: 10 s.
    pub time: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self { handshakes: 256, per_address: 16, time: Duration::from_secs(10) }
    }
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// For [`crate::Connection::over_quic`].
    pub connection: quinn::Connection,
    /// Where the peer is now.
    pub remote: SocketAddr,
    /// What the peer showed, its own first. The TLS settings have verified it; empty if they asked for none.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Accepts on one endpoint.
#[derive(Debug)]
pub struct Acceptor {
    endpoint: Endpoint,
    limits: AcceptLimits,
    running: JoinSet<Option<Accepted>>,
    /// Whose each of them is.
    places: HashMap<task::Id, IpAddr>,
    by_address: HashMap<IpAddr, usize>,
}

impl Acceptor {
    /// The endpoint must have a server configuration.
    #[must_use]
    pub fn new(endpoint: Endpoint, limits: AcceptLimits) -> Self {
        Self { endpoint, limits, running: JoinSet::new(), places: HashMap::new(), by_address: HashMap::new() }
    }

    /// The next connection; `None` when the endpoint was closed. May be cancelled and called again.
    pub async fn next(&mut self) -> Option<Accepted> {
        loop {
            tokio::select! {
                Some(ended) = self.running.join_next_with_id() => {
                    // A handshake that panicked gives its place back as any other.
                    let (id, accepted) = ended.unwrap_or_else(|error| (error.id(), None));
                    self.leave(id);
                    if accepted.is_some() {
                        return accepted;
                    }
                }
                incoming = self.endpoint.accept() => self.receive(incoming?),
            }
        }
    }

    fn receive(&mut self, incoming: Incoming) {
        if !incoming.remote_address_validated() {
            // Costs us one packet and no memory. Only a peer that has used its token already may not be asked again.
            drop(incoming.retry());
            return;
        }
        let place = place_of(incoming.remote_address().ip());
        let here = self.by_address.get(&place).copied().unwrap_or(0);
        if self.running.len() >= self.limits.handshakes || here >= self.limits.per_address {
            incoming.refuse();
            return;
        }
        let Ok(connecting) = incoming.accept() else { return };
        *self.by_address.entry(place).or_default() += 1;
        let limit = self.limits.time;
        let handshake = self.running.spawn(handshake(connecting, limit));
        self.places.insert(handshake.id(), place);
    }

    fn leave(&mut self, handshake: task::Id) {
        let Some(place) = self.places.remove(&handshake) else { return };
        if let Some(count) = self.by_address.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&place);
            }
        }
    }
}

async fn handshake(connecting: quinn::Connecting, limit: Duration) -> Option<Accepted> {
    let connection = timeout(limit, connecting).await.ok()?.ok()?;
    let shown = connection.peer_identity().and_then(|shown| shown.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificates = shown.map(|shown| *shown).unwrap_or_default();
    Some(Accepted { remote: connection.remote_address(), connection, certificates })
}

/// One stranger: an IPv4 address, or the /64 that one IPv6 customer has at least.
fn place_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn a_handshake_that_panics_gives_its_place_back() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let runtime = std::sync::Arc::new(quinn::TokioRuntime);
        let endpoint = Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime).unwrap();
        let mut acceptor = Acceptor::new(endpoint.clone(), AcceptLimits::default());
        let place = IpAddr::from([192, 0, 2, 1]);
        let broken = acceptor.running.spawn(async { panic!("on purpose") });
        acceptor.places.insert(broken.id(), place);
        acceptor.by_address.insert(place, 1);
        let seen = timeout(Duration::from_millis(500), acceptor.next()).await;
        assert!(seen.is_err(), "nothing was accepted");
        assert!(acceptor.by_address.is_empty() && acceptor.places.is_empty());
        endpoint.close(0_u8.into(), b"");
    }
}
