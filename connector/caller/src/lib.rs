//! Control's side of sealed streams: through a gateway that cannot read them, to a connector that proves itself.
//!
//! Two TLS connections, one inside the other: the outer one to the gateway (`sluice-relay/1`), the inner one to the
//! agent (`sluice-sealed/1`). The token goes through the inner one only.

mod ways;

use std::{io, net::SocketAddr, sync::Arc, time::Duration, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{
    ClientConfig, Error as TlsError, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName},
    sign::CertifiedKey,
    version::TLS13,
};
use sluice_connector_mux::{Datagrams, read_frame, write_frame};
use sluice_connector_wire::{
    ALPN_RELAY, ALPN_SEALED, ClassPair, MAX_TOKEN_LIFE, NodeVerifier, OpenReply, OpenRequest, RelayOpen, SignError,
    StreamClaims, Target, TokenSigner, certificate_hash, sign_stream_token,
};
use sluice_node_identity::{NodeId, Principal, ResourceId, Role, SpiffeId, TenantId, TrustDomain, UnixTime};
use socket2::{SockRef, TcpKeepalive};
use thiserror::Error;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use ways::{Way, Wish};

const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TRIES: u32 = 3;
/// Probes are not sent while bytes wait to be acknowledged; this bounds that case.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// A sealed stream: the target's bytes. It ends cleanly only when the agent said so (TLS `close_notify`).
pub type SealedStream = TlsStream<TlsStream<TcpStream>>;

/// A sealed stream to a `udp:` target, once it is open: datagrams, framed inside the inner TLS connection. What a
/// gateway could tell from them is their lengths and times.
#[must_use]
pub fn into_datagrams(stream: SealedStream) -> Datagrams {
    Datagrams::framed(stream)
}

/// Bounds of a caller; the defaults are the hardened ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for the TCP connection, for each handshake and for the gateway's answer: 10 s.
    pub handshake: Duration,
    /// Time for the agent's answer: 20 s (it resolves for at most 5 s and dials for 10 s).
    pub answer: Duration,
    /// Time before the next way is tried beside one that has not answered ([`SealedCaller::open_any`]): 1 s. An opening
    /// takes some five round trips and two handshakes.
    pub hedge: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), answer: Duration::from_secs(20), hedge: Duration::from_secs(1) }
    }
}

/// Where a gateway is.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Which.
    pub id: NodeId,
    /// What to dial.
    pub address: SocketAddr,
    /// What to send as SNI. Who answers is decided by its SPIFFE ID, not by this.
    pub host: String,
}

/// One wish.
#[derive(Clone, Debug)]
pub struct SealedAsk<'a> {
    /// Whose connector, gateway and resource.
    pub tenant: &'a TenantId,
    /// Which connector.
    pub connector: &'a NodeId,
    /// Which of its tunnels, as the gateway reported it.
    pub sid: &'a str,
    /// Which resource.
    pub resource: &'a ResourceId,
    /// Its exact target.
    pub target: &'a Target,
    /// On whose behalf: `user/<id>` or `service/<name>`.
    pub subject: &'a str,
    /// Which of the tunnel's connections should carry it.
    pub pair: ClassPair,
}

/// Why there is no stream.
#[derive(Debug, Error)]
pub enum CallError {
    /// The gateway cannot be reached or does not prove itself.
    #[error("the gateway cannot be reached, or is not the one it should be")]
    Gateway(#[source] io::Error),
    /// The gateway has no such tunnel or no room.
    #[error("the gateway refused ({code}): {message}")]
    Relay {
        /// Stable.
        code: String,
        /// For people.
        message: String,
    },
    /// What answers through the gateway is not the connector, or the gateway tampers.
    #[error("the connector did not prove itself through the gateway")]
    Connector(#[source] io::Error),
    /// The connector said no.
    #[error("the connector refused ({code}): {message}")]
    Refused {
        /// [`sluice_connector_wire::Refusal::code`].
        code: String,
        /// For people.
        message: String,
        /// Whether trying again may help.
        retry: bool,
    },
    /// Our own key or certificate does not work.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The same, inside TLS.
    #[error("control's own TLS set-up is wrong")]
    Tls(#[from] TlsError),
    /// The gateway's host cannot be sent as SNI.
    #[error("the gateway's host is no name")]
    Host(#[from] InvalidDnsNameError),
}

impl CallError {
    /// Whether another tunnel or another moment may help.
    #[must_use]
    pub const fn retry(&self) -> bool {
        match self {
            // Another gateway's host may be one.
            Self::Gateway(_) | Self::Relay { .. } | Self::Connector(_) | Self::Host(_) => true,
            Self::Refused { retry, .. } => *retry,
            Self::Sign(_) | Self::Tls(_) => false,
        }
    }

    /// This error, unless there is an `earlier` one after which trying again may help and this one says that it cannot.
    fn or_more_hopeful(self, earlier: Option<Self>) -> Self {
        match earlier {
            Some(earlier) if earlier.retry() && !self.retry() => earlier,
            _ => self,
        }
    }
}

/// Opens sealed streams as control. Make a new one when control's certificate is renewed.
#[derive(Debug)]
pub struct SealedCaller {
    trust_domain: TrustDomain,
    node_root: CertificateDer<'static>,
    shown: Arc<Shown>,
    cnf: String,
    signer: Arc<TokenSigner>,
    limits: Limits,
}

/// Control's certificate, shown to whoever asks.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl SealedCaller {
    /// `certificate` names `spiffe://<trust-domain>/control` and chains to `node_root`; `signer` is control's.
    ///
    /// # Errors
    /// [`TlsError::NoCertificatesPresented`] when `certificate` is empty.
    pub fn new(
        trust_domain: TrustDomain,
        node_root: CertificateDer<'static>,
        certificate: Arc<CertifiedKey>,
        signer: Arc<TokenSigner>,
        limits: Limits,
    ) -> Result<Self, TlsError> {
        let cnf = certificate_hash(certificate.end_entity_cert().map_err(|_| TlsError::NoCertificatesPresented)?);
        Ok(Self { trust_domain, node_root, shown: Arc::new(Shown(certificate)), cnf, signer, limits })
    }

    /// Opens a stream to `ask.target` through `gateway`.
    ///
    /// # Errors
    /// [`CallError`]. Nothing of the token or the target is shown to the gateway in any case.
    pub async fn open(&self, gateway: &Gateway, ask: &SealedAsk<'_>) -> Result<SealedStream, CallError> {
        let mut outer = self.reach_gateway(gateway, ask).await?;
        let wanted = RelayOpen { connector: ask.connector.clone(), sid: ask.sid.to_owned(), pair: ask.pair };
        write_frame(&mut outer, &wanted, self.limits.handshake).await.map_err(CallError::Gateway)?;
        match read_frame(&mut outer, self.limits.handshake).await.map_err(CallError::Gateway)? {
            OpenReply::Open => {}
            OpenReply::Refused { code, message, .. } => return Err(CallError::Relay { code, message }),
        }
        self.open_inside(outer, ask).await
    }

    async fn reach_gateway(&self, gateway: &Gateway, ask: &SealedAsk<'_>) -> Result<TlsStream<TcpStream>, CallError> {
        let config = self.tls(self.node_name(ask.tenant, Role::Gateway, &gateway.id), ALPN_RELAY)?;
        let name = ServerName::try_from(gateway.host.clone())?;
        let connect = async {
            let tcp = TcpStream::connect(gateway.address).await?;
            tcp.set_nodelay(true)?;
            keep_alive(&tcp)?;
            TlsConnector::from(config).connect(name, tcp).await
        };
        let outer = timeout(self.limits.handshake, connect).await;
        let outer = outer.map_err(io::Error::from).and_then(|outer| outer).map_err(CallError::Gateway)?;
        agreed_on(outer.get_ref().1.alpn_protocol(), ALPN_RELAY).map_err(CallError::Gateway)?;
        Ok(outer)
    }

    async fn open_inside(&self, outer: TlsStream<TcpStream>, ask: &SealedAsk<'_>) -> Result<SealedStream, CallError> {
        let config = self.tls(self.node_name(ask.tenant, Role::Connector, ask.connector), ALPN_SEALED)?;
        let name = ServerName::try_from(ask.connector.as_str().to_owned())?;
        let inner = timeout(self.limits.handshake, TlsConnector::from(config).connect(name, outer)).await;
        let mut inner = inner.map_err(io::Error::from).and_then(|inner| inner).map_err(CallError::Connector)?;
        agreed_on(inner.get_ref().1.alpn_protocol(), ALPN_SEALED).map_err(CallError::Connector)?;
        let token = self.mint(ask)?;
        let asked = async {
            write_frame(&mut inner, &OpenRequest::Direct { token }, self.limits.handshake).await?;
            read_frame(&mut inner, self.limits.answer).await
        };
        match asked.await.map_err(CallError::Connector)? {
            OpenReply::Open => Ok(inner),
            OpenReply::Refused { code, message, retry } => Err(CallError::Refused { code, message, retry }),
        }
    }

    fn mint(&self, ask: &SealedAsk<'_>) -> Result<String, SignError> {
        let mut jti = [0_u8; 16];
        ::aws_lc_rs::rand::fill(&mut jti).map_err(|_| SignError::Failed)?;
        let now = UnixTime::from(SystemTime::now());
        let claims = StreamClaims {
            iss: self.signer.id().to_owned(),
            aud: ask.connector.clone(),
            sub: ask.subject.to_owned(),
            res: ask.resource.clone(),
            tgt: ask.target.clone(),
            sid: ask.sid.to_owned(),
            cnf: self.cnf.clone(),
            iat: now,
            exp: now.plus(MAX_TOKEN_LIFE),
            jti: URL_SAFE_NO_PAD.encode(jti),
        };
        sign_stream_token(&claims, &self.signer)
    }

    fn node_name(&self, tenant: &TenantId, role: Role, id: &NodeId) -> SpiffeId {
        let principal = Principal::Node { tenant: tenant.clone(), role, id: id.clone() };
        SpiffeId { trust_domain: self.trust_domain.clone(), principal }
    }

    fn tls(&self, expected: SpiffeId, alpn: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
        let verifier = NodeVerifier::new(self.node_root.clone(), expected)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.shown.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        // A resumed session shows no certificate, and the token is bound to the one shown.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// Notices a gateway that vanished without a word, also while bytes are under way: whoever waits for a system of record
/// may wait for long.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    let options =
        TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER).with_interval(KEEP_ALIVE_EVERY).with_retries(KEEP_ALIVE_TRIES);
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(&options)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))
}

fn agreed_on(protocol: Option<&[u8]>, wanted: &[u8]) -> io::Result<()> {
    if protocol == Some(wanted) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "the other end speaks another protocol on this port"))
    }
}
