//! How an agent gets to a gateway's TCP port: directly here, or by whatever the role plugs in.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::Context;
use futures::future::BoxFuture;
use ipnetwork::IpNetwork;
use sluice_connector_mux::{Heard, Metered};
use sluice_connector_wire::{ClassPair, GatewayEndpoint};
use sluice_node_reach::DialGuard;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

use crate::{
    Shared,
    board::Hurdle,
    dial::{connect, keep_tunnel_alive},
    resolve::Resolver,
};

/// Bytes in both directions.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// See [`Io`].
pub type BoxedIo = Box<dyn Io>;

/// Says what an error of the TLS handshake with the gateway most likely means on this way.
pub type TlsWords = Box<dyn Fn(&io::Error) -> Option<String> + Send>;

/// A connection that leads to a gateway's port. TLS is not begun.
pub struct Outward {
    pub(crate) io: BoxedIo,
    pub(crate) heard: Heard,
    pub(crate) via: String,
    pub(crate) words: Option<TlsWords>,
}

impl Outward {
    /// Over TCP, marked for `pair`: to the gateway itself, or to a proxy that has opened the way.
    #[must_use]
    pub fn over_tcp(tcp: TcpStream, pair: ClassPair, via: String) -> Self {
        prepare(&tcp, pair);
        let (io, heard) = Metered::over_tcp(tcp);
        Self { io: Box::new(io), heard, via, words: None }
    }

    /// Inside something over `tcp`, which is marked for `pair`: TLS to a proxy.
    #[must_use]
    pub fn inside<T: Io + 'static>(io: T, tcp: impl Fn(&T) -> &TcpStream, pair: ClassPair, via: String) -> Self {
        prepare(tcp(&io), pair);
        let (io, heard) = Metered::new(io);
        Self { io: Box::new(io), heard, via, words: None }
    }

    /// Says `words` when TLS with the gateway fails.
    #[must_use]
    pub fn explaining(self, words: TlsWords) -> Self {
        Self { words: Some(words), ..self }
    }
}

/// The way to gateways' TCP ports, through whatever lies between. What it leads to is proved afterwards by TLS.
pub trait WayOut: Send + Sync {
    /// Opens a connection for `pair` to the gateway's port; `None`: the agent shall go directly. It is dropped when it
    /// takes too long.
    ///
    /// # Errors
    /// In words for operators.
    fn reach<'a>(&'a self, gateway: &'a GatewayEndpoint, pair: ClassPair) -> Reaching<'a>;

    /// Why the gateway may not be dialled over UDP, which goes around every proxy; `None`: it may.
    fn no_udp<'a>(&'a self, _gateway: &'a GatewayEndpoint) -> BoxFuture<'a, Option<String>> {
        Box::pin(async { None })
    }
}

/// What [`WayOut::reach`] gives.
pub type Reaching<'a> = BoxFuture<'a, anyhow::Result<Option<Outward>>>;

/// Connects to a gateway without anything between.
pub(super) async fn directly(shared: &Shared, gateway: &GatewayEndpoint, pair: ClassPair) -> anyhow::Result<Outward> {
    let addresses = permitted(&shared.gateway_resolver, &shared.pieces.gateway_networks, gateway).await?;
    let connecting = timeout(shared.pieces.limits.handshake, connect(&addresses)).await;
    let tcp = connecting.context("no answer in time").context(Hurdle::Connect)?.context(Hurdle::Connect)?;
    Ok(Outward::over_tcp(tcp, pair, "direct".to_owned()))
}

/// Where a gateway may be dialled. Its place comes from the document, so it passes the same guard as every other dial.
pub(super) async fn permitted(
    resolver: &Resolver,
    networks: &[IpNetwork],
    gateway: &GatewayEndpoint,
) -> anyhow::Result<Vec<SocketAddr>> {
    let addresses = resolver.resolve_for(gateway.id.as_str(), &gateway.host).await.context(Hurdle::Resolve)?;
    let guard = DialGuard::new(networks.iter().copied());
    let permitted = guard.permit(&addresses, gateway.port).context(Hurdle::Guard)?;
    Ok(permitted.addresses().to_vec())
}

/// Options are wishes: a connection without them works.
fn prepare(tcp: &TcpStream, pair: ClassPair) {
    let class = u32::from(pair.dscp()) << 2;
    let socket = SockRef::from(tcp);
    let is_v4 = tcp.peer_addr().is_ok_and(|peer| matches!(peer.ip().to_canonical(), IpAddr::V4(_)));
    let marked = if is_v4 { socket.set_tos_v4(class) } else { socket.set_tclass_v6(class) };
    for refused in [marked, socket.set_priority(pair.socket_priority()), tcp.set_nodelay(true), keep_tunnel_alive(tcp)]
    {
        if let Err(error) = refused {
            tracing::debug!(%error, "an option of a tunnel's socket was not taken");
        }
    }
}
