//! The doors of tunnels and relays: who may come in, by whichever transport.

use std::sync::Arc;

use sluice_connector_mux::{
    Connection, End, Metered,
    quic::{Accepted, Marks},
};
use sluice_connector_wire::ClassPair;
use sluice_gateway_access::{Plan, is_node_revoked};
use sluice_node_identity::{NodeId, Principal, Role, SpiffeId};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{RELAY_ALPN, TUNNEL_ALPN, TunnelConnection, connection::Replayed, doors::Mark, front::Front, peer};

impl Front {
    /// A tunnel's connection over TCP.
    pub(crate) async fn tunnel(&self, first: bytes::Bytes, stream: TcpStream, plan: &Plan) {
        let mark = match tcp_mark(&stream) {
            Ok(mark) => mark,
            Err(error) => return tracing::debug!(%error, "tunnel refused: the connection has ended"),
        };
        // Below TLS: a record that is still arriving on a slow line is a sign of life.
        let (stream, heard) = Metered::over_tcp(stream);
        let Some((tls, leaf)) = self.node_peer(Replayed::new(first, stream), TUNNEL_ALPN).await else { return };
        let Some(connector) = self.connector(&leaf, plan) else { return };
        let connection = Connection::over_metered_tcp(tls, End::Gateway, heard);
        self.parts.tunnels.tunnel(TunnelConnection { connector, connection, leaf, mark }).await;
    }

    /// A tunnel's connection over QUIC. Its handshake was held against the same TLS settings.
    pub(crate) async fn quic_tunnel(&self, accepted: Accepted, marks: Marks) {
        let Accepted { connection, certificates, .. } = accepted;
        let Some(plan) = self.parts.plan.borrow().clone() else {
            return tracing::debug!("connection closed: there is no configuration yet");
        };
        let Some(leaf) = certificates.first().map(|leaf| leaf.as_ref().to_vec()) else {
            return tracing::warn!("tunnel refused: the peer showed no certificate");
        };
        let Some(connector) = self.connector(&leaf, &plan) else { return };
        let mark = quic_mark(connection.clone(), marks);
        let connection = Connection::over_quic(connection, End::Gateway);
        self.parts.tunnels.tunnel(TunnelConnection { connector, connection, leaf, mark }).await;
    }

    /// One relay of control's.
    pub(crate) async fn relay(&self, stream: Replayed<TcpStream>, plan: &Plan) {
        let Some((tls, leaf)) = self.node_peer(stream, RELAY_ALPN).await else { return };
        let Some(id) = self.peer_of_ours(&leaf).filter(|id| plan.may_relay(id)) else {
            return tracing::warn!("relay refused: the peer is not one of the document's callers");
        };
        self.parts.tunnels.relay(tls, id, leaf).await;
    }

    /// The connector that a tunnel's certificate names, if it may have a tunnel here.
    fn connector(&self, leaf: &[u8], plan: &Plan) -> Option<NodeId> {
        let Some(Principal::Node { tenant, role: Role::Connector, id }) =
            self.peer_of_ours(leaf).map(|id| id.principal)
        else {
            tracing::warn!("tunnel refused: the peer is not a connector of this tenant");
            return None;
        };
        if tenant != *plan.tenant() {
            tracing::warn!("tunnel refused: the peer is not a connector of this tenant");
            return None;
        }
        if is_node_revoked(&id, &self.parts.state.borrow()) {
            tracing::warn!(connector = %id, "tunnel refused: the connector is revoked");
            return None;
        }
        Some(id)
    }

    fn peer_of_ours(&self, leaf: &[u8]) -> Option<SpiffeId> {
        peer::spiffe_id(leaf).ok().filter(|id| id.trust_domain == self.parts.node.trust_domain())
    }

    /// Mutual TLS with `alpn`, and what the peer showed.
    async fn node_peer<S>(&self, stream: S, alpn: &'static [u8]) -> Option<(TlsStream<S>, Vec<u8>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let tls = self.handshake(stream, self.parts.node.server(alpn)).await?;
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(alpn) {
            return None;
        }
        let leaf = session.peer_certificates()?.first()?.to_vec();
        Some((tls, leaf))
    }
}

/// Marks a socket once its pair is known (RFC 2474 §3: the code point is the upper six bits).
fn tcp_mark(stream: &TcpStream) -> std::io::Result<Mark> {
    let v6 = stream.local_addr()?.is_ipv6();
    let mut socket = Some(Arc::new(SockRef::from(stream).try_clone()?));
    Ok(Box::new(move |pair: ClassPair| {
        let Some(socket) = socket.take() else { return };
        let class = u32::from(pair.dscp()) << 2;
        let marked = if v6 { socket.set_tclass_v6(class) } else { socket.set_tos_v4(class) };
        // Last: setting the class of service resets the priority (ip(7)).
        if let Err(error) = marked.and_then(|()| socket.set_priority(pair.socket_priority())) {
            tracing::debug!(%error, %pair, "a tunnel's packets could not be marked");
        }
    }))
}

/// Marks what goes to the peer, wherever it has moved to.
fn quic_mark(connection: quinn::Connection, marks: Marks) -> Mark {
    let mut marked = Marked { marks, at: None };
    Box::new(move |pair| marked.set(connection.remote_address(), pair))
}

struct Marked {
    marks: Marks,
    at: Option<std::net::SocketAddr>,
}

impl Marked {
    fn set(&mut self, peer: std::net::SocketAddr, pair: ClassPair) {
        if self.at == Some(peer) {
            return;
        }
        self.clear();
        self.marks.set(peer, pair);
        self.at = Some(peer);
    }

    fn clear(&mut self) {
        if let Some(old) = self.at.take() {
            self.marks.clear(old);
        }
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_carries_its_pairs_mark() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = listener.accept().await.unwrap();
            for pair in ClassPair::ALL {
                tcp_mark(&accepted).unwrap()(pair);
                let socket = SockRef::from(&accepted);
                let v6 = accepted.local_addr().unwrap().is_ipv6();
                let class = if v6 { socket.tclass_v6() } else { socket.tos_v4() };
                assert_eq!(class.unwrap(), u32::from(pair.dscp()) << 2, "{address} {pair}");
                assert_eq!(socket.priority().unwrap(), pair.socket_priority(), "{address} {pair}");
            }
        }
    }
}
