//! Router advertisements on the wire: every minute, and when somebody asks.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use anyhow::Context;
use sluice_discovery_rules::advert::{Advert, INTERVAL_SECONDS, MIN_DELAY_SECONDS, is_solicitation};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Longest solicitation that is looked at, bytes.
const MAX_MESSAGE: usize = 1500;

/// Until `stop`; then says goodbye. `socket` is a raw ICMPv6 socket; to the runtime it is one for datagrams.
pub(crate) async fn run(
    socket: std::net::UdpSocket,
    advert: Advert,
    index: u32,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let socket = UdpSocket::from_std(socket).context("router's socket")?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, index).into();
    let interval = Duration::from_secs(INTERVAL_SECONDS.into());
    let pause = Duration::from_secs(MIN_DELAY_SECONDS);
    let mut earliest = Instant::now();
    let mut next = earliest;
    loop {
        tokio::select! {
            () = sleep_until(next) => {
                send(&socket, &advert.bytes(), to).await;
                let sent = Instant::now();
                earliest = sent + pause;
                next = sent + interval;
            }
            asked = solicited(&socket) => {
                if asked { next = next.min(earliest.max(Instant::now())); }
            }
            () = stopped(&mut stop) => {
                send(&socket, &advert.farewell().bytes(), to).await;
                return Ok(());
            }
        }
    }
}

pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _gone = stop.wait_for(|stop| *stop).await;
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(bytes, to).await {
        // The port may have no carrier yet; the next interval tries again.
        warn!(%error, "cannot send a router advertisement");
    }
}

async fn solicited(socket: &UdpSocket) -> bool {
    let mut buffer = [0; MAX_MESSAGE];
    match socket.recv_from(&mut buffer).await {
        Ok((length, from)) => {
            let source = if let IpAddr::V6(source) = from.ip() { source } else { Ipv6Addr::UNSPECIFIED };
            buffer.get(..length).is_some_and(|message| is_solicitation(message, source))
        }
        Err(error) => {
            debug!(%error, "router solicitation");
            tokio::task::yield_now().await;
            false
        }
    }
}
