//! Names of interfaces: checked once, then safe to print into kernel scripts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

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
