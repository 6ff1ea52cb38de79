//! The addresses a DHCP server may give, and what goes with them.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use thiserror::Error;

/// Most addresses in a pool. It bounds the lease table.
pub const MAX_POOL: u32 = 8192;
/// Shortest and longest lease, seconds.
const LEASE_SECONDS: (u32, u32) = (120, 7 * 24 * 3600);
/// Most NTP servers and longest domain: what one option each can hold.
const MAX_NTP: usize = 16;

/// A checked pool and its surroundings. The edge itself is router and resolver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub(super) server: Ipv4Addr,
    pub(super) network: Ipv4Network,
    first: u32,
    size: u32,
    pub(super) lease_seconds: u32,
    pub(super) ntp: Vec<Ipv4Addr>,
    pub(super) domain: Option<String>,
}

/// Why a pool is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ScopeError {
    /// First after last, or outside the LAN's prefix.
    #[error("the pool must lie inside the LAN's IPv4 prefix, first address before last")]
    Range,
    /// Network, broadcast or the edge's own address is inside.
    #[error("the pool must not contain the edge's own address, nor the network's first or last address")]
    Reserved,
    /// Too many addresses.
    #[error("a pool has at most {MAX_POOL} addresses")]
    Size,
    /// Lease time out of bounds.
    #[error("lease_seconds must be from {} to {}", LEASE_SECONDS.0, LEASE_SECONDS.1)]
    Lease,
    /// Too many servers or too long a name.
    #[error("at most {MAX_NTP} NTP servers, and a domain of at most 253 characters")]
    Extras,
}

impl Scope {
    /// Addresses `first..=last` of the LAN whose prefix is `lan` as the edge's own address in it.
    ///
    /// # Errors
    /// [`ScopeError`] when the pool could not be served.
    pub fn new(lan: Ipv4Network, first: Ipv4Addr, last: Ipv4Addr, lease_seconds: u32) -> Result<Self, ScopeError> {
        if first > last || !lan.contains(first) || !lan.contains(last) || lan.prefix() > 30 {
            return Err(ScopeError::Range);
        }
        if [lan.ip(), lan.network(), lan.broadcast()].iter().any(|own| (first..=last).contains(own)) {
            return Err(ScopeError::Reserved);
        }
        let size = last.to_bits() - first.to_bits() + 1;
        if size > MAX_POOL {
            return Err(ScopeError::Size);
        }
        if !(LEASE_SECONDS.0..=LEASE_SECONDS.1).contains(&lease_seconds) {
            return Err(ScopeError::Lease);
        }
        let (server, first) = (lan.ip(), first.to_bits());
        Ok(Self { server, network: lan, first, size, lease_seconds, ntp: Vec::new(), domain: None })
    }

    /// Adds what options 42 and 15 say.
    ///
    /// # Errors
    /// [`ScopeError::Extras`] when they do not fit an option.
    pub fn with_extras(mut self, ntp: Vec<Ipv4Addr>, domain: Option<String>) -> Result<Self, ScopeError> {
        if ntp.len() > MAX_NTP || domain.as_ref().is_some_and(|name| name.len() > 253) {
            return Err(ScopeError::Extras);
        }
        (self.ntp, self.domain) = (ntp, domain);
        Ok(self)
    }

    /// How many addresses there are.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// Whether `address` may be leased.
    #[must_use]
    pub fn pool_contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits().checked_sub(self.first).is_some_and(|offset| offset < self.size)
    }

    /// The pool's addresses, each once, starting at a place that depends on `seed` only.
    pub(super) fn addresses_from(&self, seed: u64) -> impl Iterator<Item = Ipv4Addr> {
        let size = self.size;
        let start = u32::try_from(seed % u64::from(size)).unwrap_or(0);
        let first = self.first;
        (0..size).map(move |step| Ipv4Addr::from_bits(first + (start + step) % size))
    }
}
