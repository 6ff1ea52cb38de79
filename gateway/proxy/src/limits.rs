//! Login attempts a minute, by stranger and by name.

use std::{net::IpAddr, num::NonZeroU32, time::Duration};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sluice_node_places::stranger;

use crate::Limits;

/// Most addresses or names whose attempts are remembered; beyond it everybody waits.
const MAX_KEYS: usize = 65_536;

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
