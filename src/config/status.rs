//! The page on which a connector tells how it is.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where nobody else is expected; OpenTelemetry's Prometheus exporters use it too.
const PORT: u16 = 9464;

/// The `[status]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StatusSection {
    /// Where `/health`, `/metrics` (Prometheus) and `/streams` answer: a loopback address with a port, or `off`.
    /// Nobody is asked who he is, so every account of this machine can look.
    #[schemars(with = "String")]
    pub(crate) listen: StatusListen,
}

/// Where the page answers, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum StatusListen {
    /// Nowhere.
    Off,
    /// On this loopback address.
    At(SocketAddr),
}

impl Default for StatusListen {
    fn default() -> Self {
        Self::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT))
    }
}

/// Why an address is none for the page.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadStatusListen {
    /// Neither `off` nor an address.
    #[error("status.listen is a loopback address with a port, such as 127.0.0.1:9464, or \"off\"")]
    Shape,
    /// Others could look.
    #[error(
        "status.listen = \"{0}\" is not on loopback; the page asks nobody who he is: put a proxy that does in front"
    )]
    Open(SocketAddr),
}

impl FromStr for StatusListen {
    type Err = BadStatusListen;

    fn from_str(text: &str) -> Result<Self, BadStatusListen> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address: SocketAddr = text.parse().map_err(|_| BadStatusListen::Shape)?;
        if address.ip().is_loopback() { Ok(Self::At(address)) } else { Err(BadStatusListen::Open(address)) }
    }
}

impl TryFrom<String> for StatusListen {
    type Error = BadStatusListen;

    fn try_from(text: String) -> Result<Self, BadStatusListen> {
        text.parse()
    }
}

impl From<StatusListen> for String {
    fn from(listen: StatusListen) -> Self {
        listen.to_string()
    }
}

impl fmt::Display for StatusListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_page_answers_on_loopback_or_nowhere() {
        for good in ["off", "127.0.0.1:9464", "127.8.9.1:1", "[::1]:80"] {
            assert_eq!(good.parse::<StatusListen>().unwrap().to_string(), good);
        }
        for bad in ["", "9464", "localhost:9464", "0.0.0.0:9464", "[::]:9464", "10.0.0.1:9464", "[::ffff:127.0.0.1]:1"]
        {
            assert!(bad.parse::<StatusListen>().is_err(), "{bad}");
        }
    }
}
