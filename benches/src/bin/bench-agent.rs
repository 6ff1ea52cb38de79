//! The agent's end of a tunnel: the real library, with an allow-list signed on the spot.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::Result;
use clap::Parser;
use ipnetwork::IpNetwork;
use sluice_benches::house::{House, connector_name};
use sluice_connector_agent::{Agent, DnsSettings, Limits, Pieces};
use sluice_connector_wire::Target;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Dial `bench-gate` and reach the allowed targets for it
#[derive(Parser)]
#[command(name = "bench-agent")]
struct Arguments {
    /// Folder made by bench-house
    #[arg(long)]
    house: PathBuf,
    /// The gateway's place
    #[arg(long, value_name = "ADDRESS:PORT")]
    gateway: SocketAddr,
    /// Put this target on the allow-list, as tcp:HOST:PORT or udp:HOST:PORT; may be repeated
    #[arg(long = "allow", value_name = "TARGET", required = true)]
    targets: Vec<Target>,
    /// Networks the targets' addresses may lie in; may be repeated
    #[arg(long = "network", value_name = "CIDR", default_values = ["10.0.0.0/8", "fd00::/8"])]
    networks: Vec<IpNetwork>,
    /// Streams of all tunnels
    #[arg(long, default_value_t = Limits::default().streams)]
    streams: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let arguments = Arguments::parse();
    let house = House::open(&arguments.house);
    let state = tempfile::tempdir()?;
    let (client, server) = (Arc::new(house.agent_client_tls()?), Arc::new(house.agent_server_tls()?));
    let pieces = Pieces {
        name: connector_name()?,
        policy_thumbprint: house.policy_thumbprint()?,
        node_root: house.root()?,
        client: Arc::new(move || Ok(client.clone())),
        server: Arc::new(move || Ok(server.clone())),
        state_dir: state.path().to_owned(),
        gateway_networks: vec![IpNetwork::from(arguments.gateway.ip())],
        forbidden_networks: Vec::new(),
        stale: Arc::new(|| false),
        dns: DnsSettings::default(),
        limits: Limits { streams: arguments.streams, ..Limits::default() },
    };
    let agent = Agent::open(pieces)?;
    agent.apply(&house.document(arguments.gateway, &arguments.targets, &arguments.networks)?)?;
    let (stop, stopped) = watch::channel(false);
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminated.recv().await;
        stop.send_replace(true);
    });
    agent.run(stopped).await;
    Ok(())
}
