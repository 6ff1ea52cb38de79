//! Dialling what a document names: resolve once, have the guard judge, connect to just that address.

use std::{net::SocketAddr, time::Duration};

use ipnetwork::IpNetwork;
use sluice_node_reach::{DialGuard, Permitted};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};

/// Why nothing was dialled.
#[derive(Debug, Error)]
pub(crate) enum DialFailed {
    /// No such name, or not in time.
    #[error("the name {0} does not resolve")]
    Unknown(String),
    /// The guard says no.
    #[error("{0} may not be dialled: {1}")]
    Forbidden(String, String),
    /// Nobody answers.
    #[error("{0} does not answer: {1}")]
    Unreachable(SocketAddr, std::io::Error),
    /// Too slow.
    #[error("{0} does not answer in time")]
    Slow(SocketAddr),
}

/// Which addresses may be dialled.
#[derive(Clone, Debug)]
pub(crate) struct Networks<'a> {
    /// Own networks that are named.
    pub(crate) named: &'a [IpNetwork],
    /// Networks that the machine's owner forbids.
    pub(crate) forbidden: &'a [IpNetwork],
}

/// Those addresses of `address` (`host:port`) that may be dialled. One forbidden address forbids the name.
pub(crate) async fn resolve(address: &str, networks: &Networks<'_>, limit: Duration) -> Result<Permitted, DialFailed> {
    let unknown = || DialFailed::Unknown(address.to_owned());
    let found =
        tokio::time::timeout(limit, lookup_host(address)).await.map_err(|_| unknown())?.map_err(|_| unknown())?;
    let found: Vec<SocketAddr> = found.collect();
    let port = found.first().ok_or_else(unknown)?.port();
    let candidates: Vec<_> = found.iter().map(SocketAddr::ip).collect();
    let forbidden = |reason: String| DialFailed::Forbidden(address.to_owned(), reason);
    if candidates.iter().any(|ip| networks.forbidden.iter().any(|network| network.contains(ip.to_canonical()))) {
        return Err(forbidden("this machine's settings forbid the network".to_owned()));
    }
    let guard = DialGuard::new(networks.named.iter().copied());
    guard.permit(&candidates, port).map_err(|refused| forbidden(refused.to_string()))
}

/// Connects to `address` if the guard lets it, all its addresses in turn within `limit`.
pub(crate) async fn connect(address: &str, networks: &Networks<'_>, limit: Duration) -> Result<TcpStream, DialFailed> {
    let permitted = resolve(address, networks, limit).await?;
    let mut failed = None;
    let attempt = async {
        for address in permitted.addresses() {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = Some(DialFailed::Unreachable(*address, error)),
            }
        }
        Err(())
    };
    let outcome = tokio::time::timeout(limit, attempt).await;
    match outcome {
        Ok(Ok(stream)) => {
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
            Ok(stream)
        }
        Ok(Err(())) => Err(failed.unwrap_or(DialFailed::Slow(permitted.first()))),
        Err(_late) => Err(DialFailed::Slow(permitted.first())),
    }
}
