//! Router advertisements for the hub LAN (RFC 4861 §4.2, RFC 8106 §5.1).

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;
use thiserror::Error;

use crate::Mac;

/// ICMPv6 type of a router solicitation.
const SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement.
const ADVERTISEMENT: u8 = 134;
/// Hop limit recommended to hosts.
const HOP_LIMIT: u8 = 64;
/// How often to advertise unasked, seconds.
pub const INTERVAL_SECONDS: u16 = 60;
/// Shortest time between two advertisements, seconds (RFC 4861 §6.2.6).
pub const MIN_DELAY_SECONDS: u64 = 3;
/// How long hosts go on without hearing us, seconds.
const ROUTER_LIFETIME: u16 = INTERVAL_SECONDS * 10;
/// How long an address made from our prefix is valid, and preferred, seconds.
const PREFIX_LIFETIMES: (u32, u32) = (7200, 1800);

/// Hosts make addresses only from /64 prefixes (RFC 4862 §5.5.3).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the LAN's IPv6 prefix must be a /64 and neither link-local nor multicast, not {0}")]
pub struct BadPrefix(pub Ipv6Network);

/// What to tell hosts. [`Advert::lifetime`] 0 says goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advert {
    prefix: Ipv6Network,
    mac: Mac,
    lifetime: u16,
}

impl Advert {
    /// `lan` is the edge's own address in its /64: it is the resolver too.
    ///
    /// # Errors
    /// [`BadPrefix`] when hosts could not make addresses from it.
    pub fn new(lan: Ipv6Network, mac: Mac) -> Result<Self, BadPrefix> {
        if lan.prefix() != 64 || lan.ip().is_multicast() || lan.ip().is_unicast_link_local() {
            return Err(BadPrefix(lan));
        }
        Ok(Self { prefix: lan, mac, lifetime: ROUTER_LIFETIME })
    }

    /// The last one, sent when the edge stops: hosts drop us as router at once.
    #[must_use]
    pub const fn farewell(self) -> Self {
        Self { lifetime: 0, ..self }
    }

    /// The ICMPv6 message; its checksum is 0, the kernel fills it in.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, 0];
        bytes.extend(self.lifetime.to_be_bytes());
        bytes.extend([0; 8]); // Reachable and retransmission times: unspecified.
        bytes.extend([1, 1]);
        bytes.extend(self.mac.bytes());
        bytes.extend([3, 4, 64, 0b1100_0000]);
        bytes.extend(PREFIX_LIFETIMES.0.to_be_bytes());
        bytes.extend(PREFIX_LIFETIMES.1.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.prefix.network().octets());
        bytes.extend([25, 3, 0, 0]);
        bytes.extend(u32::from(self.lifetime).to_be_bytes());
        bytes.extend(self.prefix.ip().octets());
        bytes
    }
}

/// Whether an ICMPv6 message from `source` asks for an advertisement (RFC 4861 §6.1.1).
#[must_use]
pub fn is_solicitation(message: &[u8], source: Ipv6Addr) -> bool {
    let [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = message else { return false };
    let mut rest = options;
    while let [kind, length, ..] = rest {
        let size = usize::from(*length) * 8;
        if size == 0 || (*kind == 1 && source.is_unspecified()) {
            return false;
        }
        let Some((_, tail)) = rest.split_at_checked(size) else { return false };
        rest = tail;
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn advert() -> Advert {
        Advert::new("2001:db8:77::1/64".parse().unwrap(), "02:00:00:00:00:01".parse().unwrap()).unwrap()
    }

    #[test]
    fn the_bytes_are_those_of_the_rfcs() {
        let bytes = advert().bytes();
        assert_eq!(bytes.len(), 16 + 8 + 32 + 24);
        assert_eq!(bytes[..8], [134, 0, 0, 0, 64, 0, 2, 88]);
        assert_eq!(bytes[16..24], [1, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[24..28], [3, 4, 64, 0xc0]);
        assert_eq!(bytes[40..56], "2001:db8:77::".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(bytes[56..58], [25, 3]);
        assert_eq!(bytes[64..], "2001:db8:77::1".parse::<Ipv6Addr>().unwrap().octets());
        assert_eq!(advert().farewell().bytes()[6..8], [0, 0]);
    }

    #[test]
    fn odd_prefixes_are_refused() {
        for lan in ["2001:db8::1/63", "fe80::1/64", "ff02::1/64", "2001:db8::1/128"] {
            assert!(Advert::new(lan.parse().unwrap(), "02:00:00:00:00:01".parse().unwrap()).is_err(), "{lan}");
        }
    }

    #[test]
    fn solicitations_are_told_from_noise() {
        let host: Ipv6Addr = "fe80::2".parse().unwrap();
        assert!(is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0], host));
        assert!(is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 2], host));
        assert!(!is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 2], Ipv6Addr::UNSPECIFIED));
        assert!(!is_solicitation(&[133, 0, 0, 0, 0, 0, 0, 0, 1, 0], host));
        assert!(!is_solicitation(&[134, 0, 0, 0, 0, 0, 0, 0], host));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start: bool) {
            let bytes = if start { [&[133, 0, 0, 0, 0, 0, 0, 0], &bytes[..]].concat() } else { bytes };
            let _any = is_solicitation(&bytes, Ipv6Addr::UNSPECIFIED);
        }
    }
}
