//! The gateway's end of a tunnel: the real library, behind plain listeners instead of the product's proxy.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::SystemTime};

use anyhow::{Context, Result};
use clap::Parser;
use sluice_benches::{
    forward::Forward,
    house::{CONNECTOR, House, gateway_name, resource},
};
use sluice_connector_mux::carry;
use sluice_connector_server::{Arrived, DirectAsk, Limits, TunnelServer};
use sluice_connector_wire::{ALPN_TUNNEL, ClassPair, Protocol};
use sluice_node_identity::{NodeId, UnixTime};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Take a tunnel from `bench-agent` and carry what comes to plain listeners through it
#[derive(Parser)]
#[command(name = "bench-gate")]
struct Arguments {
    /// Folder made by bench-house
    #[arg(long)]
    house: PathBuf,
    /// Where agents come
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where users come and where they go, as tcp:ADDRESS:PORT=tcp:HOST:PORT; may be repeated
    #[arg(long = "forward", value_name = "FORWARD", required = true)]
    forwards: Vec<Forward>,
    /// Streams on one tunnel
    #[arg(long, default_value_t = Limits::default().streams_per_connection)]
    streams: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let arguments = Arguments::parse();
    let house = House::open(&arguments.house);
    let limits = Limits { streams_per_connection: arguments.streams, ..Limits::default() };
    let server = TunnelServer::new(gateway_name()?, house.signer()?, limits);
    let mut tasks = JoinSet::new();
    tasks.spawn(take_tunnels(house, arguments.listen, server.clone()));
    for forward in arguments.forwards {
        tasks.spawn(carry_all(forward, server.clone()));
    }
    match tasks.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

async fn take_tunnels(house: House, listen: SocketAddr, server: TunnelServer) -> Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(house.gateway_tls(&[ALPN_TUNNEL])?));
    let own: Arc<[u8]> = house.gateway_leaf()?.into();
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    loop {
        let (tcp, _) = listener.accept().await.context("accepting an agent")?;
        let (acceptor, own, server) = (acceptor.clone(), own.clone(), server.clone());
        tokio::spawn(async move {
            if let Err(error) = take_tunnel(tcp, acceptor, &own, &server).await {
                tracing::warn!("tunnel: {error:#}");
            }
        });
    }
}

async fn take_tunnel(tcp: TcpStream, acceptor: TlsAcceptor, own: &[u8], server: &TunnelServer) -> Result<()> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await.context("handshake")?;
    let leaf = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).context("no certificate")?.to_vec();
    server.serve_tunnel(Arrived::over_tcp(tls, leaf, own)).await
}

async fn carry_all(forward: Forward, server: TunnelServer) -> Result<()> {
    anyhow::ensure!(forward.target.protocol == Protocol::Tcp, "UDP is not carried yet");
    let listen = forward.listen;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let forward = Arc::new(forward);
    loop {
        let (tcp, _) = listener.accept().await.context("accepting a user")?;
        let (forward, server) = (forward.clone(), server.clone());
        tokio::spawn(async move {
            if let Err(error) = carry_one(tcp, &forward, &server).await {
                tracing::warn!(target = %forward.target, "stream: {error:#}");
            }
        });
    }
}

async fn carry_one(mut tcp: TcpStream, forward: &Forward, server: &TunnelServer) -> Result<()> {
    tcp.set_nodelay(true)?;
    let connectors: [NodeId; 1] = [CONNECTOR.parse()?];
    let resource = resource(&forward.target)?;
    let pair = ClassPair::default();
    let ask = DirectAsk {
        connectors: &connectors,
        resource: &resource,
        target: &forward.target,
        subject: "user/bench",
        pair,
    };
    let mut stream = server.open_direct(&ask, UnixTime::from(SystemTime::now())).await?;
    carry(&mut tcp, &mut stream).await.context("carrying")?;
    Ok(())
}
