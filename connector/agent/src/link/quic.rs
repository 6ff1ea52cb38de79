//! QUIC endpoints of one tunnel: one for each pair, moved when the address changes.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, anyhow};
use futures::{StreamExt, stream::FuturesUnordered};
use sluice_connector_mux::quic::{agent_endpoint, bind, rebind};
use sluice_connector_wire::ClassPair;
use tokio::time::{Instant, sleep_until};

use crate::board::Hurdle;

/// How long an address is tried alone before the next is tried beside it (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// Made when first needed.
#[derive(Debug, Default)]
pub(super) struct Endpoints(BTreeMap<ClassPair, quinn::Endpoint>);

impl Endpoints {
    pub(super) fn of(&mut self, pair: ClassPair) -> anyhow::Result<quinn::Endpoint> {
        if let Some(endpoint) = self.0.get(&pair) {
            return Ok(endpoint.clone());
        }
        let endpoint = agent_endpoint(socket()?, pair).context("opening a UDP socket")?;
        self.0.insert(pair, endpoint.clone());
        Ok(endpoint)
    }

    /// To a new socket, whose address is the machine's present one.
    pub(super) fn rebind(&self, pair: ClassPair) -> anyhow::Result<()> {
        let Some(endpoint) = self.0.get(&pair) else { return Ok(()) };
        rebind(endpoint, socket()?, pair).context("moving to another UDP socket")
    }
}

fn socket() -> anyhow::Result<std::net::UdpSocket> {
    let (both, only_v4) = (SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    bind(both).or_else(|_| bind(only_v4)).context("opening a UDP socket")
}

/// A connection to whichever address answers first; those that lost are given up.
pub(super) async fn connect(
    own: &quinn::Endpoint,
    config: &quinn::ClientConfig,
    addresses: &[SocketAddr],
    host: &str,
) -> anyhow::Result<quinn::Connection> {
    let mut waiting = addresses.iter();
    let mut running = FuturesUnordered::new();
    let mut last = anyhow!("the gateway has no address");
    loop {
        match waiting.next() {
            Some(address) => match own.connect_with(config.clone(), *address, host) {
                Ok(connecting) => running.push(connecting),
                Err(error) => last = error.into(),
            },
            None if running.is_empty() => return Err(last),
            None => {}
        }
        let next = Instant::now() + STAGGER;
        let more = !waiting.as_slice().is_empty();
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(connection) => return Ok(connection),
                Err(error) => last = hindered(error),
            },
            () = sleep_until(next), if more => {}
        }
    }
}

/// Silence and refusal are no connection; anything else is a gateway that is not the one that was meant.
fn hindered(error: quinn::ConnectionError) -> anyhow::Error {
    let hurdle = match error {
        quinn::ConnectionError::TransportError(_) => Hurdle::Tls,
        _ => Hurdle::Connect,
    };
    anyhow::Error::new(error).context("over QUIC").context(hurdle)
}
