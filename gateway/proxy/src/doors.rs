//! What the gateway needs from the rest of sluice, as traits.

use std::sync::Arc;

use async_trait::async_trait;
use rustls::{ClientConfig, ServerConfig};
use sluice_connector_wire::ClassPair;
use sluice_gateway_access::{AssertionKey, Plan};
use sluice_node_identity::{
    NodeId, ResourceId, SpiffeId, StateView, TrustDomain,
    api::{VerifiedUser, VerifyFactor},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};
use zeroize::Zeroizing;

use crate::connection::Replayed;

/// Bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Bytes both ways, of whatever kind.
pub type BoxedIo = Box<dyn Io>;

/// A connection after its TLS handshake.
pub type FrontTls = tokio_rustls::server::TlsStream<Replayed<TcpStream>>;

/// Who takes the connections that are not HTTP.
#[async_trait]
pub trait TunnelDoor: Send + Sync {
    /// A connection of a connector's tunnel (`sluice-tunnel/1`). Returns when it ends.
    async fn tunnel(&self, tunnel: TunnelConnection);
    /// A relay of control's (`sluice-relay/1`): `caller` is one of the document's. Returns when it ends.
    async fn relay(&self, stream: FrontTls, caller: SpiffeId, leaf: Vec<u8>);
    /// The gateway is stopping: agents and control are to go elsewhere. What runs goes on for a while.
    fn leave(&self);
}

/// A connection of a tunnel, over either transport.
pub struct TunnelConnection {
    /// Whose: of this tenant and not revoked.
    pub connector: NodeId,
    /// Its streams.
    pub connection: sluice_connector_mux::Connection,
    /// The certificate that the connector showed (DER).
    pub leaf: Vec<u8>,
    /// Marks what goes to the connector for a pair of classes; to be called again now and then, for a peer that moves.
    pub mark: Mark,
}

/// Marks a connection's packets.
pub type Mark = Box<dyn FnMut(ClassPair) + Send>;

/// One direct stream that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectOpen {
    /// Any of these can reach it.
    pub connectors: Vec<NodeId>,
    /// The token's `res`.
    pub resource: ResourceId,
    /// The token's `tgt`, `tcp:host:port`.
    pub target: String,
    /// The token's `sub`, `user/<id>`.
    pub sub: String,
    /// Which of a tunnel's connections should carry it.
    pub pair: ClassPair,
}

/// Why no stream was opened.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenFailed {
    /// No tunnel of any of the connectors is up.
    #[error("no connector that reaches this app is connected")]
    NoTunnel,
    /// The connectors have no room now, or the way broke; soon it may go.
    #[error("the app cannot be reached at this moment: {0}")]
    Later(String),
    /// The app, or the way to it, did not answer in time.
    #[error("the app did not answer in time: {0}")]
    Slow(String),
    /// The connector would not, and will not before somebody changes something.
    #[error("the connector refused: {0}")]
    Refused(String),
}

/// Opens direct streams through tunnels.
#[async_trait]
pub trait DirectStreams: Send + Sync {
    /// Opens one.
    async fn open(&self, want: DirectOpen) -> Result<BoxedIo, OpenFailed>;
}

/// Why a login is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FactorsRefused {
    /// Name or password is wrong; which one is not said.
    #[error("name or password is not right")]
    Wrong,
    /// Control has seen too many tries.
    #[error("too many tries")]
    TooMany {
        /// Seconds to wait.
        retry_after: u64,
    },
    /// Control cannot be asked, or has been silent too long for anything new to be granted.
    #[error("password login is not available now")]
    Unavailable,
}

/// Has control check stored login secrets.
#[async_trait]
pub trait VerifyFactors: Send + Sync {
    /// Checks name and password.
    async fn verify(&self, factor: &VerifyFactor) -> Result<VerifiedUser, FactorsRefused>;

    /// Whether anything new may be granted (`max_stale` has not passed). Running sessions go on without it.
    fn may_grant(&self) -> bool;
}

/// TLS with the node's own certificate.
pub trait NodeTls: Send + Sync {
    /// TLS 1.3 that requires a client certificate of the node root; `alpn` is the only protocol offered.
    fn server(&self, alpn: &'static [u8]) -> Arc<ServerConfig>;
    /// Verifies against the node root only and presents the node's certificate; `http/1.1`.
    fn client(&self) -> Arc<ClientConfig>;
    /// Authority that every peer's name must have.
    fn trust_domain(&self) -> TrustDomain;
}

/// What a bound gateway serves with.
pub struct Parts {
    /// The checked document; before the first one nothing is answered.
    pub plan: watch::Receiver<Option<Arc<Plan>>>,
    /// The state feed.
    pub state: watch::Receiver<Arc<StateView>>,
    /// The node's TLS.
    pub node: Arc<dyn NodeTls>,
    /// Login.
    pub factors: Arc<dyn VerifyFactors>,
    /// Streams to resources.
    pub direct: Arc<dyn DirectStreams>,
    /// Tunnels and relays.
    pub tunnels: Arc<dyn TunnelDoor>,
    /// Signs `Sluice-Identity`.
    pub assertion_key: Arc<AssertionKey>,
    /// Lets a restarted gateway tell QUIC peers of the old process that it is gone (RFC 9000 §10.3). Stays the same
    /// over restarts, is secret and serves nothing else.
    pub reset_key: Zeroizing<[u8; 32]>,
}
