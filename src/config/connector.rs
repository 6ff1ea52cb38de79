//! The connector's local file. Which gateways and which targets comes from control, signed.

use std::{path::PathBuf, time::Duration};

use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sluice_connector_agent::{BadDns, DnsServer, DnsSettings, DnsSuffix};

use super::{
    NodeSection, key::KeySection, node, secret::SecretError, status::StatusSection, web_proxy::WebProxySection,
};

/// Configuration of `sluice connector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectorConfig {
    /// Directory for the connector's identity, key and last good document. Made with mode 0700 when missing.
    pub(crate) state_dir: PathBuf,
    /// Operating-system account that the connector becomes when started as root; `state_dir` is given to it.
    #[serde(default = "node::default_user")]
    pub(crate) user: String,
    /// How to reach control.
    #[serde(default)]
    pub(crate) control: NodeSection,
    /// Keeps the connector's key in a PKCS#11 token instead of `state_dir`. A key that is in a file already moves with
    /// its next renewal, within a day.
    key: Option<KeySection>,
    /// Private networks (CIDR) in which gateways may lie; gateways at public addresses need no naming. Also where the proxies of a `web_proxy.pac_url` may lie besides public and private addresses: loopback and link-local ranges have to be named by themselves.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) gateway_networks: Vec<IpNetwork>,
    /// Networks (CIDR) in which no target is dialled, whatever control's list says, such as `127.0.0.0/8` on a machine
    /// that runs other things too.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub(crate) forbidden_networks: Vec<IpNetwork>,
    /// Who resolves the targets' names; without servers the system's resolver does. Names that servers named here
    /// answer for are looked up nowhere else, not in `/etc/hosts` either, and no search domain is added.
    #[serde(default)]
    dns: Dns,
    /// The page for whoever watches this machine.
    #[serde(default)]
    pub(crate) status: StatusSection,
    /// How to get out through the site's web proxy.
    #[serde(default)]
    pub(crate) web_proxy: WebProxySection,
    /// Bounds.
    #[serde(default)]
    pub(crate) limits: Limits,
}

/// Who resolves the targets' names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Dns {
    /// DNS servers for every name: `address`, `address:port`, `udp:address:port` or `tcp:address:port`.
    #[schemars(with = "Vec<String>")]
    servers: Vec<DnsServer>,
    /// DNS servers for the names at and below one name; the longest that fits decides.
    suffix: Vec<Suffix>,
}

/// DNS servers for a part of the names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Suffix {
    /// Lower-case name without dots at its ends, such as `corp.test`.
    name: String,
    /// As `dns.servers`.
    #[schemars(with = "Vec<String>")]
    servers: Vec<DnsServer>,
}

/// Bounds on what gateways can make the connector hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Streams of all tunnels at a time. One gateway, or control, alone gets at most three quarters of them.
    streams: usize,
    /// Used tokens remembered of each caller; 16 MiB when it is full. A token is remembered for 35 s, so that a caller
    /// opens at most a 35th of it a second.
    spent_tokens_per_caller: usize,
    /// Seconds that running streams get when the connector stops.
    drain_seconds: u64,
    /// Seconds after which a stream of datagrams ends on which nothing moves.
    udp_idle_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        let defaults = sluice_connector_agent::Limits::default();
        Self {
            streams: defaults.streams,
            spent_tokens_per_caller: defaults.spent_per_caller,
            drain_seconds: defaults.drain.as_secs(),
            udp_idle_seconds: defaults.udp_idle.as_secs(),
        }
    }
}

impl ConnectorConfig {
    /// How to reach control, and where the key is.
    ///
    /// # Errors
    /// The PIN cannot be read.
    pub(crate) fn settings(&self) -> Result<sluice_node_client::Settings, SecretError> {
        let token = self.key.as_ref().map(KeySection::token).transpose()?;
        Ok(sluice_node_client::Settings { token, ..self.control.settings(&self.state_dir) })
    }

    /// What the token's module reads and writes while it runs.
    pub(crate) fn token_paths(&self) -> &[PathBuf] {
        self.key.as_ref().map_or(&[], |key| &key.runtime_paths)
    }

    /// Who resolves names.
    ///
    /// # Errors
    /// [`BadDns`].
    pub(crate) fn dns(&self) -> Result<DnsSettings, BadDns> {
        let suffix = |suffix: &Suffix| DnsSuffix { name: suffix.name.clone(), servers: suffix.servers.clone() };
        let dns = &self.dns;
        let settings = DnsSettings { servers: dns.servers.clone(), suffixes: dns.suffix.iter().map(suffix).collect() };
        settings.check()?;
        Ok(settings)
    }

    /// What the agent needs to know.
    ///
    /// # Errors
    /// A bound of 0 would refuse everybody, one of more than a day bounds nothing.
    pub(crate) fn agent(&self) -> Result<sluice_connector_agent::Limits, &'static str> {
        if self.limits.streams == 0 {
            return Err("limits.streams = 0 would refuse everybody");
        }
        if self.limits.spent_tokens_per_caller == 0 {
            return Err("limits.spent_tokens_per_caller = 0 would refuse everybody");
        }
        if self.limits.drain_seconds > node::LONGEST_SECONDS {
            return Err("limits.drain_seconds is at most 86400, a day");
        }
        if !(1..=node::LONGEST_SECONDS).contains(&self.limits.udp_idle_seconds) {
            return Err("limits.udp_idle_seconds is 1 to 86400, a day");
        }
        let drain = Duration::from_secs(self.limits.drain_seconds);
        let udp_idle = Duration::from_secs(self.limits.udp_idle_seconds);
        let (streams, spent_per_caller) = (self.limits.streams, self.limits.spent_tokens_per_caller);
        Ok(sluice_connector_agent::Limits { streams, spent_per_caller, drain, udp_idle, ..Default::default() })
    }
}
