//! The lines to the tenant's gateways: TCP with TLS, and QUIC.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{client::danger::ServerCertVerifier, pki_types::CertificateDer};
use sluice_connector_mux::quic;
use sluice_connector_wire::{ALPN_TUNNEL, ClassPair, GatewayEndpoint, NodeVerifier};
use sluice_node_identity::{Principal, Role, SpiffeId, api::Joined};
use sluice_node_reach::DialGuard;
use tokio::time::timeout;

use super::{
    line,
    report::{Report, Step},
};
use crate::config::connector::ConnectorConfig;

/// For a first answer by UDP.
const UDP: Duration = Duration::from_millis(2500);

/// Looks at each gateway of the document.
pub(super) async fn look(
    report: &mut Report,
    config: &ConnectorConfig,
    gateways: &[GatewayEndpoint],
    joined: &Joined,
    root: &CertificateDer<'static>,
) {
    if gateways.is_empty() {
        report.add(Step::note(
            "gateways",
            "the document names none",
            "add a gateway: sluice admin node add … --role gateway",
        ));
    }
    for gateway in gateways {
        one(report, config, gateway, joined, root).await;
    }
}

async fn one(
    report: &mut Report,
    config: &ConnectorConfig,
    gateway: &GatewayEndpoint,
    joined: &Joined,
    root: &CertificateDer<'static>,
) {
    let (id, host, port) = (&gateway.id, &gateway.host, gateway.port);
    let what = |step: &str| format!("gateway {id}: {step}");
    let found = match line::resolve(&what("name"), host, port).await {
        Ok(found) => found,
        Err(step) => {
            report.add(step);
            return;
        }
    };
    let addresses: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
    let permitted = match DialGuard::new(config.gateway_networks.iter().copied()).permit(&addresses, port) {
        Ok(permitted) => permitted,
        Err(refused) => {
            let todo = "name the gateway's network in gateway_networks, if this is the gateway";
            report.add(Step::bad(what("name"), format!("{host}: {refused}"), todo));
            return;
        }
    };
    report.add(Step::good(what("name"), format!("{host} is {}", permitted.first().ip())));
    let expected = SpiffeId {
        trust_domain: joined.trust_domain.clone(),
        principal: Principal::Node { tenant: joined.tenant.clone(), role: Role::Gateway, id: id.clone() },
    };
    let verifier: Arc<dyn ServerCertVerifier> = match NodeVerifier::new(root.clone(), expected) {
        Ok(verifier) => verifier,
        Err(error) => {
            report.add(Step::bad(
                what("TLS"),
                format!("the kept root is damaged: {error}"),
                "join anew with a fresh code",
            ));
            return;
        }
    };
    report.add(tcp(&what("TCP"), gateway, permitted.addresses(), verifier.clone()).await);
    report.add(udp(&what("QUIC"), gateway, permitted.first(), verifier).await);
}

async fn tcp(what: &str, gateway: &GatewayEndpoint, at: &[SocketAddr], verifier: Arc<dyn ServerCertVerifier>) -> Step {
    let (id, host, port) = (&gateway.id, &gateway.host, gateway.port);
    let tcp = match line::connect(at).await {
        Ok(tcp) => tcp,
        Err(why) => {
            let todo = format!("let this machine reach {host} by TCP {port}, directly or through the web proxy");
            return Step::bad(what, why, todo);
        }
    };
    match line::tls(tcp, host, verifier, ALPN_TUNNEL).await {
        Ok(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN_TUNNEL) => {
            Step::good(what, format!("{host}:{port} is gateway {id} and takes tunnels"))
        }
        Ok(_) => Step::bad(what, format!("{host}:{port} takes no tunnels"), "check the gateway's port"),
        Err(why) => line::distrusted(what, &format!("gateway {id}"), host, why),
    }
}

/// Whether QUIC comes through. A tunnel does without, so that nothing here is in the way.
async fn udp(what: &str, gateway: &GatewayEndpoint, at: SocketAddr, verifier: Arc<dyn ServerCertVerifier>) -> Step {
    let todo = format!(
        "let UDP {} pass to and from {} for the faster transport; the tunnel runs over TCP meanwhile",
        gateway.port, gateway.host
    );
    let any: IpAddr = if at.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let dialled = async {
        let socket = quic::bind(SocketAddr::new(any, 0))?;
        let endpoint = quic::agent_endpoint(socket, ClassPair::default())?;
        let config = quic::client_config(line::config(verifier, ALPN_TUNNEL)?)?;
        let connected = endpoint.connect_with(config, at, &gateway.host)?.await;
        anyhow::Ok(connected.map(drop).map_err(|error| error.to_string()))
    };
    match timeout(UDP, dialled).await {
        Err(_) => Step::note(what, format!("no answer by UDP from {at}"), todo),
        Ok(Err(error)) => Step::note(what, format!("could not be tried: {error:#}"), todo),
        Ok(Ok(Ok(()))) => Step::good(what, format!("UDP comes through to {at}")),
        Ok(Ok(Err(error))) => Step::note(what, format!("UDP comes through to {at}, but QUIC does not: {error}"), todo),
    }
}
