//! How agents come in, as at the product's own doors.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, Result};
use sluice_connector_mux::{
    Connection, End, Metered,
    quic::{AcceptLimits, Accepted, Acceptor, Marks, bind, gateway_endpoint, server_config},
};
use sluice_connector_server::{Arrived, TunnelServer};
use sluice_connector_wire::ALPN_TUNNEL;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::house::House;

/// Connections over TCP.
pub(super) async fn tcp(house: House, listen: SocketAddr, server: TunnelServer) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(house.gateway_tls(&[ALPN_TUNNEL])?));
    let own: Arc<[u8]> = house.gateway_leaf()?.into();
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (tcp, _) = listener.accept().await.context("accepting an agent")?;
        let (acceptor, own, server) = (acceptor.clone(), own.clone(), server.clone());
        tokio::spawn(async move { told(take_tcp(tcp, acceptor, &own, &server).await) });
    }
}

async fn take_tcp(tcp: TcpStream, acceptor: TlsAcceptor, own: &[u8], server: &TunnelServer) -> Result<()> {
    tcp.set_nodelay(true)?;
    let (tcp, heard) = Metered::over_tcp(tcp);
    let tls = acceptor.accept(tcp).await.context("handshake")?;
    let agent_leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).context("no certificate")?.to_vec();
    let connection = Connection::over_metered_tcp(tls, End::Gateway, heard);
    let arrived = Arrived { connection, agent_leaf, own_leaf: own.to_vec(), mark: Box::new(|_| {}) };
    server.serve_tunnel(arrived).await
}

/// Connections over QUIC.
pub(super) async fn quic(house: House, listen: SocketAddr, server: TunnelServer) -> Result<()> {
    let own: Arc<[u8]> = house.gateway_leaf()?.into();
    let config = server_config(house.gateway_tls(&[ALPN_TUNNEL])?)?;
    let socket = bind(listen).with_context(|| format!("cannot use UDP {listen}"))?;
    let marks = Marks::default();
    let mut reset_key = [0; 32];
    aws_lc_rs::rand::fill(&mut reset_key).context("no randomness for a reset key")?;
    let endpoint = gateway_endpoint(socket, config, &reset_key, marks.clone()).context("a QUIC endpoint")?;
    let mut acceptor = Acceptor::new(endpoint, AcceptLimits::default());
    while let Some(accepted) = acceptor.next().await {
        let (own, server, marks) = (own.clone(), server.clone(), marks.clone());
        tokio::spawn(async move { told(take_quic(accepted, &own, &server, marks).await) });
    }
    Ok(())
}

async fn take_quic(accepted: Accepted, own: &[u8], server: &TunnelServer, marks: Marks) -> Result<()> {
    let agent_leaf = accepted.certificates.first().context("no certificate")?.to_vec();
    let remote = accepted.remote;
    let connection = Connection::over_quic(accepted.connection, End::Gateway);
    let mark = Box::new(move |pair| marks.set(remote, pair));
    server.serve_tunnel(Arrived { connection, agent_leaf, own_leaf: own.to_vec(), mark }).await
}

fn told(ended: Result<()>) {
    if let Err(error) = ended {
        tracing::warn!("tunnel: {error:#}");
    }
}
