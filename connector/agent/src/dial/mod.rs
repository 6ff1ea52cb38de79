//! Reaching a target: resolve here, ask the dial guard, connect to the address that was checked.

mod race;

use std::{io, net::SocketAddr, time::Duration};

use sluice_connector_wire::{Granted, Protocol, Refusal};
use sluice_node_reach::DialGuard;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

use crate::Shared;

const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TRIES: u32 = 3;
/// Probes are not sent while bytes wait to be acknowledged; this bounds that case.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// Connects to the target of `granted`.
pub(crate) async fn dial(shared: &Shared, granted: &Granted) -> Result<TcpStream, Refusal> {
    let target = granted.target();
    if target.protocol != Protocol::Tcp {
        return Err(Refusal::NotAllowed);
    }
    let addresses = shared.resolver.resolve(&target.host).await?;
    let guard = DialGuard::new(granted.networks().to_vec());
    let permitted = guard.permit(&addresses, target.port).map_err(|why| {
        tracing::debug!(resource = %granted.resource(), caller = granted.caller(), %why, "dial guard refused a target");
        Refusal::Forbidden
    })?;
    timeout(shared.pieces.limits.connect, connect(permitted.addresses())).await.map_err(|_| Refusal::TimedOut)?
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
