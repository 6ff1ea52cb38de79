//! Pairs of traffic classes: each pair has a connection of its own in a tunnel, so that a desktop never queues behind
//! a copy.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Which classes a connection of a tunnel carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassPair {
    /// `realtime` and `interactive`.
    Interactive,
    /// `default` and `iot`.
    #[default]
    Standard,
    /// `bulk` and `background`.
    Bulk,
}

impl ClassPair {
    /// Every pair, most urgent first.
    pub const ALL: [Self; 3] = [Self::Interactive, Self::Standard, Self::Bulk];

    /// Code point that marks its packets: AF41, CS0 or LE (RFC 4594 §3, RFC 8622).
    #[must_use]
    pub const fn dscp(self) -> u8 {
        match self {
            Self::Interactive => 34,
            Self::Standard => 0,
            Self::Bulk => 1,
        }
    }

    /// `SO_PRIORITY` of its sockets, 0 to 6.
    #[must_use]
    pub const fn socket_priority(self) -> u32 {
        match self {
            Self::Interactive => 6,
            Self::Standard => 0,
            Self::Bulk => 2,
        }
    }

    /// As in documents and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Standard => "standard",
            Self::Bulk => "bulk",
        }
    }
}

/// Not the name of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pair of classes is interactive, standard or bulk")]
pub struct NoPair;

impl FromStr for ClassPair {
    type Err = NoPair;

    fn from_str(text: &str) -> Result<Self, NoPair> {
        Self::ALL.into_iter().find(|pair| pair.as_str() == text).ok_or(NoPair)
    }
}

impl fmt::Display for ClassPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
