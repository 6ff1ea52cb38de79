//! From a dial to a gateway that has proved itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail, ensure};
use rustls::{
    ClientConfig, SignatureScheme,
    client::Resumption,
    pki_types::{CertificateDer, ServerName},
};
use sluice_connector_mux::{Connection, End};
use sluice_connector_wire::{ALPN_TUNNEL, ClassPair, GatewayEndpoint, NodeVerifier, Peer, Transport, certificate_hash};
use sluice_node_identity::{NodeId, Principal, Role, SpiffeId};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{
    quic,
    way_out::{directly, permitted},
};
use crate::{Shared, board::Hurdle, now};

/// What the key of any node signs with.
const SCHEMES: [SignatureScheme; 3] =
    [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];

/// A connection whose other end is the gateway that was meant.
pub(super) struct Proved {
    pub(super) connection: Connection,
    /// Hash of the certificate it showed.
    pub(super) cnf: String,
    /// How long that, and the one we showed, are still good: the gateway ends the connection with ours.
    pub(super) left: Duration,
    /// How it came about, for people.
    pub(super) via: String,
}

/// What to dial over.
pub(super) enum Dial {
    Tcp,
    Quic(quinn::Endpoint),
}

impl Dial {
    pub(super) const fn transport(&self) -> Transport {
        match self {
            Self::Tcp => Transport::Tcp,
            Self::Quic(_) => Transport::Quic,
        }
    }
}

/// Dials and has the gateway prove itself.
pub(super) async fn prove(
    shared: &Shared,
    endpoint: &GatewayEndpoint,
    pair: ClassPair,
    dial: Dial,
) -> anyhow::Result<Proved> {
    match dial {
        Dial::Tcp => over_tcp(shared, endpoint, pair).await,
        Dial::Quic(own) => over_quic(shared, endpoint, &own).await,
    }
}

async fn over_tcp(shared: &Shared, endpoint: &GatewayEndpoint, pair: ClassPair) -> anyhow::Result<Proved> {
    let limits = &shared.pieces.limits;
    let led = match &shared.way_out {
        Some(way_out) => way_out.reach(endpoint, pair).await.context(Hurdle::Connect)?,
        None => None,
    };
    let outward = match led {
        Some(outward) => outward,
        None => directly(shared, endpoint, pair).await?,
    };
    let host = ServerName::try_from(endpoint.host.clone()).context("the gateway's host is no name or address")?;
    let config = Arc::new(client_tls(shared, &endpoint.id)?);
    let own = own_left(&config)?;
    let tls = timeout(limits.handshake, TlsConnector::from(config).connect(host, outward.io))
        .await
        .context("the handshake took too long")
        .context(Hurdle::Tls)?
        .map_err(|error| {
            let words = outward.words.as_ref().and_then(|words| words(&error));
            words.map_or_else(|| error.into(), |words| anyhow!(words))
        })
        .context(Hurdle::Tls)?;
    let session = tls.get_ref().1;
    ensure!(session.alpn_protocol() == Some(ALPN_TUNNEL), "the gateway does not speak tunnels on this port");
    let leaf = session.peer_certificates().and_then(<[_]>::first).context("the gateway showed no certificate")?;
    let (cnf, left) = standing(leaf)?;
    let left = left.min(own);
    let connection = Connection::over_metered_tcp(tls, End::Agent, outward.heard);
    Ok(Proved { connection, cnf, left, via: outward.via })
}

/// Always directly: no web proxy carries UDP.
async fn over_quic(shared: &Shared, endpoint: &GatewayEndpoint, own: &quinn::Endpoint) -> anyhow::Result<Proved> {
    if let Some(way_out) = &shared.way_out
        && let Some(why) = way_out.no_udp(endpoint).await
    {
        return Err(anyhow!(why).context(Hurdle::Connect));
    }
    let addresses = permitted(&shared.gateway_resolver, &shared.pieces.gateway_networks, endpoint).await?;
    let tls = client_tls(shared, &endpoint.id)?;
    let own_left = own_left(&tls)?;
    let config = sluice_connector_mux::quic::client_config(tls)?;
    let dialling = quic::connect(own, &config, &addresses, &endpoint.host);
    let quic = timeout(shared.pieces.limits.handshake, dialling)
        .await
        .context("no answer in time")
        .context(Hurdle::Connect)??;
    let shown = quic.handshake_data().and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    let spoken = shown.and_then(|data| data.protocol);
    ensure!(spoken.as_deref() == Some(ALPN_TUNNEL), "the gateway does not speak tunnels on this port");
    let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
    let (cnf, left) = standing(chain.as_deref().and_then(|chain| chain.first()).context("no certificate was shown")?)?;
    let left = left.min(own_left);
    Ok(Proved { connection: Connection::over_quic(quic, End::Agent), cnf, left, via: "direct".to_owned() })
}

/// Hash of a certificate whose chain has been checked, and how long it is still good.
fn standing(leaf: &CertificateDer<'_>) -> anyhow::Result<(String, Duration)> {
    Ok((certificate_hash(leaf), Duration::from_secs(Peer::from_leaf(leaf)?.not_after.since(now()))))
}

/// How long the certificate is good that this configuration shows. If it is renewed during the handshake, less than need
/// be.
fn own_left(config: &ClientConfig) -> anyhow::Result<Duration> {
    let shown = config.client_auth_cert_resolver.resolve(&[], &SCHEMES);
    let shown = shown.context("this connector has no certificate to show")?;
    Ok(standing(shown.cert.first().context("this connector's certificate is missing")?)?.1)
}

fn client_tls(shared: &Shared, gateway: &NodeId) -> anyhow::Result<ClientConfig> {
    let mut config = (*(shared.pieces.client)()?).clone();
    let verifier = NodeVerifier::new(shared.pieces.node_root.clone(), gateway_name(shared, gateway)?)?;
    config.dangerous().set_certificate_verifier(verifier);
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec()];
    // A resumed session shows no certificate, and tokens are bound to the one shown.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn gateway_name(shared: &Shared, id: &NodeId) -> anyhow::Result<SpiffeId> {
    let own = &shared.pieces.name;
    let Principal::Node { tenant, .. } = &own.principal else { bail!("this connector has no tenant") };
    let principal = Principal::Node { tenant: tenant.clone(), role: Role::Gateway, id: id.clone() };
    Ok(SpiffeId { trust_domain: own.trust_domain.clone(), principal })
}
