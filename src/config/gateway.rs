//! The gateway's local file: what the box is plugged into. Everything else comes from control, and what is forbidden
//! here control cannot allow.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_gateway_proxy::{HostCertificate, Settings};

use super::{NodeSection, SecretFile, node};

/// Configuration of `sluice gateway`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Directory for the gateway's identity, keys and last good document. Made with mode 0700 when missing.
    pub(crate) state_dir: PathBuf,
    /// Operating-system account that the gateway becomes when started as root; `state_dir` is given to it.
    #[serde(default = "node::default_user")]
    pub(crate) user: String,
    /// Addresses to accept TLS on: users, tunnels, relays and spliced names all come to the same port.
    #[serde(default = "default_listen")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Whether tunnels may come by QUIC too, on UDP at the same addresses. Where the system does not give the UDP port,
    /// the gateway says so and takes tunnels by TCP only.
    #[serde(default = "default_quic")]
    pub(crate) quic: bool,
    /// How to reach control.
    #[serde(default)]
    pub(crate) control: NodeSection,
    /// Certificates for the login host and the apps' hosts.
    #[serde(default)]
    pub(crate) certificates: Vec<CertificateFiles>,
    /// Private networks (CIDR) in which control may lie: spliced names and users' pages may be dialled there.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) control_networks: Vec<IpNetwork>,
    /// Networks (CIDR) in which no app is dialled, whatever control says.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) forbidden_networks: Vec<IpNetwork>,
    /// PEM bundle of the authorities that vouch for applications reached by TLS.
    #[serde(default = "default_upstream_roots")]
    pub(crate) upstream_roots: PathBuf,
    /// Bounds.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// One certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    /// Host names this certificate is shown for, exact or `*.suffix`.
    pub(crate) hosts: Vec<String>,
    /// Chain, PEM, leaf first.
    pub(crate) chain_file: PathBuf,
    /// Private key, PEM (PKCS#8, PKCS#1 or SEC1), mode 0600.
    pub(crate) key_file: SecretFile,
}

/// Bounds on what strangers can make the gateway hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Connections at a time.
    connections: usize,
    /// Connections at a time from one address (IPv6: one /64).
    connections_per_address: usize,
    /// Seconds for the ClientHello, for the handshake, and for each request head.
    handshake_seconds: u64,
    /// Seconds after which a kept connection without a request is closed.
    idle_seconds: u64,
    /// Seconds after which a spliced connection on which nothing moves is closed.
    splice_idle_seconds: u64,
    /// Seconds for connecting to an application.
    connect_seconds: u64,
    /// Login attempts a minute from one address (IPv6: one /64).
    logins_per_address: u32,
    /// Login attempts a minute for one name.
    logins_per_name: u32,
    /// Seconds that a stopping gateway waits for requests, relays and streams to end.
    drain_seconds: u64,
    /// Connectors' tunnels at a time; at most 1,000.
    tunnels: usize,
    /// Tunnels of one connector; a new one closes the oldest. A connector keeps one.
    tunnels_per_connector: usize,
    /// Connections of all tunnels at a time. A tunnel has three, and six while it changes from TCP to QUIC.
    tunnel_connections: usize,
    /// Connections of one connector at a time.
    tunnel_connections_per_connector: usize,
    /// Streams at a time on one of a tunnel's connections; at most 248.
    streams_per_tunnel_connection: usize,
    /// Streams of control's at a time.
    relays: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let defaults = sluice_gateway_proxy::Limits::default();
        let tunnels = sluice_connector_server::Limits::default();
        Self {
            connections: defaults.connections,
            connections_per_address: defaults.connections_per_address,
            handshake_seconds: defaults.handshake.as_secs(),
            idle_seconds: defaults.idle.as_secs(),
            splice_idle_seconds: defaults.splice_idle.as_secs(),
            connect_seconds: defaults.connect.as_secs(),
            logins_per_address: defaults.logins_per_address,
            logins_per_name: defaults.logins_per_name,
            drain_seconds: defaults.drain.as_secs(),
            tunnels: tunnels.tunnels,
            tunnels_per_connector: tunnels.tunnels_per_connector,
            tunnel_connections: tunnels.connections,
            tunnel_connections_per_connector: tunnels.connections_per_connector,
            streams_per_tunnel_connection: tunnels.streams_per_connection,
            relays: tunnels.relays,
        }
    }
}

impl GatewayConfig {
    /// What the listener needs to know.
    ///
    /// # Errors
    /// A bound of 0 would refuse everybody, one of more than a day bounds nothing.
    pub(crate) fn proxy(&self) -> Result<Settings, &'static str> {
        let certificate = |files: &CertificateFiles| HostCertificate {
            hosts: files.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            chain: files.chain_file.clone(),
            key: files.key_file.path().to_owned(),
        };
        Ok(Settings {
            listen: self.listen.clone(),
            quic: self.quic,
            certificates: self.certificates.iter().map(certificate).collect(),
            control_networks: self.control_networks.clone(),
            forbidden_networks: self.forbidden_networks.clone(),
            upstream_roots: self.upstream_roots.clone(),
            logouts: Some(self.state_dir.join("logouts")),
            limits: self.limits.proxy()?,
        })
    }

    /// What the tunnel server needs to know.
    ///
    /// # Errors
    /// As [`GatewayConfig::proxy`]; also more than control or a connection can carry.
    pub(crate) fn tunnels(&self) -> Result<sluice_connector_server::Limits, &'static str> {
        self.limits.tunnels()
    }
}

impl Limits {
    fn proxy(&self) -> Result<sluice_gateway_proxy::Limits, &'static str> {
        let numbers = [self.connections, self.connections_per_address];
        let seconds = [self.handshake_seconds, self.idle_seconds, self.splice_idle_seconds, self.connect_seconds];
        let logins = [self.logins_per_address, self.logins_per_name];
        if numbers.contains(&0) || seconds.contains(&0) || logins.contains(&0) {
            return Err("a limit of 0 would refuse everybody; only limits.drain_seconds may be 0");
        }
        if seconds.into_iter().chain([self.drain_seconds]).any(|seconds| seconds > node::LONGEST_SECONDS) {
            return Err("a limit in seconds is at most 86400, a day");
        }
        Ok(sluice_gateway_proxy::Limits {
            connections: self.connections,
            connections_per_address: self.connections_per_address,
            handshake: Duration::from_secs(self.handshake_seconds),
            idle: Duration::from_secs(self.idle_seconds),
            splice_idle: Duration::from_secs(self.splice_idle_seconds),
            connect: Duration::from_secs(self.connect_seconds),
            logins_per_address: self.logins_per_address,
            logins_per_name: self.logins_per_name,
            drain: Duration::from_secs(self.drain_seconds),
            ..sluice_gateway_proxy::Limits::default()
        })
    }

    fn tunnels(&self) -> Result<sluice_connector_server::Limits, &'static str> {
        let defaults = sluice_connector_server::Limits::default();
        let limits = sluice_connector_server::Limits {
            tunnels: self.tunnels,
            tunnels_per_connector: self.tunnels_per_connector,
            connections: self.tunnel_connections,
            connections_per_connector: self.tunnel_connections_per_connector,
            streams_per_connection: self.streams_per_tunnel_connection,
            relays: self.relays,
            ..defaults
        };
        let Self { tunnels, tunnels_per_connector, tunnel_connections, tunnel_connections_per_connector, .. } = *self;
        let connections = [tunnels, tunnels_per_connector, tunnel_connections, tunnel_connections_per_connector];
        if connections.contains(&0) || self.streams_per_tunnel_connection == 0 || self.relays == 0 {
            return Err("a limit of 0 would refuse everybody; only limits.drain_seconds may be 0");
        }
        if tunnels > defaults.tunnels {
            return Err("limits.tunnels is at most 1000: control takes note of no more");
        }
        if self.streams_per_tunnel_connection > defaults.streams_per_connection {
            return Err("limits.streams_per_tunnel_connection is at most 248: a connection carries no more");
        }
        Ok(limits)
    }
}

fn default_quic() -> bool {
    Settings::default().quic
}

fn default_listen() -> Vec<SocketAddr> {
    Settings::default().listen
}

fn default_upstream_roots() -> PathBuf {
    Settings::default().upstream_roots
}
