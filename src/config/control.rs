//! Control's own file: where it keeps things, what it listens on, what it is called.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_node_identity::TrustDomain;

use super::ConfigError;

/// Configuration of `sluice control`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlConfig {
    /// Directory for the store, the keystore, the tenants' caches and the wallet. Made with mode 0700 by `init`.
    pub(crate) data_dir: PathBuf,
    /// Addresses to accept TLS on.
    #[serde(default = "default_listen")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Address under which gateways and nodes reach this control: put into their documents and join codes.
    pub(crate) advertised_address: SocketAddr,
    /// Authority part of every name in every certificate. Never changes once nodes have joined.
    #[schemars(with = "String")]
    pub(crate) trust_domain: TrustDomain,
    /// Server names that choose what a connection is for.
    pub(crate) names: Names,
    /// Networks whose connections may begin with a PROXY v2 header (gateways that splice); from all others it is
    /// refused.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) proxy_from: Vec<IpNetwork>,
    /// Unprivileged account to become when started as root.
    #[serde(default = "super::node::default_user")]
    pub(crate) user: String,
    /// The wallet's process.
    #[serde(default)]
    pub(crate) wallet: Wallet,
    /// Bounds.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// Server names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Names {
    /// The node API, such as `node.sluice.example`.
    pub(crate) node: String,
    /// The admin API and console, such as `console.sluice.example`.
    pub(crate) console: String,
    /// Users' pages behind gateways, such as `pages.sluice.example`.
    pub(crate) pages: String,
}

/// The wallet's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wallet {
    /// Account of the wallet's process when control is started as root; another than control's, so that neither
    /// reads the other's files. Without it the wallet stays root, with no capability and no file but its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
}

/// Bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Most connections at a time; more wait in the kernel's queue.
    pub(crate) connections: u32,
    /// Most connections at a time from one address (IPv6: one /64), as gateways in front tell it; more are closed.
    /// Hubs and nodes behind one address translator share it.
    pub(crate) connections_per_address: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 10_000, connections_per_address: 512 }
    }
}

fn default_listen() -> Vec<SocketAddr> {
    vec![SocketAddr::from(([0, 0, 0, 0], 8443)), SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 8443))]
}

impl ControlConfig {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub(crate) fn load(path: &Path) -> Result<Self, ConfigError> {
        let config: Self = super::load(path)?;
        match config.problem() {
            None => Ok(config),
            Some(problem) => Err(ConfigError::invalid(path, problem)),
        }
    }

    fn problem(&self) -> Option<String> {
        let Names { node, console, pages } = &self.names;
        for (key, name) in [("names.node", node), ("names.console", console), ("names.pages", pages)] {
            if name.parse::<TrustDomain>().is_err() || !name.contains('.') {
                return Some(format!("`{key}` must be a lower-case host name with a dot; it is \"{name}\""));
            }
        }
        if node == console || node == pages || console == pages {
            return Some("`names.node`, `names.console` and `names.pages` must be three different names".to_owned());
        }
        if self.listen.is_empty() {
            return Some("`listen` needs at least one address, such as \"0.0.0.0:8443\"".to_owned());
        }
        if self.advertised_address.ip().is_unspecified() || self.advertised_address.port() == 0 {
            return Some("`advertised_address` must be an address that others can dial, with a port".to_owned());
        }
        if self.limits.connections == 0 {
            return Some("`limits.connections` must be at least 1".to_owned());
        }
        if self.limits.connections_per_address == 0 {
            return Some("`limits.connections_per_address` must be at least 1".to_owned());
        }
        if self.wallet.user.as_ref() == Some(&self.user) {
            return Some("`wallet.user` must be another account than `user`".to_owned());
        }
        if !self.data_dir.is_absolute() {
            return Some("`data_dir` must be an absolute path".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const GOOD: &str = r#"
        data_dir = "/var/lib/sluice/control"
        advertised_address = "192.0.2.10:8443"
        trust_domain = "sluice.test"
        [names]
        node = "node.sluice.test"
        console = "console.sluice.test"
        pages = "pages.sluice.test"
    "#;

    fn load(text: &str) -> Result<ControlConfig, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        ControlConfig::load(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_minimal_file_gets_the_documented_defaults() {
        let config = load(GOOD).unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.wallet.user, None);
    }

    #[test]
    fn every_mistake_is_refused_with_its_key() {
        let cases = [
            (
                "advertised_address = \"192.0.2.10:8443\"",
                "advertized_address = \"192.0.2.10:8443\"",
                "advertised_address",
            ),
            ("192.0.2.10:8443", "0.0.0.0:8443", "advertised_address"),
            ("pages.sluice.test", "node.sluice.test", "different"),
            ("node.sluice.test", "Node.sluice.test", "names.node"),
            ("/var/lib/sluice/control", "control", "absolute"),
            ("[names]", "proxy_from = [\"10.0.0.0/40\"]\n[names]", "proxy_from"),
            ("[names]", "[limits]\nconnections = 0\n[names]", "limits.connections"),
            ("[names]", "[limits]\nconnections_per_address = 0\n[names]", "limits.connections_per_address"),
            ("trust_domain = \"sluice.test\"", "trust_domain = 7", "trust_domain"),
            ("[names]", "[wallet]\nuser = \"nobody\"\n[names]", "wallet.user"),
        ];
        for (from, to, named) in cases {
            let error = load(&GOOD.replace(from, to)).unwrap_err();
            assert!(error.contains(named), "{to}: {error}");
        }
    }
}
