//! How many connections one stranger may hold at a time: the one account that gateway, control and edge keep.
//!
//! Pure. Whoever accepts a connection asks for a [`Place`] and keeps it as long as the connection.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Who counts as one stranger: an IPv4 address, or an IPv6 /64 (a whole one is anybody's to use).
#[must_use]
pub fn stranger(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// Places, by whom they are held. As long as places are taken: the account needs no bound of its own when connections
/// in all have one.
#[derive(Clone, Debug)]
pub struct Places {
    most: usize,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    holder: IpAddr,
}

impl Places {
    /// At most `most` places for each holder.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for a connection from `address`, unless its [`stranger`] holds as many as it may.
    #[must_use]
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        self.take_for(stranger(address))
    }

    /// A place for exactly `holder`: on a LAN every device shares one /64, and addresses are told apart.
    #[must_use]
    pub fn take_for(&self, holder: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let held = taken.get(&holder).copied().unwrap_or(0);
        if held >= self.most {
            return None;
        }
        taken.insert(holder, held.saturating_add(1));
        Some(Place { places: self.clone(), holder })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        let left = taken.get(&self.holder).map_or(0, |held| held.saturating_sub(1));
        if left == 0 {
            taken.remove(&self.holder);
        } else {
            taken.insert(self.holder, left);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_64_and_every_spelling_of_an_ipv4_address_is_one_stranger() {
        let same = |a: &str, b: &str| stranger(a.parse().unwrap()) == stranger(b.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff::9"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    proptest! {
        #[test]
        fn nobody_holds_more_than_he_may_and_what_is_given_back_is_free(
            most in 0_usize..4,
            steps in prop::collection::vec((any::<bool>(), 0_u8..3, 0_usize..8), 0..60),
        ) {
            let places = Places::new(most);
            let mut held: Vec<(u8, Place)> = Vec::new();
            for (take, who, which) in steps {
                if take {
                    let now = held.iter().filter(|(holder, _)| *holder == who).count();
                    let place = places.take(IpAddr::from([192, 0, 2, who]));
                    prop_assert_eq!(place.is_some(), now < most);
                    held.extend(place.map(|place| (who, place)));
                } else if which < held.len() {
                    drop(held.swap_remove(which));
                }
            }
            drop(held);
            prop_assert!(places.lock().is_empty(), "the account forgets who holds nothing");
        }
    }
}
