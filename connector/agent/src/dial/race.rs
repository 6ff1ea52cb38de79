//! Connecting to a target with several addresses: the next one is tried before the one before has failed (RFC 8305 §5).

use std::{io, net::SocketAddr, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use sluice_connector_wire::Refusal;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// How long an attempt is alone before the next begins.
const STAGGER: Duration = Duration::from_millis(250);

/// The connection that is up first. Attempts that lost are given up.
pub(super) async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Refusal> {
    first(addresses, TcpStream::connect).await
}

async fn first<T, F>(addresses: &[SocketAddr], connect: impl Fn(SocketAddr) -> F) -> Result<T, Refusal>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some(address) => running.push(connect(*address)),
            None if running.is_empty() => return Err(Refusal::Unreachable),
            None => {}
        }
        let next = Instant::now() + STAGGER;
        let more = !waiting.as_slice().is_empty();
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => tracing::debug!(%error, "a target's address did not answer"),
            },
            () = sleep_until(next), if more => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use std::future::pending;

    use proptest::prelude::*;

    use super::*;

    /// What an address does: refuse or connect after so many ms; or never answer.
    #[derive(Clone, Copy, Debug)]
    enum Kind {
        Dead,
        Refuses(u64),
        Answers(u64),
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![Just(Kind::Dead), (0_u64..1000).prop_map(Kind::Refuses), (0_u64..1000).prop_map(Kind::Answers),]
    }

    /// When the first connection is up, in ms: attempt n + 1 begins 250 ms after attempt n or at any failure.
    fn model(kinds: &[Kind]) -> Option<u64> {
        let mut pending: Vec<(u64, Kind)> = Vec::new();
        let (mut now, mut next) = (0_u64, 0_usize);
        loop {
            if let Some(kind) = kinds.get(next) {
                next += 1;
                match *kind {
                    Kind::Dead => {}
                    Kind::Refuses(after) | Kind::Answers(after) => pending.push((now + after, *kind)),
                }
            }
            let stagger = (next < kinds.len()).then_some(now + 250);
            pending.sort_by_key(|(at, _)| *at);
            match (pending.first().copied(), stagger) {
                (Some((at, _)), Some(stagger)) if stagger < at => now = stagger,
                (Some((at, Kind::Answers(_))), _) => return Some(at),
                (Some((at, _)), _) => {
                    now = at;
                    pending.remove(0);
                }
                (None, Some(stagger)) => now = stagger,
                (None, None) => return None,
            }
        }
    }

    proptest! {
        /// In virtual time, with every mixture of dead, refusing and answering addresses.
        #[test]
        fn a_dead_address_costs_250_ms_and_not_the_whole_time(kinds in proptest::collection::vec(kind(), 1..7)) {
            // Moments that fall together may be taken in either order.
            let kinds: Vec<Kind> = kinds.into_iter().enumerate().map(|(n, kind)| {
                let own = |ms: u64| ms / 10 * 10 + 1 + n as u64;
                match kind {
                    Kind::Dead => Kind::Dead,
                    Kind::Refuses(ms) => Kind::Refuses(own(ms)),
                    Kind::Answers(ms) => Kind::Answers(own(ms)),
                }
            }).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let addresses: Vec<SocketAddr> = (0..kinds.len()).map(|n| SocketAddr::from(([192, 0, 2, 1], u16::try_from(n).unwrap() + 1))).collect();
            let took = runtime.block_on(async {
                let began = Instant::now();
                let race = first(&addresses, |address| {
                    let kind = kinds[usize::from(address.port()) - 1];
                    async move {
                        match kind {
                            Kind::Dead => pending().await,
                            Kind::Refuses(ms) => {
                                tokio::time::sleep(Duration::from_millis(ms)).await;
                                Err(io::ErrorKind::ConnectionRefused.into())
                            }
                            Kind::Answers(ms) => {
                                tokio::time::sleep(Duration::from_millis(ms)).await;
                                Ok(())
                            }
                        }
                    }
                });
                let ended = tokio::time::timeout(Duration::from_secs(60), race).await;
                ended.ok().and_then(Result::ok).map(|()| u64::try_from(began.elapsed().as_millis()).unwrap())
            });
            prop_assert_eq!(took, model(&kinds));
        }
    }
}
