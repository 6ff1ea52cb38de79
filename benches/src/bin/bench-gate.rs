//! The gateway's end of a tunnel: the real library, behind plain listeners instead of the product's proxy.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::Parser;
use sluice_benches::{
    forward::Forward,
    gate::{self, Doors, Settings},
    house::House,
};
use sluice_connector_server::Limits;

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
    /// By which transport agents may come
    #[arg(long, value_enum, default_value_t)]
    transport: Doors,
    /// Where users come and where they go, as tcp:ADDRESS:PORT=tcp:HOST:PORT or udp on both sides,
    /// and @interactive or @bulk behind for another of the tunnel's connections; may be repeated
    #[arg(long = "forward", value_name = "FORWARD", required = true)]
    forwards: Vec<Forward>,
    /// Streams on one connection of a tunnel
    #[arg(long, default_value_t = Limits::default().streams_per_connection)]
    streams: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let Arguments { house, listen, transport, forwards, streams } = Arguments::parse();
    let limits = Limits { streams_per_connection: streams, ..Limits::default() };
    gate::run(Settings { house: House::open(&house), listen, doors: transport, forwards, limits }).await
}
