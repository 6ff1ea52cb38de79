//! Ethernet addresses.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A unicast Ethernet address, written `aa:bb:cc:dd:ee:ff`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

/// Why bytes or text are not the address of one device.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("an Ethernet address is six hexadecimal bytes (aa:bb:cc:dd:ee:ff), not a group's and not all zero")]
pub struct BadMac;

impl Mac {
    /// Checks that `bytes` name one device.
    ///
    /// # Errors
    /// [`BadMac`] for group addresses (broadcast among them) and for zero.
    pub const fn new(bytes: [u8; 6]) -> Result<Self, BadMac> {
        if bytes[0] & 1 == 1 || matches!(bytes, [0, 0, 0, 0, 0, 0]) { Err(BadMac) } else { Ok(Self(bytes)) }
    }

    /// The six bytes.
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl TryFrom<&[u8]> for Mac {
    type Error = BadMac;

    fn try_from(bytes: &[u8]) -> Result<Self, BadMac> {
        Self::new(bytes.try_into().map_err(|_| BadMac)?)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().ok_or(BadMac)?;
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        if parts.next().is_some() { Err(BadMac) } else { Self::new(bytes) }
    }
}

impl TryFrom<String> for Mac {
    type Error = BadMac;

    fn try_from(text: String) -> Result<Self, BadMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_zero_and_odd_spellings_are_refused() {
        for text in [
            "",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:00:00:00:00",
            "02:00:00:00:00:01:02",
            "+2:00:00:00:00:01",
            "2:0:0:0:0:1",
            "02-00-00-00-00-01",
        ] {
            assert_eq!(text.parse::<Mac>(), Err(BadMac), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(bytes: [u8; 6]) {
            if let Ok(mac) = Mac::new(bytes) {
                prop_assert_eq!(mac.to_string().parse::<Mac>(), Ok(mac));
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.to_string(), text.to_lowercase());
            }
        }
    }
}
