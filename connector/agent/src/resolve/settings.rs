//! Which DNS servers answer for which names, as the connector's own file says it.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where DNS servers listen (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;
/// Most servers of one suffix, and most suffixes.
const MAX_SERVERS: usize = 8;
const MAX_SUFFIXES: usize = 64;

/// Which servers to ask. Empty: the system's resolver answers everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// For every name without a suffix of its own; empty: the system's resolver.
    pub servers: Vec<DnsServer>,
    /// For names at and below a suffix; the longest that fits decides, and nobody else is asked.
    pub suffixes: Vec<DnsSuffix>,
}

/// Servers for the names at and below one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSuffix {
    /// Lower case, no dot at either end.
    pub name: String,
    /// At least one.
    pub servers: Vec<DnsServer>,
}

/// One server: `address`, `address:port`, `udp:address:port` or `tcp:address:port`. Over UDP, answers that do not fit
/// are asked for again over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DnsServer {
    pub(super) address: SocketAddr,
    pub(super) only_tcp: bool,
}

/// What is wrong with DNS settings.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadDns {
    /// Not a server.
    #[error("'{0}' is no DNS server; write an address, address:port, udp:address:port or tcp:address:port")]
    Server(String),
    /// Not a suffix.
    #[error("'{0}' is no DNS suffix; write a lower-case name such as corp.test, without dots at its ends")]
    Suffix(String),
    /// A suffix twice.
    #[error("the DNS suffix '{0}' is named twice; put its servers into one entry")]
    Twice(String),
    /// A suffix nobody answers for.
    #[error("the DNS suffix '{0}' has no servers; name one or leave the suffix out")]
    NoServers(String),
    /// Too many.
    #[error("there are at most {MAX_SUFFIXES} DNS suffixes, and at most {MAX_SERVERS} servers for each")]
    TooMany,
}

impl DnsSettings {
    /// Whether they fit together.
    ///
    /// # Errors
    /// [`BadDns`].
    pub fn check(&self) -> Result<(), BadDns> {
        let crowded = |servers: &[DnsServer]| servers.len() > MAX_SERVERS;
        if self.suffixes.len() > MAX_SUFFIXES
            || crowded(&self.servers)
            || self.suffixes.iter().any(|suffix| crowded(&suffix.servers))
        {
            return Err(BadDns::TooMany);
        }
        for (at, DnsSuffix { name, servers }) in self.suffixes.iter().enumerate() {
            if !is_name(name) {
                return Err(BadDns::Suffix(name.clone()));
            }
            if servers.is_empty() {
                return Err(BadDns::NoServers(name.clone()));
            }
            if self.suffixes.iter().skip(at + 1).any(|other| other.name == *name) {
                return Err(BadDns::Twice(name.clone()));
            }
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_');
    text.len() <= 253 && text.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(plain))
}

/// Whether `host` is `suffix` or a name below it.
pub(super) fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

impl FromStr for DnsServer {
    type Err = BadDns;

    fn from_str(text: &str) -> Result<Self, BadDns> {
        let (only_tcp, place) = match text.strip_prefix("tcp:") {
            Some(place) => (true, place),
            None => (false, text.strip_prefix("udp:").unwrap_or(text)),
        };
        let address: Option<SocketAddr> = place.parse().ok();
        let address = address.or_else(|| place.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, DNS_PORT)));
        match address {
            Some(address) if address.port() != 0 => Ok(Self { address, only_tcp }),
            _ => Err(BadDns::Server(text.to_owned())),
        }
    }
}

impl fmt::Display for DnsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", if self.only_tcp { "tcp" } else { "udp" }, self.address)
    }
}

impl TryFrom<String> for DnsServer {
    type Error = BadDns;

    fn try_from(text: String) -> Result<Self, BadDns> {
        text.parse()
    }
}

impl From<DnsServer> for String {
    fn from(server: DnsServer) -> String {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn servers_are_read_in_every_spelling_and_come_back_as_one() {
        for (text, told) in [
            ("10.0.0.53", "udp:10.0.0.53:53"),
            ("10.0.0.53:5353", "udp:10.0.0.53:5353"),
            ("udp:10.0.0.53:53", "udp:10.0.0.53:53"),
            ("tcp:[fd00::53]:53", "tcp:[fd00::53]:53"),
            ("tcp:fd00::53", "tcp:[fd00::53]:53"),
        ] {
            let server: DnsServer = text.parse().unwrap();
            assert_eq!(server.to_string(), told);
            assert_eq!(told.parse(), Ok(server));
        }
        for text in ["", "dns.corp.test", "10.0.0.53:0", "tls:10.0.0.53", "10.0.0.53:99999", "udp:tcp:10.0.0.53"] {
            assert_eq!(text.parse::<DnsServer>(), Err(BadDns::Server(text.to_owned())));
        }
    }

    #[test]
    fn settings_nobody_could_mean_are_refused() {
        let suffix = |name: &str, servers: usize| DnsSuffix { name: name.to_owned(), servers: vec![one(); servers] };
        let check = |suffixes| DnsSettings { servers: Vec::new(), suffixes }.check();
        assert_eq!(check(vec![suffix("corp.test", 1), suffix("lab.corp.test", 2)]), Ok(()));
        assert_eq!(check(vec![suffix("corp.test", 1), suffix("corp.test", 1)]), Err(BadDns::Twice("corp.test".into())));
        assert_eq!(check(vec![suffix("corp.test", 0)]), Err(BadDns::NoServers("corp.test".into())));
        assert_eq!(check(vec![suffix("corp.test", MAX_SERVERS + 1)]), Err(BadDns::TooMany));
        for name in [".corp.test", "corp.test.", "Corp.test", "", "corp..test"] {
            assert_eq!(check(vec![suffix(name, 1)]), Err(BadDns::Suffix(name.to_owned())));
        }
    }

    #[test]
    fn a_suffix_ends_at_a_dot() {
        assert!(is_below("corp.test", "corp.test") && is_below("a.b.corp.test", "corp.test"));
        assert!(!is_below("evilcorp.test", "corp.test") && !is_below("test", "corp.test"));
    }

    fn one() -> DnsServer {
        "10.0.0.53".parse().unwrap()
    }
}
