//! What an [`EdgeDocument`] must satisfy before any of it is applied.

use std::net::IpAddr;

use hickory_proto::rr::Name;
use thiserror::Error;

use crate::{EdgeDocument, HubClass};

/// Most hub classes of a tenant.
pub const MAX_CLASSES: usize = 256;
/// Most pinholes of staging.
pub const MAX_STAGING: usize = 256;
/// Most addresses of the EST host: all of one family fit one plain DNS answer.
pub const MAX_ADDRESSES: usize = 16;
/// Longest discovery URL, bytes: options 43, 114 and 143 carry it in one option each.
const MAX_URL: usize = 250;
/// Longest vendor class, bytes: what one option 60 can hold.
const MAX_VENDOR_CLASS: usize = 255;

/// Why a document is refused as a whole.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum DocumentError {
    /// A list is longer than an edge holds.
    #[error("{what} has {have} entries, an edge takes at most {limit}; remove some")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// Its length.
        have: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// A class would match every device, or none.
    #[error("hub class \"{0}\" needs a vendor_class of 1 to {MAX_VENDOR_CLASS} bytes")]
    VendorClass(String),
    /// Not a DNS name.
    #[error("{what} \"{name}\" is not a host name with at least two labels")]
    Host {
        /// Which field.
        what: &'static str,
        /// What it holds.
        name: String,
    },
    /// Hubs only follow `https`.
    #[error("discovery_url must start with https:// and be at most {MAX_URL} printable ASCII characters")]
    DiscoveryUrl,
    /// The address would open a hole to the edge itself or to everybody.
    #[error("staging destination or EST address {0} is not the address of one other host")]
    Address(IpAddr),
    /// Port 0.
    #[error("staging destination {0} needs a port from 1 to 65535")]
    Port(IpAddr),
}

impl EdgeDocument {
    /// Checks the whole document; nothing of a refused one is applied.
    ///
    /// # Errors
    /// [`DocumentError`], the first thing found.
    pub fn check(&self) -> Result<(), DocumentError> {
        at_most("classes", self.classes.len(), MAX_CLASSES)?;
        at_most("staging", self.staging.len(), MAX_STAGING)?;
        at_most("service.est_addresses", self.service.est_addresses.len(), MAX_ADDRESSES)?;
        for class in &self.classes {
            if class.vendor_class.is_empty() || class.vendor_class.len() > MAX_VENDOR_CLASS {
                return Err(DocumentError::VendorClass(class.name.clone()));
            }
        }
        host("service.est_host", &self.service.est_host)?;
        host("service.checkin_host", &self.service.checkin_host)?;
        let url = &self.service.discovery_url;
        if !url.starts_with("https://") || url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(DocumentError::DiscoveryUrl);
        }
        let pinholes = self.staging.iter().map(|destination| destination.address);
        for address in pinholes.chain(self.service.est_addresses.iter().copied()) {
            if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
                return Err(DocumentError::Address(address));
            }
        }
        match self.staging.iter().find(|destination| destination.port == 0) {
            Some(destination) => Err(DocumentError::Port(destination.address)),
            None => Ok(()),
        }
    }

    /// The class of a device that sent `vendor_class` as DHCP option 60; the first match counts.
    #[must_use]
    pub fn class_of(&self, vendor_class: &[u8]) -> Option<&HubClass> {
        self.classes.iter().find(|class| vendor_class.starts_with(class.vendor_class.as_bytes()))
    }
}

const fn at_most(what: &'static str, have: usize, limit: usize) -> Result<(), DocumentError> {
    if have > limit { Err(DocumentError::TooMany { what, have, limit }) } else { Ok(()) }
}

fn host(what: &'static str, name: &str) -> Result<(), DocumentError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    match Name::from_ascii(name) {
        Ok(parsed) if plain && parsed.num_labels() >= 2 && !name.ends_with('.') => Ok(()),
        _ => Err(DocumentError::Host { what, name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use crate::document::sample;

    type Spoil = fn(&mut EdgeDocument);

    #[test]
    fn the_sample_is_accepted_and_each_fault_refused() {
        sample().check().unwrap();
        let faults: [(&str, Spoil); 10] = [
            ("empty class", |d| d.classes[0].vendor_class.clear()),
            ("long class", |d| d.classes[0].vendor_class = "x".repeat(256)),
            ("many classes", |d| d.classes = vec![d.classes[0].clone(); MAX_CLASSES + 1]),
            ("many pinholes", |d| d.staging = vec![d.staging[0].clone(); MAX_STAGING + 1]),
            ("http url", |d| d.service.discovery_url = "http://est.acme.test".into()),
            ("url with a line break", |d| d.service.discovery_url = "https://a\r\nb".into()),
            ("one label", |d| d.service.est_host = "localhost".into()),
            ("blank in a name", |d| d.service.checkin_host = "a b.test".into()),
            ("loopback pinhole", |d| d.staging[0].address = "127.0.0.1".parse().unwrap()),
            ("port zero", |d| d.staging[0].port = 0),
        ];
        for (what, spoil) in faults {
            let mut document = sample();
            spoil(&mut document);
            assert!(document.check().is_err(), "{what}");
        }
    }

    #[test]
    fn the_first_matching_class_counts() {
        let document = sample();
        assert_eq!(document.class_of(b"SluiceHub:m7").unwrap().name, "Sluice hub");
        assert_eq!(document.class_of(b"SluiceHu"), None);
        assert_eq!(document.class_of(b""), None);
        assert_eq!(document.class_of(b"sluicehub:m7"), None);
    }
}
