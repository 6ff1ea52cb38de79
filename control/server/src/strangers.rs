//! Requests of one stranger that come to nothing.

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sluice_control_enroll::{Limit, Limiter};
use sluice_node_identity::UnixTime;
use sluice_node_places::stranger;

/// Requests for a certificate from one address that were refused, or are being judged: more than one address has
/// connections, so that a whole branch of hubs behind one may enrol at once.
const REFUSED: Limit = Limit { tries: 600, seconds: 60 };
/// Addresses remembered for it; a full memory refuses.
const REMEMBERED: usize = 50_000;

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
