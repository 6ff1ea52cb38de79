//! The lines to the tenant's gateways: TCP with TLS, and QUIC.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Error;
use rustls::{client::danger::ServerCertVerifier, pki_types::CertificateDer};
use sluice_connector_agent::Resolver;
use sluice_connector_egress::{Egress, Guard};
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

/// For a name.
const RESOLVE: Duration = Duration::from_secs(5);
/// For a first answer by UDP.
const UDP: Duration = Duration::from_millis(2500);

/// What is known of the gateways and of us.
pub(super) struct Known<'a> {
    pub(super) config: &'a ConnectorConfig,
    pub(super) egress: &'a Egress,
    pub(super) joined: &'a Joined,
    pub(super) root: &'a CertificateDer<'static>,
}

impl Known<'_> {
    /// Looks at each gateway of the document.
    pub(super) async fn look(&self, report: &mut Report, gateways: &[GatewayEndpoint]) {
        if gateways.is_empty() {
            let todo = "add a gateway: sluice admin node add … --role gateway";
            report.add(Step::note("gateways", "the document names none", todo));
        }
        for gateway in gateways {
            self.one(report, gateway).await;
        }
    }

    async fn one(&self, report: &mut Report, gateway: &GatewayEndpoint) {
        let (id, host, port) = (&gateway.id, &gateway.host, gateway.port);
        let what = |step: &str| format!("gateway {id}: {step}");
        let Some(direct) = line::way(report, &what("way out"), self.egress, host, port).await else { return };
        let by_udp = direct || self.config.web_proxy.direct_udp;
        let here = if by_udp { self.name(report, &what("name"), host, port).await } else { None };
        if direct && here.is_none() {
            return;
        }
        let verifier: Arc<dyn ServerCertVerifier> = match NodeVerifier::new(self.root.clone(), self.expected(gateway)) {
            Ok(verifier) => verifier,
            Err(error) => {
                let said = format!("the kept root is damaged: {error}");
                report.add(Step::bad(what("TLS"), said, "join anew with a fresh code"));
                return;
            }
        };
        report.add(tcp(&what("TCP"), self.egress, gateway, verifier.clone()).await);
        report.add(match here {
            Some(at) => udp(&what("QUIC"), gateway, at, verifier).await,
            None => Step::skipped(what("QUIC"), "only TCP leads through a web proxy (web_proxy.direct_udp)"),
        });
    }

    /// The gateway's address, when it may be dialled.
    async fn name(&self, report: &mut Report, what: &str, host: &str, port: u16) -> Option<SocketAddr> {
        let resolver = self.config.dns().map_err(Error::from).and_then(|dns| Resolver::new(&dns, 1, RESOLVE));
        let addresses: Vec<IpAddr> = match resolver {
            Ok(resolver) => resolver.resolve(host).await.unwrap_or_default(),
            Err(error) => {
                report.add(Step::bad(what, format!("{error:#}"), "correct the [dns] table"));
                return None;
            }
        };
        if addresses.is_empty() {
            let todo = "check the name, and who should know it: [dns] in the configuration, else the system's resolver";
            report.add(Step::bad(what, format!("{host} cannot be resolved"), todo));
            return None;
        }
        let guard = DialGuard::new(self.config.gateway_networks.iter().copied());
        match guard.permit(&addresses, port) {
            Ok(permitted) => {
                report.add(Step::good(what, format!("{host} is {}", permitted.first().ip())));
                Some(permitted.first())
            }
            Err(refused) => {
                let todo = "name the gateway's network in gateway_networks, if this is the gateway";
                report.add(Step::bad(what, format!("{host}: {refused}"), todo));
                None
            }
        }
    }

    fn expected(&self, gateway: &GatewayEndpoint) -> SpiffeId {
        let (tenant, id) = (self.joined.tenant.clone(), gateway.id.clone());
        SpiffeId {
            trust_domain: self.joined.trust_domain.clone(),
            principal: Principal::Node { tenant, role: Role::Gateway, id },
        }
    }
}

async fn tcp(what: &str, egress: &Egress, gateway: &GatewayEndpoint, verifier: Arc<dyn ServerCertVerifier>) -> Step {
    let (id, host, port) = (&gateway.id, &gateway.host, gateway.port);
    let connected = match line::lead(what, egress, host, port, Guard::Gateways).await {
        Ok(connected) => connected,
        Err(step) => return step,
    };
    match line::tls(connected.io, host, verifier, ALPN_TUNNEL).await {
        Ok(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN_TUNNEL) => {
            Step::good(what, format!("{host}:{port} is gateway {id} and takes tunnels, {}", connected.via))
        }
        Ok(_) => Step::bad(what, format!("{host}:{port} takes no tunnels"), "check the gateway's port"),
        Err(why) => line::distrusted(what, &format!("gateway {id}"), host, &connected.via, why),
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
