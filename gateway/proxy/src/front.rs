//! What becomes of a connection: the ClientHello decides.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use pingora::{apps::HttpServerApp, proxy::HttpProxy, server::configuration::ServerConf};
use rustls::{RootCertStore, ServerConfig};
use sluice_connector_mux::quic::{Accepted, Marks};
use sluice_gateway_access::Splice;
use sluice_node_hello::{ClientHello, Progress};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    Parts, RELAY_ALPN, Settings, TUNNEL_ALPN,
    certificates::Certificates,
    connection::{Facts, FrontStream, Replayed},
    dial::{self, Networks},
    http1,
    listener::Entered,
    login::LoginDoor,
    service::AppDoor,
    sign_on::SignOn,
    splice,
};

const READ: usize = 4 * 1024;
/// How often running requests are held against the clock and the plan besides every change of state.
const RIGHTS_EVERY: Duration = Duration::from_millis(500);
const MAX_H2_HEADER_LIST: u32 = 16 * 1024;

/// Everything a connection needs.
pub(crate) struct Front {
    pub(crate) settings: Settings,
    certificates: Certificates,
    pub(crate) parts: Arc<Parts>,
    proxy: Arc<HttpProxy<AppDoor>>,
    sign_on: Arc<SignOn>,
    shutdown: watch::Receiver<bool>,
    over: CancellationToken,
}

impl Front {
    pub(crate) fn new(
        settings: Settings,
        certificates: Certificates,
        roots: Arc<RootCertStore>,
        parts: Parts,
        shutdown: watch::Receiver<bool>,
    ) -> anyhow::Result<Self> {
        let parts = Arc::new(parts);
        let sign_on = Arc::new(SignOn::new(parts.clone(), settings.logouts.as_deref())?);
        let login = LoginDoor::new(sign_on.clone(), &settings.limits);
        let door = AppDoor::new(&settings, sign_on.clone(), login, roots)?;
        let conf = Arc::new(ServerConf { max_retries: 2, ..ServerConf::default() });
        let mut proxy = pingora::proxy::http_proxy(&conf, door);
        let mut options = pingora::protocols::http::v2::server::default_h2_options();
        options
            .max_header_list_size(MAX_H2_HEADER_LIST)
            .max_concurrent_streams(settings.limits.streams)
            .max_concurrent_reset_streams(16)
            .max_pending_accept_reset_streams(16);
        proxy.h2_options = Some(options);
        let mut server = pingora::apps::HttpServerOptions::default();
        server.h2_idle_timeout = Some(settings.limits.idle);
        server.keepalive_request_limit = Some(settings.limits.requests_per_connection);
        proxy.server_options = Some(server);
        let (proxy, over) = (Arc::new(proxy), CancellationToken::new());
        Ok(Self { settings, certificates, parts, proxy, sign_on, shutdown, over })
    }

    /// Ends requests whose right has gone, within a second, until [`Self::cut_all`]: also while the last ones end.
    pub(crate) async fn watch_rights(self: Arc<Self>) {
        let mut state = self.parts.state.clone();
        loop {
            let state_gone = tokio::select! {
                () = self.over.cancelled() => return,
                changed = state.changed() => changed.is_err(),
                () = self.sign_on.logged_out() => false,
                () = tokio::time::sleep(RIGHTS_EVERY) => false,
            };
            if state_gone {
                tokio::time::sleep(RIGHTS_EVERY).await;
            }
            self.sign_on.cut_revoked();
        }
    }

    /// Kept connections without a request end.
    pub(crate) async fn stop_keeping(&self) {
        self.proxy.http_cleanup().await;
    }

    /// Everything that still runs ends.
    pub(crate) fn cut_all(&self) {
        self.over.cancel();
    }

    /// One TCP connection from accept to end.
    pub(crate) async fn connection(&self, stream: TcpStream, client: SocketAddr, entered: Entered) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = self.decide(stream, client, entered) => {}
        }
    }

    /// One QUIC connection from its handshake to its end.
    pub(crate) async fn quic_connection(&self, accepted: Accepted, marks: Marks) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = self.quic_tunnel(accepted, marks) => {}
        }
    }

    async fn decide(&self, mut stream: TcpStream, client: SocketAddr, entered: Entered) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::trace!(%error, "connection ended before it began");
            return;
        }
        let limit = self.settings.limits.handshake;
        let Ok(Some((hello, first))) = tokio::time::timeout(limit, read_hello(&mut stream)).await else {
            tracing::debug!("connection closed: no ClientHello");
            return;
        };
        let Some(plan) = self.parts.plan.borrow().clone() else {
            tracing::debug!("connection closed: there is no configuration yet");
            return;
        };
        if hello.offers(TUNNEL_ALPN) {
            // A tunnel without streams is nothing that a stopping gateway waits for.
            let _resting = entered.resting();
            return self.tunnel(first, stream, &plan).await;
        }
        if hello.offers(RELAY_ALPN) {
            return self.relay(Replayed::new(first, stream), &plan).await;
        }
        let Some(host) = hello.server_name else {
            tracing::debug!("connection closed: no server name");
            return;
        };
        if let Some(splice) = plan.splice(&host) {
            return self.splice(stream, &first, client, splice).await;
        }
        match self.certificates.for_host(&host) {
            Some(config) if plan.terminates(&host) => {
                self.terminate(Replayed::new(first, stream), config, client, host).await;
            }
            Some(_) => tracing::debug!("connection closed: the server name is not served here"),
            None if plan.terminates(&host) => {
                tracing::warn!(host, "connection closed: there is no certificate for this host")
            }
            None => tracing::debug!("connection closed: the server name is not served here"),
        }
    }

    pub(crate) async fn handshake<S>(&self, stream: S, config: Arc<ServerConfig>) -> Option<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limit = self.settings.limits.handshake;
        match tokio::time::timeout(limit, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(tls)) => Some(tls),
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake failed");
                None
            }
            Err(_late) => {
                tracing::debug!("TLS handshake took too long");
                None
            }
        }
    }

    async fn splice(&self, stream: TcpStream, first: &[u8], client: SocketAddr, splice: &Splice) {
        let limits = &self.settings.limits;
        let networks = Networks { named: &self.settings.control_networks, forbidden: &[] };
        let copied = async {
            let mut far = dial::connect(&splice.to, &networks, limits.connect).await.map_err(anyhow::Error::from)?;
            if splice.proxy_protocol {
                far.write_all(&splice::proxy_v2(client, stream.local_addr()?)).await?;
            }
            far.write_all(first).await?;
            Ok::<_, anyhow::Error>(splice::copy(stream, far, limits.splice_idle).await?)
        };
        if let Err(error) = copied.await {
            tracing::debug!(server_name = splice.server_name, %error, "splice ended");
        }
    }

    async fn terminate(
        &self,
        stream: Replayed<TcpStream>,
        config: Arc<ServerConfig>,
        client: SocketAddr,
        host: String,
    ) {
        let Some(tls) = self.handshake(stream, config).await else { return };
        let is_h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
        let facts = Facts::new(client, host);
        let stream = match FrontStream::new(tls, facts.clone()) {
            Ok(stream) => Box::new(stream),
            Err(error) => return tracing::error!(%error, "a connection could not be set up"),
        };
        let serve = async {
            if is_h2 {
                http2(&self.proxy, stream, &facts, &self.shutdown, self.settings.limits.handshake).await;
            } else {
                http1::serve(&self.proxy, stream, &self.shutdown, &self.settings.limits).await;
            }
        };
        tokio::select! {
            () = facts.cut.cancelled() => {}
            () = serve => {}
        }
    }
}

/// Resolves when the gateway is told to stop, or nobody is left to tell it.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _told_or_gone = shutdown.wait_for(|stop| *stop).await.is_ok();
}

/// HTTP/2 is the engine's; a client that opens it and then asks for nothing is closed by us.
async fn http2(
    proxy: &Arc<HttpProxy<AppDoor>>,
    stream: Box<FrontStream>,
    facts: &Facts,
    shutdown: &watch::Receiver<bool>,
    limit: Duration,
) {
    use pingora::apps::ServerApp;
    let first_request = async {
        tokio::time::sleep(limit).await;
        if facts.has_requested() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _done = proxy.process_new(stream, shutdown) => {}
        () = first_request => tracing::debug!("connection closed: no request in time"),
    }
}

async fn read_hello(stream: &mut TcpStream) -> Option<(ClientHello, Bytes)> {
    let mut bytes = Vec::with_capacity(READ);
    loop {
        // One more than the longest hello: the reader then says that it is too long.
        if bytes.len() > sluice_node_hello::MAX_BYTES || stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        match sluice_node_hello::read(&bytes) {
            Ok(Progress::Done(hello)) => return Some((hello, Bytes::from(bytes))),
            Ok(Progress::More) => {}
            Err(error) => {
                tracing::debug!(%error, "connection closed");
                return None;
            }
        }
    }
}
