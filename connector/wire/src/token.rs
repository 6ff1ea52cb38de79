//! Stream tokens: one signed, single-use right to one stream (RFC 7515, RFC 7519).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sluice_node_identity::{NodeId, ResourceId, UnixTime};

use crate::{Protocol, rule::is_host};

/// Claims of a stream token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamClaims {
    /// Caller ([`crate::Caller::id`]).
    pub iss: String,
    /// Connector.
    pub aud: NodeId,
    /// On whose behalf: `user/<id>` or `service/<name>`.
    pub sub: String,
    /// Resource.
    pub res: ResourceId,
    /// Exact target, `tcp:host:port` or `udp:host:port`.
    pub tgt: Target,
    /// The tunnel session it is for.
    pub sid: String,
    /// SHA-256 (base64url) of the caller's certificate on the connection that presents it.
    pub cnf: String,
    /// Issued.
    pub iat: UnixTime,
    /// At most 30 s after `iat`.
    pub exp: UnixTime,
    /// 128 random bits, base64url.
    pub jti: String,
}

/// `tcp:host:port` or `udp:host:port`; an IPv6 address stands in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Target {
    /// Transport.
    pub protocol: Protocol,
    /// Name or address, lower case, no brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Not `tcp:host:port` or `udp:host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a target is tcp:host:port or udp:host:port, with a lower-case name, an IPv4 address or an IPv6 address in brackets"
)]
pub struct BadTarget;

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.as_str();
        if self.host.contains(':') {
            write!(f, "{protocol}:[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{protocol}:{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (protocol, rest) = text.split_once(':').ok_or(BadTarget)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(BadTarget),
        };
        let (host, port) = rest.rsplit_once(':').ok_or(BadTarget)?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':')).ok_or(BadTarget)?,
            None if host.contains(':') => return Err(BadTarget),
            None => host,
        };
        if !is_host(host) {
            return Err(BadTarget);
        }
        // One spelling: no sign, no leading zeros.
        let number: u16 = port.parse().map_err(|_| BadTarget)?;
        if number.to_string() != port {
            return Err(BadTarget);
        }
        Ok(Self { protocol, host: host.to_owned(), port: number })
    }
}

impl TryFrom<String> for Target {
    type Error = BadTarget;

    fn try_from(text: String) -> Result<Self, BadTarget> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        target.to_string()
    }
}
