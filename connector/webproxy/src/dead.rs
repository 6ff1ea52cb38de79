//! Which proxies did not answer lately.

use std::{collections::BTreeMap, time::Duration};

use crate::{choice::Way, place::Proxy};

/// Remembers proxies that failed for a while, so that not every connection waits for them first. Times are since any
/// fixed start, never going back.
#[derive(Clone, Debug, Default)]
pub struct Dead(BTreeMap<Proxy, Duration>);

impl Dead {
    /// Notes that `proxy` could not be reached at `now`.
    pub fn bury(&mut self, proxy: &Proxy, now: Duration) {
        self.0.retain(|_, until| *until > now);
        if self.0.len() < MAX_DEAD || self.0.contains_key(proxy) {
            self.0.insert(proxy.clone(), now.saturating_add(DEAD_FOR));
        }
    }

    /// Notes that `proxy` answered.
    pub fn revive(&mut self, proxy: &Proxy) {
        self.0.remove(proxy);
    }

    /// Puts the dead last, keeping the order otherwise: when all are dead, all are tried.
    #[must_use]
    pub fn order(&self, ways: &[Way], now: Duration) -> Vec<Way> {
        let dead = |way: &&Way| match way {
            Way::Direct => false,
            Way::Proxy(proxy) => self.0.get(proxy).is_some_and(|until| *until > now),
        };
        let (last, first): (Vec<&Way>, Vec<&Way>) = ways.iter().partition(dead);
        first.into_iter().chain(last).cloned().collect()
    }
}

/// How long a proxy stays dead.
const DEAD_FOR: Duration = Duration::from_secs(60);
/// Most dead proxies remembered.
const MAX_DEAD: usize = 64;
