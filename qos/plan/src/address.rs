//! Names that may appear in kernel scripts: checked once, then safe to print into them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An Ethernet address; prints as `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// Not six hex pairs with colons.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a MAC address is six pairs of hex digits with colons")]
pub struct BadMac;

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(BadMac)?;
            if !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Ok(Self(bytes)) }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// A network interface's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Not a name the kernel gives to interfaces (or one that would need quoting).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an interface name is 1 to 15 letters, digits, '.', '_', '-' or '@', starting with a letter or digit")]
pub struct BadInterface;

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = BadInterface;

    fn from_str(text: &str) -> Result<Self, BadInterface> {
        let first_ok = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let rest_ok =
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@'));
        if first_ok && rest_ok && text.len() <= 15 { Ok(Self(text.to_owned())) } else { Err(BadInterface) }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = BadInterface;

    fn try_from(text: String) -> Result<Self, BadInterface> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}
