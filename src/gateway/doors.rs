//! What the listener needs from the rest of sluice, over the node client and the tunnels.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rustls::{ClientConfig, ServerConfig};
use sluice_connector_server::{Arrived, DirectAsk, OpenError, TunnelServer};
use sluice_connector_wire::Refusal;
use sluice_gateway_proxy::{
    BoxedIo, DirectOpen, DirectStreams, FactorsRefused, FrontTls, NodeTls, OpenFailed, RELAY_ALPN, TUNNEL_ALPN,
    TunnelConnection, TunnelDoor, VerifyFactors,
};
use sluice_node_client::{CallError, Node};
use sluice_node_identity::{
    SpiffeId, TrustDomain, UnixTime,
    api::{VerifiedUser, VerifyFactor},
};

/// Seconds a browser is told to wait when control does not say.
const RETRY_AFTER: u64 = 60;

/// Control's code for a wrong name or password.
const WRONG_FACTOR: &str = "wrong";

/// TLS with the node's certificate.
pub(super) struct Tls {
    tunnel: Arc<ServerConfig>,
    relay: Arc<ServerConfig>,
    control: Arc<ClientConfig>,
    trust_domain: TrustDomain,
}

impl Tls {
    pub(super) fn new(node: &Node) -> anyhow::Result<Self> {
        Ok(Self {
            tunnel: node.server_config_with(&[TUNNEL_ALPN])?,
            relay: node.server_config_with(&[RELAY_ALPN])?,
            control: node.control_config(),
            trust_domain: node.name().trust_domain.clone(),
        })
    }
}

impl NodeTls for Tls {
    fn server(&self, alpn: &'static [u8]) -> Arc<ServerConfig> {
        if alpn == RELAY_ALPN { self.relay.clone() } else { self.tunnel.clone() }
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.control.clone()
    }

    fn trust_domain(&self) -> TrustDomain {
        self.trust_domain.clone()
    }
}

/// Login, by asking control.
pub(super) struct Factors {
    node: Node,
    max_stale: Duration,
}

impl Factors {
    pub(super) fn new(node: Node, max_stale: Duration) -> Self {
        Self { node, max_stale }
    }
}

#[async_trait]
impl VerifyFactors for Factors {
    async fn verify(&self, factor: &VerifyFactor) -> Result<VerifiedUser, FactorsRefused> {
        self.node.post("/node/v1/factors/verify", factor).await.map_err(|error| {
            let refused = refusal(&error);
            if refused == FactorsRefused::Unavailable {
                tracing::warn!("login is not available: {error}");
            }
            refused
        })
    }

    fn may_grant(&self) -> bool {
        !self.node.stale(self.max_stale)
    }
}

/// A password is wrong only when control says so about the factor: any other 401 is about this gateway.
fn refusal(error: &CallError) -> FactorsRefused {
    match error {
        CallError::Refused { status: 401, code, .. } if code == WRONG_FACTOR => FactorsRefused::Wrong,
        CallError::Refused { status: 429, retry_after, .. } => {
            FactorsRefused::TooMany { retry_after: retry_after.map_or(RETRY_AFTER, |wait| wait.as_secs()) }
        }
        CallError::Refused { .. } | CallError::Unreachable(_) => FactorsRefused::Unavailable,
    }
}

/// Streams to resources, through the tunnels.
pub(super) struct Direct {
    tunnels: TunnelServer,
}

impl Direct {
    pub(super) const fn new(tunnels: TunnelServer) -> Self {
        Self { tunnels }
    }
}

#[async_trait]
impl DirectStreams for Direct {
    async fn open(&self, want: DirectOpen) -> Result<BoxedIo, OpenFailed> {
        let target = want.target.parse().map_err(|error| OpenFailed::Refused(format!("{error}")))?;
        let ask = DirectAsk {
            connectors: &want.connectors,
            resource: &want.resource,
            target: &target,
            subject: &want.sub,
            pair: want.pair,
        };
        let now = UnixTime::from(std::time::SystemTime::now());
        match self.tunnels.open_direct(&ask, now).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(failed(&error)),
        }
    }
}

/// What the listener is told: nothing that was not opened is more than late, gone or refused to it.
fn failed(error: &OpenError) -> OpenFailed {
    match error {
        OpenError::NoTunnel => OpenFailed::NoTunnel,
        OpenError::Refused { code, .. } if code == Refusal::TimedOut.code() => OpenFailed::Slow(error.to_string()),
        _ if error.is_late() => OpenFailed::Slow(error.to_string()),
        _ if error.retry() => OpenFailed::Later(error.to_string()),
        _ => OpenFailed::Refused(error.to_string()),
    }
}

/// Tunnels and relays, handed to the tunnel server.
pub(super) struct Tunnels {
    node: Node,
    tunnels: TunnelServer,
}

impl Tunnels {
    pub(super) const fn new(node: Node, tunnels: TunnelServer) -> Self {
        Self { node, tunnels }
    }
}

#[async_trait]
impl TunnelDoor for Tunnels {
    async fn tunnel(&self, tunnel: TunnelConnection) {
        let TunnelConnection { connector, connection, leaf, mark } = tunnel;
        // Renewed during this very handshake? Then the agent refuses the first token, and the connection is closed.
        let own_leaf = match self.node.leaf_der() {
            Ok(own) => own.to_vec(),
            Err(error) => return tracing::warn!("tunnel refused: {error:#}"),
        };
        let arrived = Arrived { connection, agent_leaf: leaf, own_leaf, mark };
        if let Err(error) = self.tunnels.serve_tunnel(arrived).await {
            tracing::info!(%connector, "tunnel connection ended: {error:#}");
        }
    }

    async fn relay(&self, stream: FrontTls, caller: SpiffeId, _leaf: Vec<u8>) {
        if let Err(error) = self.tunnels.serve_relay(stream).await {
            tracing::debug!(%caller, "relay ended: {error:#}");
        }
    }

    fn leave(&self) {
        self.tunnels.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str, retry_after: Option<Duration>) -> FactorsRefused {
        refusal(&CallError::Refused { status, code: code.to_owned(), message: "x".to_owned(), retry_after })
    }

    #[test]
    fn a_browser_is_sent_back_later_only_for_what_time_heals() {
        let refused = |refusal: Refusal| {
            let (code, message, retry) = (refusal.code().to_owned(), refusal.to_string(), refusal.retry());
            failed(&OpenError::Refused { code, message, retry })
        };
        assert!(matches!(refused(Refusal::TimedOut), OpenFailed::Slow(_)));
        assert!(matches!(refused(Refusal::Unreachable), OpenFailed::Later(_)));
        assert!(matches!(refused(Refusal::NotAllowed), OpenFailed::Refused(_)));
        assert!(matches!(failed(&OpenError::Busy), OpenFailed::Later(_)));
        let silent = || std::io::Error::from(std::io::ErrorKind::TimedOut);
        assert!(matches!(failed(&OpenError::Broken(silent())), OpenFailed::Slow(_)));
        assert!(matches!(failed(&OpenError::Cut), OpenFailed::Refused(_)));
        assert_eq!(failed(&OpenError::NoTunnel), OpenFailed::NoTunnel);
    }

    #[test]
    fn only_control_says_that_a_password_is_wrong() {
        assert_eq!(refused(401, WRONG_FACTOR, None), FactorsRefused::Wrong);
        assert_eq!(refused(401, "unknown", None), FactorsRefused::Unavailable, "control does not know this gateway");
        assert_eq!(refused(429, "x", Some(Duration::from_secs(5))), FactorsRefused::TooMany { retry_after: 5 });
        assert_eq!(refused(429, "x", None), FactorsRefused::TooMany { retry_after: RETRY_AFTER });
        for status in [400, 403, 404, 500, 503] {
            assert_eq!(refused(status, "x", None), FactorsRefused::Unavailable);
        }
        assert_eq!(refusal(&CallError::Unreachable(anyhow::anyhow!("gone"))), FactorsRefused::Unavailable);
    }
}
