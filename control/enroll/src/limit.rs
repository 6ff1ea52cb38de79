//! How often something may be tried: a bounded table of fixed windows.

use std::{collections::HashMap, hash::Hash};

use sluice_node_identity::UnixTime;

/// How many tries in how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Tries.
    pub tries: u32,
    /// Length of the window, seconds.
    pub seconds: u64,
}

/// Counts tries by key. A full table refuses new keys instead of forgetting old ones.
#[derive(Clone, Debug)]
pub struct Limiter<K> {
    limit: Limit,
    capacity: usize,
    windows: HashMap<K, (UnixTime, u32)>,
}

impl<K: Eq + Hash> Limiter<K> {
    /// An empty table for at most `capacity` keys.
    #[must_use]
    pub fn new(limit: Limit, capacity: usize) -> Self {
        Self { limit, capacity, windows: HashMap::new() }
    }

    /// Counts a try.
    ///
    /// # Errors
    /// Seconds until the next one, when there were too many.
    pub fn attempt(&mut self, key: K, now: UnixTime) -> Result<(), u64> {
        let Limit { tries, seconds } = self.limit;
        if !self.windows.contains_key(&key) && self.windows.len() >= self.capacity {
            self.windows.retain(|_, (from, _)| now.since(*from) < seconds);
            if self.windows.len() >= self.capacity {
                return Err(seconds);
            }
        }
        let (from, count) = self.windows.entry(key).or_insert((now, 0));
        if now.since(*from) >= seconds {
            (*from, *count) = (now, 0);
        }
        if *count >= tries {
            return Err(seconds.saturating_sub(now.since(*from)).max(1));
        }
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Takes one try of `key` back (it was a good one).
    pub fn give_back(&mut self, key: &K) {
        if let Some((_, count)) = self.windows.get_mut(key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.windows.remove(key);
            }
        }
    }

    /// Forgets the tries of `key` (it succeeded).
    pub fn clear(&mut self, key: &K) {
        self.windows.remove(key);
    }
}
