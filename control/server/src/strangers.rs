//! What one stranger may take: connections at a time, and requests that come to nothing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_control_enroll::{Limit, Limiter};
use sluice_node_identity::UnixTime;

/// Requests for a certificate from one address that were refused, or are being judged: more than one address has
/// connections, so that a whole branch of hubs behind one may enrol at once.
const REFUSED: Limit = Limit { tries: 600, seconds: 60 };
/// Addresses remembered for it; a full memory refuses.
const REMEMBERED: usize = 50_000;

/// Who counts as one stranger: an IPv4 address, or an IPv6 /64 (a whole one is anybody's to use).
fn stranger(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Connections at a time, by stranger. As long as connections in all: the table needs no bound of its own.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    stranger: IpAddr,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place, unless `address` has as many as it may.
    pub(crate) fn take(&self, address: IpAddr) -> Option<Place> {
        let stranger = stranger(address);
        let mut taken = self.lock();
        let count = taken.entry(stranger).or_default();
        // A new entry is below any limit but 0, which configuration refuses.
        if *count >= self.most {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Place { places: self.clone(), stranger })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let left = taken.get(&self.stranger).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.stranger);
        } else {
            taken.insert(self.stranger, left);
        }
    }
}

/// Requests for certificates, by stranger. Those that are granted do not count.
#[derive(Debug)]
pub(crate) struct Asked(Mutex<Limiter<IpAddr>>);

impl Default for Asked {
    fn default() -> Self {
        Self(Mutex::new(Limiter::new(REFUSED, REMEMBERED)))
    }
}

impl Asked {
    /// Counts a request before anything is done for it.
    ///
    /// # Errors
    /// Seconds until the next one, when too many were refused.
    pub(crate) fn begin(&self, address: IpAddr, now: UnixTime) -> Result<(), u64> {
        self.lock().attempt(stranger(address), now)
    }

    /// It was granted: it never counted.
    pub(crate) fn granted(&self, address: IpAddr) {
        self.lock().give_back(&stranger(address));
    }

    fn lock(&self) -> MutexGuard<'_, Limiter<IpAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn places_are_given_back_and_a_network_counts_as_one() {
        let places = Places::new(2);
        let at = |text: &str| places.take(text.parse().unwrap());
        let (first, _second) = (at("2001:db8::1").unwrap(), at("2001:db8::2").unwrap());
        assert!(at("2001:db8::3").is_none(), "the same /64");
        let _others = (at("2001:db8:0:1::1").unwrap(), at("192.0.2.1").unwrap(), at("::ffff:192.0.2.1").unwrap());
        assert!(at("192.0.2.1").is_none());
        drop(first);
        drop(at("2001:db8::9").unwrap());
        drop(_others);
        assert_eq!(places.lock().len(), 1, "who has no connection is forgotten");
    }

    #[test]
    fn only_refused_requests_count() {
        let asked = Asked::default();
        let (address, now) = ("192.0.2.1".parse().unwrap(), UnixTime(1000));
        for _ in 0..2 * REFUSED.tries {
            asked.begin(address, now).unwrap();
            asked.granted(address);
        }
        for _ in 0..REFUSED.tries {
            asked.begin(address, now).unwrap();
        }
        assert_eq!(asked.begin(address, now), Err(REFUSED.seconds));
        asked.begin("192.0.2.2".parse().unwrap(), now).unwrap();
        asked.begin(address, now.plus(REFUSED.seconds)).unwrap();
    }
}
