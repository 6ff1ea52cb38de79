//! The listening sockets, and the life of everything that comes in by them.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use sluice_node_places::{Place, Places};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use crate::{
    Parts, Settings,
    certificates::{Certificates, provider},
    front::{Front, stopped},
};

const BACKLOG: i32 = 4_096;
/// Rest after `accept` failed (usually: no file descriptors left).
const ACCEPT_REST: Duration = Duration::from_millis(50);

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
        let listeners = settings.listen.iter().map(|address| listen(*address)).collect::<anyhow::Result<_>>()?;
        Ok(Bound { listeners, certificates, roots, settings })
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
        let Self { listeners, certificates, roots, settings } = self;
        let limits = settings.limits.clone();
        let most = limits.connections.min(Semaphore::MAX_PERMITS);
        let gate =
            Gate { places: Arc::new(Semaphore::new(most)), per_address: Places::new(limits.connections_per_address) };
        let front = Arc::new(Front::new(settings, certificates, roots, parts, shutdown.clone())?);

        let mut tasks = JoinSet::new();
        for listener in listeners {
            let listener = TcpListener::from_std(listener).context("a listening socket cannot be used")?;
            tasks.spawn(accept(listener, gate.clone(), front.clone(), shutdown.clone()));
        }
        tasks.spawn(front.clone().watch_rights(shutdown.clone()));
        while let Some(ended) = tasks.join_next().await {
            ended.context("a listener stopped")?;
        }
        front.stop_keeping().await;
        let everyone = u32::try_from(most).unwrap_or(u32::MAX);
        if tokio::time::timeout(limits.drain, gate.places.acquire_many(everyone)).await.is_err() {
            tracing::warn!("some connections did not end in time and are closed");
        }
        front.cut_all();
        Ok(())
    }
}

#[derive(Clone)]
struct Gate {
    places: Arc<Semaphore>,
    per_address: Places,
}

struct Entered {
    _place: OwnedSemaphorePermit,
    _per_address: Place,
}

async fn accept(listener: TcpListener, gate: Gate, front: Arc<Front>, mut shutdown: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => return,
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

/// Over the limit means closed at once: waiting in line would let one stranger block all.
fn enter(stream: TcpStream, client: SocketAddr, gate: &Gate, front: &Arc<Front>) {
    let (Ok(place), Some(per_address)) = (gate.places.clone().try_acquire_owned(), gate.per_address.take(client.ip()))
    else {
        tracing::debug!("connection closed: too many");
        return;
    };
    let entered = Entered { _place: place, _per_address: per_address };
    let front = front.clone();
    tokio::spawn(async move {
        front.connection(stream, client).await;
        drop(entered);
    });
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
