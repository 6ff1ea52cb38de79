//! Control's one TLS port: PROXY v2 from gateways, a server by name, deadlines and caps before anything else.

mod doors;
mod proxy;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::{Router, body::Body};
use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnetwork::IpNetwork;
use rustls::server::Acceptor;
use sluice_control_pki::CertFacts;
use sluice_node_places::{Place, Places};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tower::ServiceExt;

use crate::{
    ServerParts,
    connection::{DEADLINE, Names, Remote, Shown, stopped},
    est, node_api,
    strangers::Asked,
};
use doors::{Door, Doors};

/// What runs at shutdown may go on this long.
const DRAIN: Duration = Duration::from_secs(10);
/// Longest request header.
const MAX_HEADER: usize = 16 * 1024;
/// Pause after a failed accept (out of descriptors, most likely).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// First byte of a TLS connection: record type handshake (RFC 8446 §5.1). No PROXY header begins with it.
const TLS_HANDSHAKE: u8 = 22;
/// TLS alert: fatal, unrecognized_name (RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x01, 0x00, 0x02, 0x02, 0x70];

/// How the port behaves.
#[derive(Clone, Debug)]
pub struct ListenerSettings {
    /// Server names.
    pub names: Names,
    /// Peers whose connections may begin with a PROXY v2 header; nobody else's may.
    pub proxy_from: Vec<IpNetwork>,
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections at once from one address (IPv6: one /64), as gateways tell it; more are closed.
    pub connections_per_address: usize,
}

/// The routers that other parts of control put behind their names.
#[derive(Clone)]
pub struct Rooms {
    /// Behind [`Names::console`].
    pub console: Router,
    /// Behind [`Names::pages`]; its requests carry a [`crate::pages::GatewayPeer`].
    pub pages: Router,
}

struct Listener {
    parts: ServerParts,
    settings: ListenerSettings,
    doors: Doors,
    node: Router,
    rooms: Rooms,
    est: est::Est,
    places: Places,
    stop: watch::Receiver<bool>,
}

/// Opens the listening sockets.
///
/// # Errors
/// Names the address that could not be bound.
pub async fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(addresses.len());
    for address in addresses {
        let socket = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Serves until `stop` turns true, then lets what runs finish for a few seconds.
///
/// # Errors
/// When the server cannot start.
pub async fn serve(
    sockets: Vec<TcpListener>,
    parts: ServerParts,
    settings: ListenerSettings,
    rooms: Rooms,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let asked = Arc::new(Asked::default());
    let api = node_api::NodeApi::new(parts.clone(), &settings.names, asked.clone(), stop.clone())?;
    let pages = rooms.pages.layer(axum::middleware::from_fn_with_state(api.clone(), node_api::require_gateway));
    let listener = Arc::new(Listener {
        doors: Doors::new(parts.store.clone(), parts.keys.clone(), settings.names.clone()),
        node: node_api::router(api),
        rooms: Rooms { pages, ..rooms },
        est: est::Est::new(parts.clone(), asked),
        places: Places::new(settings.connections_per_address),
        parts,
        stop: stop.clone(),
        settings,
    });
    let places = Arc::new(Semaphore::new(listener.settings.connections));
    let mut loops = JoinSet::new();
    for socket in sockets {
        loops.spawn(accept(socket, listener.clone(), places.clone(), stop.clone()));
    }
    while let Some(ended) = loops.join_next().await {
        ended.context("an accept loop died")?;
    }
    Ok(())
}

async fn accept(socket: TcpListener, listener: Arc<Listener>, places: Arc<Semaphore>, mut stop: watch::Receiver<bool>) {
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let place = tokio::select! {
            place = places.clone().acquire_owned() => place,
            () = stopped(&mut stop) => break,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match stream {
            Ok((stream, peer)) => {
                let listener = listener.clone();
                running.spawn(async move {
                    listener.connection(stream, peer).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(socket);
    if timeout(DRAIN, async { while running.join_next().await.is_some() {} }).await.is_err() {
        tracing::info!(left = running.len(), "connections cut at shutdown");
    }
}

impl Listener {
    async fn connection(&self, mut stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot disable Nagle's algorithm");
        }
        let handshake = async {
            let (address, place) = self.source(&mut stream, peer).await?;
            let found = self.handshake(stream).await?;
            Ok::<_, anyhow::Error>(found.map(|(door, tls)| (address, place, door, tls)))
        };
        let (address, _place, door, tls) = match timeout(DEADLINE, handshake).await {
            Ok(Ok(Some(found))) => found,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%peer, "no handshake: {error:#}"),
            Err(_) => return tracing::debug!(%peer, "no handshake in time"),
        };
        let remote = match remote(address, &tls) {
            Ok(remote) => remote,
            Err(error) => return tracing::debug!(%peer, "unreadable certificate: {error:#}"),
        };
        let router = match door {
            Door::Est(tenant) => return self.est.serve(tls, &remote, &tenant).await,
            Door::Node => self.node.clone(),
            Door::Console => self.rooms.console.clone(),
            Door::Pages => self.rooms.pages.clone(),
        };
        self.http(tls, remote, router).await;
    }

    /// The client's address, and its place among that address's connections.
    async fn source(&self, stream: &mut TcpStream, peer: SocketAddr) -> anyhow::Result<(IpAddr, Place)> {
        let address = self.address(stream, peer).await?;
        let place = self.places.take(address).with_context(|| format!("too many connections from {address}"))?;
        Ok((address, place))
    }

    /// The client's address. A PROXY header from anybody but a named peer is left in place, where it breaks TLS.
    async fn address(&self, stream: &mut TcpStream, peer: SocketAddr) -> anyhow::Result<IpAddr> {
        let direct = peer.ip().to_canonical();
        if !self.settings.proxy_from.iter().any(|network| network.contains(direct)) {
            return Ok(direct);
        }
        // A gateway also calls for itself, from the address it splices from: who may name any client may name itself.
        let mut first = [0; 1];
        if stream.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE] {
            return Ok(direct);
        }
        let told = proxy::read(stream).await.context("no sound PROXY v2 header from a peer of proxy_from")?;
        Ok(told.map_or(direct, |told| told.ip().to_canonical()))
    }

    async fn handshake(&self, stream: TcpStream) -> anyhow::Result<Option<(Door, TlsStream<TcpStream>)>> {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.context("no ClientHello")?;
        let host = start.client_hello().server_name().map(str::to_ascii_lowercase);
        let found = match &host {
            Some(host) => self.doors.find(host, (self.parts.clock)()).await?,
            None => None,
        };
        let Some((door, config)) = found else {
            start.io.write_all(&UNRECOGNIZED_NAME).await?;
            start.io.shutdown().await?;
            return Ok(None);
        };
        Ok(Some((door, start.into_stream(config).await?)))
    }

    async fn http(&self, tls: TlsStream<TcpStream>, remote: Remote, router: Router) {
        let service = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request = request.map(in_time);
            request.extensions_mut().insert(remote.clone());
            router.clone().oneshot(request)
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(DEADLINE)
            .max_buf_size(MAX_HEADER)
            .max_headers(64)
            .serve_connection(TokioIo::new(tls), service);
        let mut connection = std::pin::pin!(connection);
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}

/// The body, which breaks off when it is not there in time: nobody holds a place by sending a byte now and then.
fn in_time(body: hyper::body::Incoming) -> Body {
    let until = Instant::now() + DEADLINE;
    let pieces = Some(Body::new(body).into_data_stream());
    Body::from_stream(futures::stream::unfold(pieces, move |pieces| async move {
        let mut pieces = pieces?;
        match timeout_at(until, pieces.next()).await {
            Ok(piece) => piece.map(|piece| (piece, Some(pieces))),
            Err(late) => Some((Err(axum::Error::new(late)), None)),
        }
    }))
}

fn remote(address: IpAddr, tls: &TlsStream<TcpStream>) -> anyhow::Result<Remote> {
    let (_, session) = tls.get_ref();
    let Some(leaf) = session.peer_certificates().and_then(<[_]>::first) else {
        return Ok(Remote { address, certificate: None });
    };
    let facts = CertFacts::of(leaf)?;
    let name = facts.name.context("it does not name exactly one SPIFFE ID")?;
    Ok(Remote { address, certificate: Some(Shown { name, key: facts.key }) })
}
