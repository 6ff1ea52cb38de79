//! Where a proxy is, and what is asked of it.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// A web proxy: never with credentials in it, so that it can be logged.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proxy {
    /// Whether TLS is spoken to the proxy itself (`https://`).
    pub tls: bool,
    /// Name or address, in lower case, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Why a text is not a proxy's URL.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ProxyError {
    /// Another scheme than `http` or `https`.
    #[error("a proxy is http://host:port or https://host:port; {0:?} proxies are not spoken")]
    Scheme(String),
    /// Host or port.
    #[error("{0}")]
    Target(#[from] TargetError),
    /// A path, query or fragment that is more than `/`.
    #[error("a proxy's URL ends with its port")]
    Path,
    /// `user:password@` where it may not stand.
    #[error("credentials do not belong into the proxy's URL: name user and password_file instead")]
    Credentials,
}

impl Proxy {
    /// Reads `[http[s]://]host[:port][/]`; the usual port is the scheme's.
    ///
    /// # Errors
    /// [`ProxyError`]; also when there are credentials in it.
    pub fn read(text: &str) -> Result<Self, ProxyError> {
        let (tls, authority) = split(text)?;
        if authority.contains('@') {
            return Err(ProxyError::Credentials);
        }
        Self::at(tls, authority)
    }

    pub(crate) fn at(tls: bool, authority: &str) -> Result<Self, ProxyError> {
        let default = if tls { HTTPS } else { HTTP };
        let (host, port) = host_and_port(authority)?;
        Ok(Self { tls, host, port: port.unwrap_or(default) })
    }
}

/// Splits `[scheme://]authority[/]` into whether the scheme is `https` and the authority.
pub(crate) fn split(text: &str) -> Result<(bool, &str), ProxyError> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        other => return Err(ProxyError::Scheme(other.chars().take(MAX_SHOWN).collect())),
    };
    let (authority, path) = rest.split_once(['/', '?', '#']).map_or((rest, ""), |(front, back)| (front, back));
    if path.is_empty() && !rest.ends_with(['?', '#']) { Ok((tls, authority)) } else { Err(ProxyError::Path) }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", authority(&self.host, self.port))
    }
}

/// What shall be reached: a host that fits into a request line, and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    host: String,
    port: u16,
}

/// Why a host and port cannot be asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TargetError {
    /// Empty, too long, or with characters that no name has.
    #[error("{0:?} is not a host name or address")]
    Host(String),
    /// Not a number, or 0.
    #[error("{0:?} is not a port")]
    Port(String),
}

impl Target {
    /// A target; the host is a name, an IPv4 address or an IPv6 address without brackets.
    ///
    /// # Errors
    /// [`TargetError`]: nothing that could end the request line early gets through.
    pub fn new(host: &str, port: u16) -> Result<Self, TargetError> {
        if port == 0 {
            return Err(TargetError::Port("0".to_owned()));
        }
        Ok(Self { host: host_name(host)?, port })
    }

    /// Reads `host[:port]`; an address of IPv6 stands in brackets when a port follows.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn with_default_port(text: &str, port: u16) -> Result<Self, TargetError> {
        let (host, named) = host_and_port(text)?;
        Self::new(&host, named.unwrap_or(port))
    }

    /// The host, in lower case, without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host when it is an address.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (host, port) = host_and_port(text)?;
        Self::new(&host, port.ok_or_else(|| TargetError::Port(String::new()))?)
    }
}

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Splits `host[:port]` or `[v6][:port]`. A bare IPv6 address has no port.
pub(crate) fn host_and_port(text: &str) -> Result<(String, Option<u16>), TargetError> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(|| bad_host(text))?;
        let address = host.parse::<std::net::Ipv6Addr>().map_err(|_| bad_host(text))?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(read_port(port)?),
            None if rest.is_empty() => None,
            None => return Err(bad_host(text)),
        };
        return Ok((address.to_string(), port));
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok((host_name(text)?, None));
    }
    match text.split_once(':') {
        Some((host, port)) => Ok((host_name(host)?, Some(read_port(port)?))),
        None => Ok((host_name(text)?, None)),
    }
}

pub(crate) fn read_port(text: &str) -> Result<u16, TargetError> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err(TargetError::Port(text.chars().take(MAX_SHOWN).collect())) } else { Ok(port) }
}

/// A host in one spelling: lower case, no dot at the end.
fn host_name(text: &str) -> Result<String, TargetError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let labels = name.split('.').all(|label| !label.is_empty() && label.len() <= MAX_LABEL);
    if name.is_empty() || name.len() > MAX_NAME || !labels || !name.bytes().all(fits) {
        return Err(bad_host(text));
    }
    Ok(name.to_ascii_lowercase())
}

fn bad_host(text: &str) -> TargetError {
    TargetError::Host(text.chars().take(MAX_SHOWN).collect())
}

/// Port of `http://` without one.
const HTTP: u16 = 80;
/// Port of `https://` without one.
const HTTPS: u16 = 443;
/// Longest name (RFC 1035 §2.3.4), bytes.
const MAX_NAME: usize = 253;
/// Longest label, bytes.
const MAX_LABEL: usize = 63;
/// How much of somebody's text an error repeats, characters.
const MAX_SHOWN: usize = 64;
