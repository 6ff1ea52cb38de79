//! Bounds per stranger: connections at a time, login attempts a minute.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::Limits;

/// Most addresses or names whose attempts are remembered; beyond it everybody waits.
const MAX_KEYS: usize = 65_536;

/// Who counts as one stranger: an IPv4 address, or an IPv6 /64 (a whole one is anybody's to use).
pub(crate) fn stranger(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Connections at a time, by stranger.
#[derive(Clone, Debug)]
pub(crate) struct PerAddress {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
}

impl PerAddress {
    pub(crate) fn new(most: usize) -> Self {
        Self { counts: Arc::default(), most }
    }

    /// A place for one more connection, if there is one.
    pub(crate) fn enter(&self, address: IpAddr) -> Option<Place> {
        let key = stranger(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_default();
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { counts: self.counts.clone(), key })
    }
}

/// A place that is held.
#[derive(Debug)]
pub(crate) struct Place {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    key: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

/// Login attempts a minute, by stranger and by name.
pub(crate) struct LoginLimits {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    by_name: DefaultKeyedRateLimiter<String>,
}

impl LoginLimits {
    pub(crate) fn new(limits: &Limits) -> Self {
        let quota = |a_minute: u32| Quota::per_minute(NonZeroU32::new(a_minute).unwrap_or(NonZeroU32::MIN));
        Self {
            by_address: RateLimiter::keyed(quota(limits.logins_per_address)),
            by_name: RateLimiter::keyed(quota(limits.logins_per_name)),
        }
    }

    /// Whether this attempt may be made.
    pub(crate) fn allow(&self, address: IpAddr, login: &str) -> bool {
        if self.by_address.len() >= MAX_KEYS || self.by_name.len() >= MAX_KEYS {
            self.by_address.retain_recent();
            self.by_name.retain_recent();
        }
        if self.by_address.len() >= MAX_KEYS || self.by_name.len() >= MAX_KEYS {
            return false;
        }
        self.by_address.check_key(&stranger(address)).is_ok()
            && self.by_name.check_key(&login.trim().to_lowercase()).is_ok()
    }
}

/// How long somebody who was refused by [`LoginLimits`] should wait.
pub(crate) const LOGIN_WAIT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    #[test]
    fn one_stranger_cannot_take_all_places() {
        let places = PerAddress::new(2);
        let address = "2001:db8::1".parse().unwrap();
        let neighbour = "2001:db8::2".parse().unwrap();
        let first = places.enter(address).unwrap();
        let _second = places.enter(neighbour).unwrap();
        assert!(places.enter(address).is_none(), "the same /64");
        assert!(places.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
        drop(first);
        assert!(places.enter(address).is_some());
        drop(_second);
        assert!(places.counts.lock().unwrap().is_empty(), "nothing is kept of those who left");
    }

    #[test]
    fn guessing_is_slowed_by_address_and_by_name() {
        let limits = Limits { logins_per_address: 3, logins_per_name: 2, ..Limits::default() };
        let logins = LoginLimits::new(&limits);
        let at = |n: u8| IpAddr::from([192, 0, 2, n]);
        assert!(logins.allow(at(1), "bob") && logins.allow(at(2), " BOB "));
        assert!(!logins.allow(at(3), "bob"), "one name from many addresses");
        assert!(logins.allow(at(4), "a") && logins.allow(at(4), "b") && logins.allow(at(4), "c"));
        assert!(!logins.allow(at(4), "d"), "many names from one address");
    }
}
