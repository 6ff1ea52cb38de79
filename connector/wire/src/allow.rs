//! The signed allow-list: which caller may ask a connector for which target.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_node_identity::{NodeId, ResourceId, TenantId, UnixTime};

use crate::Target;

/// The list as it travels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedAllowList {
    /// Compact JWS (ES256) over the JSON of [`AllowList`].
    pub jws: String,
    /// Public JWK of the policy key that signed it. Believed only when its RFC 7638 thumbprint is the one that
    /// came with the join code, or when `succession` leads from that one to it.
    pub policy_key: Value,
    /// Compact JWS's, oldest first: each is a policy key's JWK signed by its predecessor.
    pub succession: Vec<String>,
}

/// Claims of [`SignedAllowList::jws`]. Order is (epoch, version) and never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowList {
    /// Whose list.
    pub tenant: TenantId,
    /// For which connector.
    pub connector: NodeId,
    /// Raised when control is restored from a backup.
    pub epoch: u64,
    /// Raised with every change and every re-signing.
    pub version: u64,
    /// At most 7 days ahead; afterwards no new streams.
    pub not_after: UnixTime,
    /// Who may sign stream tokens.
    pub callers: Vec<Caller>,
    /// What may be dialled; nothing else may.
    pub rules: Vec<AllowRule>,
}

/// One signer of stream tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    /// `control` or the gateway's node id: the token's `iss`.
    pub id: String,
    /// Which kind of stream it may open.
    pub kind: CallerKind,
    /// The token's `kid`.
    pub kid: String,
    /// The one algorithm its tokens may use: `PS256` or `EdDSA`.
    pub alg: String,
    /// Public key.
    pub jwk: Value,
}

/// What a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerKind {
    /// Opens direct streams only.
    Gateway,
    /// Opens sealed streams only.
    Control,
}

/// One permitted target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// The token's `res`.
    pub resource: ResourceId,
    /// The token's `tgt` must have it.
    pub protocol: Protocol,
    /// Exact host name or address, or `*.suffix` (one or more labels).
    pub host: String,
    /// Exact port.
    pub port: u16,
    /// Ids of the callers this rule is for.
    pub callers: Vec<String>,
    /// Own networks the resolved address may lie in; what the dial guard otherwise refuses must be named here.
    pub networks: Vec<IpNetwork>,
}

impl AllowRule {
    /// Whether it is for this caller.
    #[must_use]
    pub fn lets(&self, caller: &str) -> bool {
        self.callers.iter().any(|id| id == caller)
    }

    /// Whether the target is the one it permits.
    #[must_use]
    pub fn covers(&self, target: &Target) -> bool {
        self.protocol == target.protocol && self.port == target.port && self.covers_host(&target.host)
    }

    fn covers_host(&self, host: &str) -> bool {
        let Some(suffix) = self.host.strip_prefix("*.") else {
            return match (self.host.parse::<IpAddr>(), host.parse::<IpAddr>()) {
                (Ok(rule), Ok(asked)) => rule == asked,
                _ => self.host == host,
            };
        };
        let labels = host.strip_suffix(suffix).and_then(|front| front.strip_suffix('.'));
        host.parse::<IpAddr>().is_err() && labels.is_some_and(is_labels)
    }

    /// Whether the host pattern is an address, a lower-case name, or `*.` and a lower-case name.
    pub(crate) fn has_sound_host(&self) -> bool {
        is_host(&self.host) || self.host.strip_prefix("*.").is_some_and(is_host_name)
    }
}

/// Whether `text` is an address or a lower-case name.
pub(crate) fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || is_host_name(text)
}

/// A name whose last label starts with a digit is none: resolvers read `127.1` or `0x7f.1` as addresses.
fn is_host_name(text: &str) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    is_labels(text) && !last.starts_with(|c: char| c.is_ascii_digit())
}

fn is_labels(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
}

/// Transport a connector dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A TCP connection.
    Tcp,
    /// Datagrams to and from one UDP port.
    Udp,
}

impl Protocol {
    /// As in targets: `tcp` or `udp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
