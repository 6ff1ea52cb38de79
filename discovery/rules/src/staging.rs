//! Who may pass beyond the edge: staged until a hub in good standing has checked in, staged again on any doubt.
//!
//! A check-in binds a certificate's hub, an Ethernet address and an IP address; the same device's other addresses
//! follow it ([`Staging::observe`]). Every change comes out as an [`Action`] for the kernel writer; what is not
//! admitted is staged, so forgetting is safe.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use sluice_node_identity::{Fingerprint, HubId, UnixTime, api::HubStanding};
use thiserror::Error;

use crate::Mac;

/// How often a hub is asked to check in, seconds.
pub const CHECK_IN_SECONDS: u64 = 600;
/// How old a check-in may be before its device is staged again, seconds.
pub const MAX_AGE_SECONDS: u64 = 3 * CHECK_IN_SECONDS;
const _: () = assert!(MAX_AGE_SECONDS < sluice_qos_plan::ADMITTED_SECONDS as u64, "a hub in time is never forgotten");
/// How long all parties of a conflict stay staged, seconds.
pub const HOLD_SECONDS: u64 = CHECK_IN_SECONDS;
/// Most hubs admitted at a time.
pub const MAX_HUBS: usize = 4096;
/// Most addresses admitted for one hub; the one not heard of for longest goes first, but not while it is in use.
pub const MAX_ADDRESSES: usize = 8;
/// Most names held because of conflicts.
pub const MAX_HELD: usize = 4096;

/// For the kernel writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Frames of this device with this source address may pass.
    Admit {
        /// Device.
        mac: Mac,
        /// Source address.
        address: IpAddr,
    },
    /// They no longer may.
    Restage {
        /// Device.
        mac: Mac,
        /// Source address.
        address: IpAddr,
    },
}

/// One check-in, its certificate already verified against the tenant's hub root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedIn {
    /// Who the certificate names.
    pub hub: HubId,
    /// Fingerprint of its SubjectPublicKeyInfo.
    pub key: Fingerprint,
    /// Where the connection came from.
    pub address: IpAddr,
    /// The neighbour table's owner of that address.
    pub neighbour: Option<Mac>,
    /// The lease table's owner of that address (IPv4 only).
    pub lease: Option<Mac>,
}

/// Why a check-in admits nobody. Said to the hub, which has proved who it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Unknown, not enrolled, revoked, or with a key that is no longer its own.
    #[error("this hub is not enrolled here with this key; enrol again")]
    NotEnrolled,
    /// The edge cannot tell which device this is.
    #[error("the edge cannot tell which device has this address; renew the lease and check in again")]
    UnknownDevice,
    /// Two devices or two certificates claim the same.
    #[error("this hub or its address is claimed twice; both stay in staging for a while")]
    Conflict,
    /// The table is full.
    #[error("this edge has admitted as many hubs as it can; try again later")]
    Full,
    /// Control has been silent for too long.
    #[error("the control service is out of reach for too long; nothing new is admitted")]
    Stale,
}

/// A name that two parties claimed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Hub(HubId),
    Mac(Mac),
    Address(IpAddr),
}

#[derive(Clone, Debug)]
struct Admitted {
    key: Fingerprint,
    mac: Mac,
    /// Last check-in.
    at: UnixTime,
    /// Address → when it was last seen to be this device's. Never empty.
    addresses: BTreeMap<IpAddr, UnixTime>,
}

/// The table of one LAN. Every hub has one device, every device and every address one hub.
#[derive(Debug, Default)]
pub struct Staging {
    hubs: BTreeMap<HubId, Admitted>,
    by_mac: BTreeMap<Mac, HubId>,
    by_address: BTreeMap<IpAddr, HubId>,
    held: BTreeMap<Claim, UnixTime>,
}

impl Staging {
    /// Judges a check-in. `standing` is what the state feed says of the hub; `stale` that the feed has been silent
    /// for longer than `max_stale`. The actions hold whatever the verdict.
    pub fn check_in(
        &mut self,
        seen: &CheckedIn,
        standing: Option<&HubStanding>,
        stale: bool,
        now: UnixTime,
    ) -> (Result<Mac, Refused>, Vec<Action>) {
        let mut actions = self.tick(now);
        let verdict = self.judge(seen, standing, stale, now, &mut actions);
        (verdict, actions)
    }

    fn judge(
        &mut self,
        seen: &CheckedIn,
        standing: Option<&HubStanding>,
        stale: bool,
        now: UnixTime,
        actions: &mut Vec<Action>,
    ) -> Result<Mac, Refused> {
        if !is_good(standing, &seen.key) {
            return Err(Refused::NotEnrolled);
        }
        if stale {
            return Err(Refused::Stale);
        }
        let mac = match (seen.address, seen.neighbour, seen.lease) {
            (IpAddr::V4(_), Some(neighbour), Some(lease)) if neighbour != lease => {
                self.hold(seen, &[neighbour, lease], now, actions);
                return Err(Refused::Conflict);
            }
            (IpAddr::V4(_), Some(mac), Some(_)) | (IpAddr::V6(_), Some(mac), _) => mac,
            _ => return Err(Refused::UnknownDevice),
        };
        let claims = [Claim::Hub(seen.hub.clone()), Claim::Mac(mac), Claim::Address(seen.address)];
        if claims.iter().any(|claim| self.held.contains_key(claim)) {
            return Err(Refused::Conflict);
        }
        let other_mac = self.hubs.get(&seen.hub).is_some_and(|known| known.mac != mac);
        let other_hub = |hub: Option<&HubId>| hub.is_some_and(|hub| *hub != seen.hub);
        if other_mac || other_hub(self.by_mac.get(&mac)) || other_hub(self.by_address.get(&seen.address)) {
            self.hold(seen, &[mac], now, actions);
            return Err(Refused::Conflict);
        }
        if !self.hubs.contains_key(&seen.hub) && self.hubs.len() >= MAX_HUBS {
            return Err(Refused::Full);
        }
        self.admit(seen, mac, now, actions);
        Ok(mac)
    }

    fn admit(&mut self, seen: &CheckedIn, mac: Mac, now: UnixTime, actions: &mut Vec<Action>) {
        let hub = self.hubs.entry(seen.hub.clone()).or_insert_with(|| Admitted {
            key: seen.key.clone(),
            mac,
            at: now,
            addresses: BTreeMap::new(),
        });
        hub.key = seen.key.clone();
        hub.at = now;
        if !hub.addresses.contains_key(&seen.address)
            && let Some(oldest) = hub.surplus()
        {
            self.forget(&seen.hub, &[oldest], actions);
        }
        self.by_mac.insert(mac, seen.hub.clone());
        self.add(&seen.hub, seen.address, now);
        // Said at every check-in, not only the first: the kernel forgets what is not repeated.
        let known = self.hubs.get(&seen.hub).into_iter().flat_map(|hub| hub.addresses.keys());
        actions.extend(known.map(|address| Action::Admit { mac, address: *address }));
    }

    fn add(&mut self, hub: &HubId, address: IpAddr, now: UnixTime) {
        if let Some(known) = self.hubs.get_mut(hub) {
            known.addresses.insert(address, now);
            self.by_address.insert(address, hub.clone());
        }
    }

    /// `address` is known to be `mac`'s, by its lease (IPv4) or by the neighbour table (IPv6). When that device is
    /// admitted, the address is too, unless somebody else has proved it or there are too many.
    pub fn observe(&mut self, mac: Mac, address: IpAddr, now: UnixTime) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(hub) = self.by_mac.get(&mac).cloned() else { return actions };
        let Some(known) = self.hubs.get_mut(&hub) else { return actions };
        if let Some(last) = known.addresses.get_mut(&address) {
            *last = now;
            return actions;
        }
        if self.by_address.contains_key(&address) || self.held.contains_key(&Claim::Address(address)) {
            return actions;
        }
        if let Some(oldest) = known.surplus() {
            if known.addresses.get(&oldest).is_some_and(|last| now.since(*last) < CHECK_IN_SECONDS) {
                return actions;
            }
            self.forget(&hub, &[oldest], &mut actions);
        }
        self.add(&hub, address, now);
        actions.push(Action::Admit { mac, address });
        actions
    }

    /// Stages everybody who has a part in a conflict, and keeps what they claimed from admission for a while.
    fn hold(&mut self, seen: &CheckedIn, macs: &[Mac], now: UnixTime, actions: &mut Vec<Action>) {
        let mut parties = BTreeSet::from([seen.hub.clone()]);
        parties.extend(macs.iter().filter_map(|mac| self.by_mac.get(mac)).cloned());
        parties.extend(self.by_address.get(&seen.address).cloned());
        let mut claims: BTreeSet<Claim> = macs.iter().copied().map(Claim::Mac).collect();
        claims.insert(Claim::Address(seen.address));
        for hub in parties {
            if let Some(gone) = self.remove(&hub, actions) {
                claims.insert(Claim::Mac(gone.mac));
                claims.extend(gone.addresses.into_keys().map(Claim::Address));
            }
            claims.insert(Claim::Hub(hub));
        }
        for claim in claims {
            // Beyond the bound the parties are staged all the same, only not kept from trying again.
            if self.held.len() < MAX_HELD {
                self.held.insert(claim, now.plus(HOLD_SECONDS));
            }
        }
    }

    /// Stages hubs whose standing is no longer good; to be called at every change of the state feed.
    pub fn review(&mut self, standing: impl Fn(&HubId) -> Option<HubStanding>) -> Vec<Action> {
        let bad: Vec<HubId> = self
            .hubs
            .iter()
            .filter(|(hub, known)| !is_good(standing(hub).as_ref(), &known.key))
            .map(|(hub, _)| hub.clone())
            .collect();
        let mut actions = Vec::new();
        for hub in bad {
            self.remove(&hub, &mut actions);
        }
        actions
    }

    /// The device's lease on `address` is over.
    pub fn lease_ended(&mut self, mac: Mac, address: IpAddr) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(hub) = self.by_address.get(&address).cloned() else { return actions };
        if self.hubs.get(&hub).is_some_and(|known| known.mac == mac) {
            self.forget(&hub, &[address], &mut actions);
        }
        actions
    }

    /// Stages devices that have not checked in for [`MAX_AGE_SECONDS`], and ends holds; to be called every few seconds.
    pub fn tick(&mut self, now: UnixTime) -> Vec<Action> {
        self.held.retain(|_, until| *until > now);
        let late = self.hubs.iter().filter(|(_, known)| now.since(known.at) > MAX_AGE_SECONDS);
        let late: Vec<HubId> = late.map(|(hub, _)| hub.clone()).collect();
        let mut actions = Vec::new();
        for hub in late {
            self.remove(&hub, &mut actions);
        }
        actions
    }

    /// Whether frames of `mac` from `address` pass.
    #[must_use]
    pub fn is_admitted(&self, mac: Mac, address: IpAddr) -> bool {
        self.by_address.get(&address).and_then(|hub| self.hubs.get(hub)).is_some_and(|known| known.mac == mac)
    }

    /// The device admitted with this source address.
    #[must_use]
    pub fn device_at(&self, address: IpAddr) -> Option<Mac> {
        self.by_address.get(&address).and_then(|hub| self.hubs.get(hub)).map(|known| known.mac)
    }

    /// How many hubs are admitted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.hubs.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hubs.is_empty()
    }

    fn remove(&mut self, hub: &HubId, actions: &mut Vec<Action>) -> Option<Admitted> {
        let known = self.hubs.remove(hub)?;
        self.by_mac.remove(&known.mac);
        for address in known.addresses.keys() {
            self.by_address.remove(address);
            actions.push(Action::Restage { mac: known.mac, address: *address });
        }
        Some(known)
    }

    fn forget(&mut self, hub: &HubId, addresses: &[IpAddr], actions: &mut Vec<Action>) {
        let Some(known) = self.hubs.get_mut(hub) else { return };
        for address in addresses {
            known.addresses.remove(address);
            self.by_address.remove(address);
            actions.push(Action::Restage { mac: known.mac, address: *address });
        }
        if known.addresses.is_empty() {
            self.by_mac.remove(&known.mac);
            self.hubs.remove(hub);
        }
    }
}

impl Admitted {
    /// The address that must go before another comes.
    fn surplus(&self) -> Option<IpAddr> {
        let oldest = self.addresses.iter().min_by_key(|(_, last)| **last).map(|(address, _)| *address);
        oldest.filter(|_| self.addresses.len() >= MAX_ADDRESSES)
    }
}

fn is_good(standing: Option<&HubStanding>, key: &Fingerprint) -> bool {
    standing.is_some_and(|standing| standing.enrolled && standing.keys.contains(key))
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
