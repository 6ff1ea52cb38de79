//! Reaching a target: resolve here, ask the dial guard, connect to the address that was checked.

mod race;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use sluice_connector_wire::{Granted, Protocol, Refusal};
use sluice_node_reach::DialGuard;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::{Shared, forbidden_address};

const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TRIES: u32 = 3;
/// Probes are not sent while bytes wait to be acknowledged; this bounds that case.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A target's socket.
#[derive(Debug)]
pub(crate) enum Reached {
    /// Connected.
    Tcp(TcpStream),
    /// Bound to one remote address and port; whether anybody is there shows later.
    Udp(UdpSocket),
}

impl Reached {
    /// The address that the guard let pass and that was dialled.
    pub(crate) fn at(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(tcp) => tcp.peer_addr(),
            Self::Udp(udp) => udp.peer_addr(),
        }
    }
}

/// Connects to the target of `granted`.
pub(crate) async fn dial(shared: &Shared, granted: &Granted) -> Result<Reached, Refusal> {
    let target = granted.target();
    let addresses = shared.resolver.resolve_for(granted.caller(), &target.host).await?;
    if let Some(address) = forbidden_address(&shared.pieces.forbidden_networks, &addresses) {
        tracing::debug!(resource = %granted.resource(), %address, "forbidden_networks of this machine has a target");
        return Err(Refusal::Forbidden);
    }
    let guard = DialGuard::new(granted.networks().to_vec());
    let permitted = guard.permit(&addresses, target.port).map_err(|why| {
        tracing::debug!(resource = %granted.resource(), caller = granted.caller(), %why, "dial guard refused a target");
        Refusal::Forbidden
    })?;
    match target.protocol {
        Protocol::Tcp => {
            let connecting = timeout(shared.pieces.limits.connect, connect(permitted.addresses()));
            connecting.await.map_err(|_| Refusal::TimedOut)?.map(Reached::Tcp)
        }
        Protocol::Udp => bind(permitted.addresses()).await.map(Reached::Udp),
    }
}

/// A socket that sends to and hears from the first of `addresses` to which there is a way.
async fn bind(addresses: &[SocketAddr]) -> Result<UdpSocket, Refusal> {
    for address in addresses {
        let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let connected = async {
            let udp = UdpSocket::bind((any, 0)).await?;
            udp.connect(address).await?;
            io::Result::Ok(udp)
        };
        match connected.await {
            Ok(udp) => return Ok(udp),
            Err(error) => tracing::debug!(%error, "there is no way to a target's address"),
        }
    }
    Err(Refusal::Unreachable)
}

pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Refusal> {
    let tcp = race::connect(addresses).await?;
    if let Err(error) = tcp.set_nodelay(true).and_then(|()| keep_alive(&tcp)) {
        tracing::debug!(%error, "socket options were not taken");
    }
    Ok(tcp)
}

/// Notices a peer that vanished without a word.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let options =
        TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY).with_retries(KEEP_ALIVE_TRIES);
    SockRef::from(tcp).set_tcp_keepalive(&options)
}

/// As [`keep_alive`], also while bytes are under way. For tunnels: an application may well not read for a while.
pub(crate) fn keep_tunnel_alive(tcp: &TcpStream) -> io::Result<()> {
    keep_alive(tcp)?;
    SockRef::from(tcp).set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}
