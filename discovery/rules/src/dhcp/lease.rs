//! The lease table: one address per device, as stable as the pool allows, never more entries than addresses.

use std::{collections::BTreeMap, net::Ipv4Addr};

use sluice_node_identity::UnixTime;

use super::Scope;
use crate::Mac;

/// How long an offer waits for its request, seconds.
pub(super) const OFFER_SECONDS: u64 = 30;
/// How long a declined address is left alone, seconds.
pub(super) const DECLINE_SECONDS: u64 = 600;
/// Addresses one device may have in that state.
const MAX_DECLINED_PER_MAC: usize = 2;
/// Answers one device gets per window, and the window, seconds.
const ANSWERS: (u8, u64) = (20, 10);

/// A device may no longer use an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ended {
    /// Whose lease it was.
    pub mac: Mac,
    /// Of what.
    pub address: Ipv4Addr,
}

/// A lease in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Whose.
    pub mac: Mac,
    /// Good until this second, exclusive.
    pub until: UnixTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered,
    Bound,
    /// Free for anybody, kept for its last holder as long as nobody needs it.
    Past,
    Declined,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Mac,
    until: UnixTime,
    state: State,
    answers: u8,
    window: UnixTime,
}

/// Every entry's key is an address of the pool; `of_mac` names each device's one entry that is not `Declined`.
#[derive(Debug, Default)]
pub(super) struct Leases {
    entries: BTreeMap<Ipv4Addr, Entry>,
    of_mac: BTreeMap<Mac, Ipv4Addr>,
    swept: UnixTime,
}

impl Leases {
    /// Ends what is over. Looks at the table at most once a second.
    pub(super) fn sweep(&mut self, now: UnixTime) -> Vec<Ended> {
        if now == self.swept {
            return Vec::new();
        }
        self.swept = now;
        let mut ended = Vec::new();
        let of_mac = &mut self.of_mac;
        self.entries.retain(|address, entry| {
            if entry.until > now {
                return true;
            }
            match entry.state {
                State::Past => true,
                State::Bound => {
                    entry.state = State::Past;
                    ended.push(Ended { mac: entry.mac, address: *address });
                    true
                }
                State::Offered => {
                    of_mac.remove(&entry.mac);
                    false
                }
                State::Declined => false,
            }
        });
        ended
    }

    /// The lease in force on `address`.
    pub(super) fn lease(&self, address: Ipv4Addr, now: UnixTime) -> Option<Lease> {
        let entry = self.entries.get(&address)?;
        (entry.state == State::Bound && entry.until > now).then_some(Lease { mac: entry.mac, until: entry.until })
    }

    /// Leases in force.
    pub(super) fn live(&self, now: UnixTime) -> impl Iterator<Item = (Ipv4Addr, Lease)> {
        self.entries.keys().filter_map(move |address| Some((*address, self.lease(*address, now)?)))
    }

    /// The address of this device, offered, bound or remembered.
    pub(super) fn address_of(&self, mac: Mac) -> Option<Ipv4Addr> {
        self.of_mac.get(&mac).copied()
    }

    /// Nobody else has, was offered or declined it.
    fn is_free(&self, address: Ipv4Addr) -> bool {
        self.entries.get(&address).is_none_or(|entry| entry.state == State::Past)
    }

    /// Reserves an address for `mac`: its own, else the one it asks for, else one chosen by its MAC, else the longest unused.
    pub(super) fn offer(
        &mut self,
        scope: &Scope,
        mac: Mac,
        asked: Option<Ipv4Addr>,
        now: UnixTime,
    ) -> Option<Ipv4Addr> {
        let address = self
            .address_of(mac)
            .or_else(|| asked.filter(|address| scope.pool_contains(*address) && self.is_free(*address)))
            .or_else(|| self.unused(scope, mac))
            .or_else(|| self.longest_past())?;
        let bound = self.entries.get(&address).is_some_and(|entry| entry.mac == mac && entry.state == State::Bound);
        if !bound {
            self.put(address, mac, State::Offered, now.plus(OFFER_SECONDS));
        }
        Some(address)
    }

    fn unused(&self, scope: &Scope, mac: Mac) -> Option<Ipv4Addr> {
        if self.entries.len() >= usize::try_from(scope.size()).unwrap_or(usize::MAX) {
            return None;
        }
        scope.addresses_from(seed(mac)).find(|address| !self.entries.contains_key(address))
    }

    fn longest_past(&self) -> Option<Ipv4Addr> {
        let past = self.entries.iter().filter(|(_, entry)| entry.state == State::Past);
        past.min_by_key(|(_, entry)| entry.until).map(|(address, _)| *address)
    }

    fn put(&mut self, address: Ipv4Addr, mac: Mac, state: State, until: UnixTime) {
        let (answers, window) = self
            .entries
            .get(&address)
            .map_or((0, UnixTime(0)), |old| if old.mac == mac { (old.answers, old.window) } else { (0, UnixTime(0)) });
        if let Some(old) = self.entries.insert(address, Entry { mac, until, state, answers, window })
            && old.mac != mac
        {
            self.of_mac.remove(&old.mac);
        }
        self.of_mac.insert(mac, address);
    }

    /// Binds `address`: it must be this device's, or free while the device has no other. Says whether it was.
    pub(super) fn bind(&mut self, scope: &Scope, mac: Mac, address: Ipv4Addr, now: UnixTime) -> bool {
        let own = self.address_of(mac);
        if !scope.pool_contains(address) || !own.map_or(self.is_free(address), |own| own == address) {
            return false;
        }
        self.put(address, mac, State::Bound, now.plus(u64::from(scope.lease_seconds)));
        true
    }

    /// The device gave `address` back; it stays its favourite.
    pub(super) fn release(&mut self, mac: Mac, address: Ipv4Addr, now: UnixTime) -> Option<Ended> {
        let entry = self.entries.get_mut(&address)?;
        if entry.mac != mac || entry.state != State::Bound {
            return None;
        }
        (entry.state, entry.until) = (State::Past, now);
        Some(Ended { mac, address })
    }

    /// The device took another server's offer.
    pub(super) fn withdraw(&mut self, mac: Mac) {
        if let Some(address) = self.address_of(mac)
            && self.entries.get(&address).is_some_and(|entry| entry.state == State::Offered)
        {
            self.entries.remove(&address);
            self.of_mac.remove(&mac);
        }
    }

    /// The device found `address` in use: leave it alone for a while. Only its own address, and only a few times.
    pub(super) fn decline(&mut self, mac: Mac, address: Ipv4Addr, now: UnixTime) -> Option<Ended> {
        let declined = |entry: &&Entry| entry.state == State::Declined && entry.mac == mac;
        if self.address_of(mac) != Some(address)
            || self.entries.values().filter(declined).count() >= MAX_DECLINED_PER_MAC
        {
            return None;
        }
        let entry = self.entries.get_mut(&address)?;
        let was_bound = entry.state == State::Bound;
        (entry.state, entry.until) = (State::Declined, now.plus(DECLINE_SECONDS));
        self.of_mac.remove(&mac);
        was_bound.then_some(Ended { mac, address })
    }

    /// Counts one answer to `mac`; false when it has had its share.
    pub(super) fn may_answer(&mut self, mac: Mac, now: UnixTime) -> bool {
        let Some(entry) = self.address_of(mac).and_then(|address| self.entries.get_mut(&address)) else { return true };
        if now.since(entry.window) >= ANSWERS.1 {
            (entry.window, entry.answers) = (now, 0);
        }
        entry.answers = entry.answers.saturating_add(1);
        entry.answers <= ANSWERS.0
    }
}

/// FNV-1a: spreads MACs over the pool, the same way after a restart, so that a device tends to get its address back.
fn seed(mac: Mac) -> u64 {
    mac.bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
impl Leases {
    /// What must hold after every step.
    #[allow(clippy::panic, clippy::indexing_slicing, reason = "tests")]
    pub(super) fn check(&self, scope: &Scope) {
        assert!(self.entries.len() <= usize::try_from(scope.size()).unwrap_or(0));
        assert!(self.entries.keys().all(|address| scope.pool_contains(*address)));
        for (mac, address) in &self.of_mac {
            assert_eq!(self.entries[address].mac, *mac);
            assert_ne!(self.entries[address].state, State::Declined);
        }
        let owned = self.entries.values().filter(|entry| entry.state != State::Declined).count();
        assert_eq!(owned, self.of_mac.len(), "each device has one entry");
    }
}
