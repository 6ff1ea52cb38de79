//! The gateway's local file: what the box is plugged into. Everything else comes from control.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NodeSection, SecretFile};

/// Configuration of `sluice gateway`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    /// Directory for the gateway's identity, keys and last good document. Made with mode 0700 when missing.
    pub(crate) state_dir: PathBuf,
    /// Addresses to accept TLS on: users, tunnels, relays and spliced names all come to the same port.
    #[serde(default = "default_listen")]
    pub(crate) listen: Vec<SocketAddr>,
    /// How to reach control.
    #[serde(default)]
    pub(crate) control: NodeSection,
    /// Certificates for the login host and the apps' hosts.
    #[serde(default)]
    pub(crate) certificates: Vec<CertificateFiles>,
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

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([0, 0, 0, 0], 443)), SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 443))]
}
