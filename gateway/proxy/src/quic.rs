//! Tunnels by QUIC: the UDP socket beside each TLS listener, and what comes in by it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use sluice_connector_mux::quic::{AcceptLimits, Acceptor, Marks, gateway_endpoint, server_config};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::{
    TUNNEL_ALPN,
    front::{Front, stopped},
    listener::Gate,
};

/// Time for the last packets of a stopping gateway.
const GOODBYE: Duration = Duration::from_millis(200);

/// Sockets on the listeners' ports. Without one tunnels come by TCP only, which is said once, here.
pub(crate) fn bind_beside(listeners: &[std::net::TcpListener]) -> Vec<std::net::UdpSocket> {
    let bound = listeners.iter().filter_map(|listener| {
        let address = listener.local_addr().ok()?;
        match bind(address) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!(
                    "UDP {address} cannot be used ({error}): connectors reach this gateway by TCP only, which is slower \
                     on lines that lose packets"
                );
                None
            }
        }
    });
    bound.collect()
}

fn bind(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One bound endpoint.
pub(crate) struct Door {
    endpoint: quinn::Endpoint,
    marks: Marks,
}

impl Door {
    pub(crate) fn open(socket: std::net::UdpSocket, front: &Front, reset_key: &[u8; 32]) -> anyhow::Result<Self> {
        // The settings look the certificate up in every handshake, so a renewed one is shown at once.
        let tls = (*front.parts.node.server(TUNNEL_ALPN)).clone();
        let marks = Marks::default();
        let endpoint = gateway_endpoint(socket, server_config(tls)?, reset_key, marks.clone());
        Ok(Self { endpoint: endpoint.context("a bound UDP socket cannot be used")?, marks })
    }

    /// Takes connections until the gateway stops; those that run go on.
    pub(crate) async fn accept(&self, gate: Gate, front: Arc<Front>, mut shutdown: watch::Receiver<bool>) {
        let limits = AcceptLimits { time: front.settings.limits.handshake, ..AcceptLimits::default() };
        let mut acceptor = Acceptor::new(self.endpoint.clone(), limits);
        loop {
            let accepted = tokio::select! {
                accepted = acceptor.next() => accepted,
                () = stopped(&mut shutdown) => break,
            };
            let Some(accepted) = accepted else { break };
            let Some(entered) = gate.enter(accepted.remote.ip()) else {
                tracing::debug!("connection closed: too many");
                accepted.connection.close(0_u32.into(), b"");
                continue;
            };
            let (front, marks) = (front.clone(), self.marks.clone());
            tokio::spawn(async move {
                let entered = entered.resting();
                front.quic_connection(accepted, marks).await;
                drop(entered);
            });
        }
        self.endpoint.set_server_config(None);
    }

    /// Tells every peer that is left.
    pub(crate) async fn close(&self) {
        self.endpoint.close(0_u32.into(), b"");
        // Peers that have gone need no goodbye.
        let _all_gone = tokio::time::timeout(GOODBYE, self.endpoint.wait_idle()).await.is_ok();
    }
}
