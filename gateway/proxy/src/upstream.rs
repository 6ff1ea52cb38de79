//! Where permitted requests go: apps that the gateway dials itself, resources behind connectors, control's pages.

use std::{
    collections::HashMap,
    fmt, io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use anyhow::Context as _;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use pingora::{
    Error, ErrorType, Result,
    connectors::L4Connect,
    protocols::l4::{
        socket::SocketAddr as PeerAddr,
        stream::Stream as L4Stream,
        virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream},
    },
    upstreams::peer::HttpPeer,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use sluice_gateway_access::{App, Permitted, Upstream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;

use crate::{
    BoxedIo, DirectOpen, DirectStreams, NodeTls, Settings,
    certificates::provider,
    dial::{self, Networks},
};

/// Kept connections to an app end after this.
const KEEP: Duration = Duration::from_secs(30);
/// Most groups of connections that are told apart at a time; beyond it numbering starts afresh, never repeating.
const MAX_GROUPS: usize = 65_536;

/// Error kinds that become different pages.
pub(crate) const NO_TUNNEL: ErrorType = ErrorType::Custom("NoTunnel");
pub(crate) const LATER: ErrorType = ErrorType::Custom("NotNow");
pub(crate) const REFUSED: ErrorType = ErrorType::Custom("RefusedByConnector");
pub(crate) const FORBIDDEN: ErrorType = ErrorType::Custom("ForbiddenUpstream");

/// Makes the engine's peers.
pub(crate) struct Upstreams {
    direct: Arc<dyn DirectStreams>,
    node: Arc<dyn NodeTls>,
    tls: Arc<ClientConfig>,
    control_networks: Arc<[IpNetwork]>,
    forbidden: Arc<[IpNetwork]>,
    connect: Duration,
    groups: Groups,
}

/// PEM bundle of roots for upstreams. A missing one trusts nobody: only upstreams with TLS then fail.
pub(crate) fn roots(bundle: &Path) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if !bundle.exists() {
        tracing::warn!(path = %bundle.display(), "no root certificates for upstreams with TLS; they will not be reachable");
        return Ok(store);
    }
    let found = CertificateDer::pem_file_iter(bundle)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read the root certificates in {}", bundle.display()))?;
    let (_, unusable) = store.add_parsable_certificates(found);
    if unusable > 0 {
        tracing::debug!(unusable, "some root certificates were not understood");
    }
    Ok(store)
}

impl Upstreams {
    pub(crate) fn new(
        settings: &Settings,
        direct: Arc<dyn DirectStreams>,
        node: Arc<dyn NodeTls>,
        roots: Arc<RootCertStore>,
    ) -> anyhow::Result<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            direct,
            node,
            tls: Arc::new(tls),
            control_networks: settings.control_networks.clone().into(),
            forbidden: settings.forbidden_networks.clone().into(),
            connect: settings.limits.connect,
            groups: Groups::default(),
        })
    }

    /// The peer for one permitted request.
    pub(crate) async fn peer(&self, right: &Permitted<App>) -> Result<Box<HttpPeer>> {
        let app = right.app();
        match &app.upstream {
            Upstream::Direct { address, tls_server_name: None, networks } => {
                let networks = Networks { named: networks, forbidden: &self.forbidden };
                let permitted = dial::resolve(address, &networks, self.connect).await.map_err(dial_error)?;
                let mut peer = HttpPeer::new(permitted.first(), false, String::new());
                peer.group_key = self.groups.number(format!("direct {} {networks:?}", app.id));
                peer.options.idle_timeout = Some(KEEP);
                Ok(self.timed(peer))
            }
            Upstream::Direct { address, tls_server_name: Some(name), networks } => {
                let dial = Dial::Tls {
                    address: address.clone(),
                    server_name: name.clone(),
                    named: networks.clone().into(),
                    forbidden: self.forbidden.clone(),
                    config: self.tls.clone(),
                    limit: self.connect,
                };
                Ok(self.custom(format!("tls {} {name} {networks:?}", app.id), dial))
            }
            Upstream::Control { address, server_name } => {
                let dial = Dial::Tls {
                    address: address.clone(),
                    server_name: server_name.clone(),
                    named: self.control_networks.clone(),
                    forbidden: Arc::new([]),
                    config: self.node.client(),
                    limit: self.connect,
                };
                Ok(self.custom(format!("control {} {server_name}", app.id), dial))
            }
            Upstream::Resource { resource, connectors, target, pair, .. } => {
                let user = &right.session().user;
                let want = DirectOpen {
                    connectors: connectors.clone(),
                    resource: resource.clone(),
                    target: target.clone(),
                    sub: format!("user/{user}"),
                    pair: *pair,
                };
                let group = format!("resource {resource} {target} {user}");
                Ok(self.custom(group, Dial::Tunnel { streams: self.direct.clone(), want }))
            }
        }
    }

    fn timed(&self, mut peer: HttpPeer) -> Box<HttpPeer> {
        peer.options.connection_timeout = Some(self.connect);
        peer.options.total_connection_timeout = Some(self.connect);
        Box::new(peer)
    }

    /// A peer that is reached our way. The engine's own address is a placeholder; the group keeps apart what it
    /// cannot see (resource, user, trust), and nothing of this kind is kept for another request.
    fn custom(&self, group: String, dial: Dial) -> Box<HttpPeer> {
        let placeholder = std::net::SocketAddr::from(([0, 0, 0, 0], 1));
        let mut peer = HttpPeer::new(placeholder, false, String::new());
        peer.group_key = self.groups.number(group);
        peer.options.custom_l4 = Some(Arc::new(dial));
        peer.options.idle_timeout = Some(Duration::ZERO);
        self.timed(peer)
    }
}

/// Numbers for groups of connections; a number never means two groups.
#[derive(Default)]
struct Groups {
    known: Mutex<(u64, HashMap<String, u64>)>,
}

impl Groups {
    fn number(&self, group: String) -> u64 {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, numbers) = &mut *known;
        if let Some(number) = numbers.get(&group) {
            return *number;
        }
        if numbers.len() >= MAX_GROUPS {
            numbers.clear();
        }
        *last = last.saturating_add(1);
        numbers.insert(group, *last);
        *last
    }
}

fn dial_error(failed: dial::DialFailed) -> Box<Error> {
    use dial::DialFailed::{Forbidden, Slow, Unknown, Unreachable};
    let kind = match &failed {
        Forbidden(..) => FORBIDDEN,
        Slow(_) => ErrorType::ConnectTimedout,
        Unknown(_) | Unreachable(..) => ErrorType::ConnectError,
    };
    Error::because(kind, "dialling the app", failed)
}

/// A way of reaching an upstream that the engine does not know.
enum Dial {
    Tls {
        address: String,
        server_name: String,
        named: Arc<[IpNetwork]>,
        forbidden: Arc<[IpNetwork]>,
        config: Arc<ClientConfig>,
        limit: Duration,
    },
    Tunnel {
        streams: Arc<dyn DirectStreams>,
        want: DirectOpen,
    },
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { server_name, .. } => write!(f, "Tls({server_name})"),
            Self::Tunnel { want, .. } => write!(f, "Tunnel({})", want.resource),
        }
    }
}

#[async_trait]
impl L4Connect for Dial {
    async fn connect(&self, _placeholder: &PeerAddr) -> Result<L4Stream> {
        let io: BoxedIo = match self {
            Self::Tls { address, server_name, named, forbidden, config, limit } => {
                let networks = Networks { named, forbidden };
                let stream = dial::connect(address, &networks, *limit).await.map_err(dial_error)?;
                let name = ServerName::try_from(server_name.clone())
                    .map_err(|error| Error::because(FORBIDDEN, "the upstream's server name", error))?;
                let tls = tokio::time::timeout(*limit, TlsConnector::from(config.clone()).connect(name, stream))
                    .await
                    .map_err(|_| Error::explain(ErrorType::TLSHandshakeTimedout, "upstream handshake"))?
                    .map_err(|error| Error::because(ErrorType::TLSHandshakeFailure, "upstream handshake", error))?;
                Box::new(tls)
            }
            Self::Tunnel { streams, want } => streams.open(want.clone()).await.map_err(|failed| {
                let kind = match failed {
                    crate::OpenFailed::NoTunnel => NO_TUNNEL,
                    crate::OpenFailed::Later(_) => LATER,
                    crate::OpenFailed::Slow(_) => ErrorType::ConnectTimedout,
                    crate::OpenFailed::Refused(_) => REFUSED,
                };
                Error::because(kind, "opening a stream", failed)
            })?,
        };
        Ok(VirtualSocketStream::new(Box::new(Virtual(Mutex::new(io)))).into())
    }
}

/// Any stream as the engine's socket. The lock is only there to make it `Sync`; it is never taken.
struct Virtual(Mutex<BoxedIo>);

impl Virtual {
    fn io(&mut self) -> Pin<&mut BoxedIo> {
        Pin::new(self.0.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Virtual")
    }
}

impl AsyncRead for Virtual {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.io().poll_read(cx, buf)
    }
}

impl AsyncWrite for Virtual {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io().poll_shutdown(cx)
    }
}

impl VirtualSocket for Virtual {
    fn set_socket_option(&self, _option: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn groups_are_told_apart_and_numbers_never_return() {
        let groups = Groups::default();
        let first = groups.number("a".into());
        assert_eq!(groups.number("a".into()), first);
        let mut seen = std::collections::BTreeSet::from([first]);
        for n in 0..=MAX_GROUPS {
            assert!(seen.insert(groups.number(n.to_string())));
        }
        assert!(seen.insert(groups.number("a".into())), "forgotten, but not given to another");
    }
}
