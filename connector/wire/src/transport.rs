//! What a tunnel connection runs over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Both use port 443 and the same ALPN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TLS 1.3 over TCP, streams multiplexed by yamux; the only one that passes a web proxy.
    Tcp,
    /// QUIC over UDP, with its own streams and datagrams.
    Quic,
}

impl Transport {
    /// The one that is tried beside this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Tcp => Self::Quic,
            Self::Quic => Self::Tcp,
        }
    }

    /// As in documents and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Quic => "quic",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
