//! What an address is (IANA special-purpose registries, RFC 6890), whichever way it is spelled.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnetwork::IpNetwork;

/// What an address is, and so how it must be named to be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Anybody's: needs no naming.
    Public,
    /// Private, shared (CGNAT), unique local, benchmarking: any named network that holds it will do.
    Own,
    /// This machine: only a named network that lies wholly in the loopback range.
    Loopback,
    /// This link: only a named network that lies wholly in the link-local range.
    LinkLocal,
    /// Where clouds hand out machine credentials: only when named alone (`/32`, `/128`).
    Metadata,
    /// Unspecified, multicast, broadcast, reserved, tunnelled: never.
    Never,
}

impl Kind {
    /// What `address` is. IPv4 inside IPv6 (mapped, compatible, NAT64, 6to4, ISATAP) is judged by the IPv4 address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    /// What to do about a refusal.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Public => "nothing needs to be named",
            Self::Own => "name its network to allow it",
            Self::Loopback | Self::LinkLocal => "name that range itself to allow it",
            Self::Metadata => "name it alone (/32 or /128) to allow it",
            Self::Never => "it can never be dialled",
        }
    }

    /// Whether `network` is enough to let `address`, which is of this kind, pass.
    pub(crate) fn is_named_by(self, address: IpAddr, network: &IpNetwork) -> bool {
        let holds = network.contains(address);
        match self {
            Self::Public => true,
            Self::Own => holds,
            // A default route named carelessly must not open these.
            Self::Loopback | Self::LinkLocal => {
                holds && Self::of(network.network()) == self && Self::of(network.broadcast()) == self
            }
            Self::Metadata => holds && network.prefix() == if address.is_ipv4() { 32 } else { 128 },
            Self::Never => false,
        }
    }

    fn of_v4(v4: Ipv4Addr) -> Self {
        let [a, b, c, _] = v4.octets();
        if METADATA_V4.contains(&v4) {
            return Self::Metadata;
        }
        match (a, b, c) {
            (0 | 224..=255, ..) => Self::Never,
            (127, ..) => Self::Loopback,
            (169, 254, _) => Self::LinkLocal,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) => Self::Own,
            (100, 64..=127, _) | (198, 18..=19, _) | (192, 0, 0) => Self::Own,
            _ => Self::Public,
        }
    }

    fn of_v6(v6: Ipv6Addr) -> Self {
        if METADATA_V6.contains(&v6) {
            return Self::Metadata;
        }
        if let Some(inner) = embedded(v6) {
            return match Self::of_v4(inner) {
                Self::Public => Self::Public,
                // The spelling goes through a translator: it is never our own loopback or link.
                Self::Metadata => Self::Metadata,
                _ => Self::Never,
            };
        }
        match v6.segments() {
            [0, 0, 0, 0, 0, 0, 0, 1] => Self::Loopback,
            [0, ..] | [0xff00..=0xffff, ..] | [0x2001, 0, ..] | [0x100, 0, 0, 0, ..] => Self::Never,
            [0xfe80..=0xfebf, ..] => Self::LinkLocal,
            [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] | [0x64, 0xff9b, 1, ..] => Self::Own,
            _ => Self::Public,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Own => "in a private network",
            Self::Loopback => "this machine itself",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata service",
            Self::Never => "an address with a special meaning",
        })
    }
}

/// The IPv4 address inside an IPv6 one: NAT64 (RFC 6052), 6to4 (RFC 3056), IPv4-compatible (RFC 4291 §2.5.5.1),
/// ISATAP (RFC 5214 §6.1). Mapped ones were made canonical before.
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => join(high, low),
        [0x2002, high, low, ..] => join(high, low),
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0, high, low] => join(high, low),
        [.., 0 | 0x200, 0x5efe, high, low] => join(high, low),
        _ => None,
    }
}

/// AWS (also its DNS, NTP, ECS, EKS), Google, Azure and others use 169.254.169.254; Azure's wire server, Oracle's
/// and Alibaba's are elsewhere.
const METADATA_V4: [Ipv4Addr; 8] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 169, 123),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(100, 100, 100, 200),
];
const METADATA_V6: [Ipv6Addr; 4] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];
