//! The listening sockets, and the life of everything that comes in by them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use sluice_node_places::{Place, Places};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    Limits, Parts, Settings,
    certificates::{Certificates, provider},
    front::{Front, stopped},
    quic,
};

const BACKLOG: i32 = 4_096;
/// Rest after `accept` failed (usually: no file descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// A stopping gateway accepts for so long: the kernel would reset whoever stands before a listener that is closed.
const LAST_CALL: Duration = Duration::from_millis(50);

/// A line that went dead without a word is noticed after a minute, whether it rests or has bytes under way: a tunnel
/// over one would go on being chosen for users' streams.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TRIES: u32 = 3;
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// The gateway before it listens.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

/// A gateway that has its ports and has read its certificates, so that privileges can be dropped.
pub struct Bound {
    // Not yet tokio's: privileges are dropped between binding and serving, before any thread starts.
    listeners: Vec<std::net::TcpListener>,
    udp: Vec<std::net::UdpSocket>,
    certificates: Certificates,
    roots: Arc<rustls::RootCertStore>,
    settings: Settings,
}

impl Gateway {
    /// Installs the TLS provider, reads certificates and binds every address. Starts no thread.
    ///
    /// # Errors
    /// Unreadable certificates, addresses that cannot be bound, nothing to listen on.
    pub fn bind(settings: Settings) -> anyhow::Result<Bound> {
        // Before the proxy engine starts: it would install another one. Already installed is as good.
        let _already = provider().install_default();
        if settings.listen.is_empty() {
            bail!("there is no address to listen on; name at least one in `listen`");
        }
        let certificates = Certificates::load(&settings.certificates)?;
        let roots = Arc::new(crate::upstream::roots(&settings.upstream_roots)?);
        let listeners = settings.listen.iter().map(|address| listen(*address)).collect::<anyhow::Result<Vec<_>>>()?;
        let udp = if settings.quic { quic::bind_beside(&listeners) } else { Vec::new() };
        Ok(Bound { listeners, udp, certificates, roots, settings })
    }
}

fn listen(address: SocketAddr) -> anyhow::Result<std::net::TcpListener> {
    let bind = || -> io::Result<std::net::TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        // Accepted connections take these over (tcp(7)).
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY);
        socket.set_tcp_keepalive(&keep_alive.with_retries(KEEP_ALIVE_TRIES))?;
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().with_context(|| format!("cannot listen on {address}"))
}

impl Bound {
    /// Where it listens (with the ports that the system chose for port 0).
    ///
    /// # Errors
    /// When the system does not say.
    pub fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(|listener| Ok(listener.local_addr()?)).collect()
    }

    /// Serves until `shutdown` becomes true (or its sender is gone), then lets running requests end.
    ///
    /// # Errors
    /// When the engine cannot be set up.
    pub async fn serve(self, parts: Parts, shutdown: watch::Receiver<bool>) -> anyhow::Result<()> {
        let Self { listeners, udp, certificates, roots, settings } = self;
        let limits = settings.limits.clone();
        let (gate, tunnels) = (Gate::new(&limits), parts.tunnels.clone());
        let reset_key = parts.reset_key.clone();
        let front = Arc::new(Front::new(settings, certificates, roots, parts, shutdown.clone())?);

        let mut tasks = JoinSet::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener).context("a listening socket cannot be used")?;
            tasks.spawn(accept(listener, gate.clone(), front.clone(), shutdown.clone()));
        }
        let mut doors = Vec::new();
        for socket in udp {
            let door = Arc::new(quic::Door::open(socket, &front, &reset_key)?);
            doors.push(door.clone());
            let (gate, front, shutdown) = (gate.clone(), front.clone(), shutdown.clone());
            tasks.spawn(async move { door.accept(gate, front, shutdown).await });
        }
        let mut rights = JoinSet::new();
        rights.spawn(front.clone().watch_rights());
        let mut told = shutdown;
        tokio::select! {
            stopped = stopped_or_failed(&mut tasks, &mut told) => stopped?,
            _ = rights.join_next() => anyhow::bail!("nobody watches any more whose rights have gone"),
        }
        tunnels.leave();
        while let Some(ended) = tasks.join_next().await {
            ended.context("a listener stopped")?;
        }
        front.stop_keeping().await;
        gate.running.close();
        tokio::select! {
            waited = tokio::time::timeout(limits.drain, gate.running.wait()) => if waited.is_err() {
                tracing::warn!("some connections did not end in time and are closed");
            },
            _ = rights.join_next() => tracing::error!("nobody watches any more whose rights have gone; closing"),
        }
        front.cut_all();
        for door in doors {
            door.close().await;
        }
        Ok(())
    }
}

/// Waits for the order to stop; a task that ends before is worth an error.
async fn stopped_or_failed(tasks: &mut JoinSet<()>, shutdown: &mut watch::Receiver<bool>) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = stopped(shutdown) => return Ok(()),
            Some(ended) = tasks.join_next() => ended.context("a listener stopped")?,
        }
    }
}

/// How many may be in here.
#[derive(Clone)]
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    per_address: Places,
    /// Connections that a stopping gateway waits for.
    running: TaskTracker,
}

/// One connection's place.
pub(crate) struct Entered {
    place: Resting,
    _running: TaskTrackerToken,
}

/// The place of a connection that a stopping gateway does not wait for.
pub(crate) struct Resting {
    _place: OwnedSemaphorePermit,
    _per_address: Place,
}

impl Gate {
    fn new(limits: &Limits) -> Self {
        let most = limits.connections.min(Semaphore::MAX_PERMITS);
        let per_address = Places::new(limits.connections_per_address);
        Self { places: Arc::new(Semaphore::new(most)), per_address, running: TaskTracker::new() }
    }

    /// `None` over the limit: then the connection is closed at once, because waiting in line would let one stranger
    /// block all.
    pub(crate) fn enter(&self, client: IpAddr) -> Option<Entered> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        let place = Resting { _place: place, _per_address: self.per_address.take(client)? };
        Some(Entered { place, _running: self.running.token() })
    }
}

impl Entered {
    pub(crate) fn resting(self) -> Resting {
        self.place
    }
}

async fn accept(listener: TcpListener, gate: Gate, front: Arc<Front>, shutdown: watch::Receiver<bool>) {
    let mut over = pin!(async move {
        let mut shutdown = shutdown;
        stopped(&mut shutdown).await;
        tokio::time::sleep(LAST_CALL).await;
    });
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut over => return,
        };
        match accepted {
            Ok((stream, client)) => enter(stream, client, &gate, &front),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

fn enter(stream: TcpStream, client: SocketAddr, gate: &Gate, front: &Arc<Front>) {
    let Some(entered) = gate.enter(client.ip()) else {
        tracing::debug!("connection closed: too many");
        return;
    };
    let front = front.clone();
    tokio::spawn(async move { front.connection(stream, client, entered).await });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use socket2::SockRef;

    use super::*;

    #[test]
    fn dead_lines_are_noticed_on_accepted_connections() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(address.parse().unwrap()).unwrap();
            listener.set_nonblocking(false).unwrap();
            let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            let accepted = SockRef::from(&accepted);
            assert!(accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEP_ALIVE_AFTER);
            assert_eq!(accepted.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        }
    }
}
