//! One port or a range of ports.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Ports from `from` to `to`, both included. In JSON one port is a number, a range `{"from", "to"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// First port.
    pub from: u16,
    /// Last port.
    pub to: u16,
}

/// Not ports.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("ports are one from 1 to 65535, or a range such as 1433-1434 with the lower one first")]
pub struct BadPorts;

impl Ports {
    /// Whether `port` is among them.
    #[must_use]
    pub const fn contain(self, port: u16) -> bool {
        self.from <= port && port <= self.to
    }

    /// Whether the lower one stands first and is a port at all.
    #[must_use]
    pub const fn is_sound(self) -> bool {
        0 < self.from && self.from <= self.to
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self { from: port, to: port }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}-{}", self.from, self.to) }
    }
}

impl FromStr for Ports {
    type Err = BadPorts;

    fn from_str(text: &str) -> Result<Self, BadPorts> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain).ok_or(BadPorts)
        };
        let ports = Self { from: port(from)?, to: port(to)? };
        if ports.is_sound() { Ok(ports) } else { Err(BadPorts) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    from: u16,
    to: u16,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Wire {
    One(u16),
    Range(Range),
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { from, to } = *self;
        if from == to { Wire::One(from) } else { Wire::Range(Range { from, to }) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Wire::deserialize(deserializer)? {
            Wire::One(port) => port.into(),
            Wire::Range(Range { from, to }) => Self { from, to },
        })
    }
}
