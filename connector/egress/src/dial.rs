//! TCP to the first of several addresses that answers (RFC 8305).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use sluice_node_reach::in_turns;
use tokio::{
    net::{TcpStream, lookup_host},
    sync::Semaphore,
    time::{Instant, sleep_until, timeout, timeout_at},
};

/// How long an address has before the next one is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// Most addresses of one name.
const MAX_ADDRESSES: usize = sluice_node_reach::MAX_ADDRESSES;
/// Most look-ups at a time. The system's resolver cannot be cancelled.
const MAX_LOOKUPS: usize = 32;
/// Longest a look-up is waited for.
const LOOKUP_TIME: Duration = Duration::from_secs(5);

/// Looks names up, so many at a time.
#[derive(Clone, Debug)]
pub(crate) struct Resolver(Arc<Semaphore>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_LOOKUPS)))
    }
}

impl Resolver {
    /// The addresses of a name, or the address that it is.
    pub(crate) async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let room = self.0.clone().try_acquire_owned().map_err(|_| io::Error::other("too many look-ups are waiting"))?;
        let host = host.to_owned();
        let lookup = tokio::spawn(async move {
            let found = lookup_host((host.as_str(), 0)).await;
            drop(room);
            found.map(|all| all.take(MAX_ADDRESSES).map(|at| at.ip()).collect::<Vec<_>>())
        });
        let found = timeout(LOOKUP_TIME, lookup).await.map_err(|_| io::ErrorKind::TimedOut)?;
        let found = found.map_err(io::Error::other)??;
        if found.is_empty() { Err(io::Error::other("the name has no address")) } else { Ok(found) }
    }
}

/// Connects to the first of `addresses` that answers before `deadline`.
pub(crate) async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let none = || io::ErrorKind::AddrNotAvailable.into();
    let tcp = timeout_at(deadline, first(in_turns(addresses, SocketAddr::is_ipv4), TcpStream::connect)).await?;
    let tcp = tcp.map_err(|last| last.unwrap_or_else(none))?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// What `connect` makes of the first of `places` with which it works. The next one is tried when the one before has
/// failed or has had 250 ms (RFC 8305 §5). Gives the error that came last.
pub(crate) async fn first<P, T, E, F>(
    places: impl IntoIterator<Item = P>,
    connect: impl Fn(P) -> F,
) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut waiting = places.into_iter().peekable();
    let (mut running, mut last) = (FuturesUnordered::new(), None);
    loop {
        match waiting.next() {
            Some(place) => running.push(connect(place)),
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let next = Instant::now() + STAGGER;
        let more = waiting.peek().is_some();
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => last = Some(error),
            },
            () = sleep_until(next), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn c3_a_dead_address_does_not_use_up_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A full backlog that nobody empties takes connections no more: a host that is silent.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        silent.listen(0).unwrap();
        let dead = silent.local_addr().unwrap().as_socket().unwrap();
        let fill: Vec<_> = (0..3)
            .map(|_| {
                let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                drop(socket.connect(&dead.into()));
                socket
            })
            .collect();
        let alive = listener.local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let tcp = connect(&[dead, dead, alive], deadline).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), alive);
        let error = connect(&[dead], Instant::now() + Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(fill);
    }
}
