//! Places for connections: bounded in all and per client address. Devices in staging cannot take those of admitted ones:
//! a stranger with many addresses must not keep hubs from checking in again.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one listening socket.
pub(crate) struct Seats {
    admitted: Arc<Semaphore>,
    staged: Arc<Semaphore>,
    per_address: usize,
    present: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// One connection's place; free again when dropped.
pub(crate) struct Seat {
    _place: OwnedSemaphorePermit,
    present: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Seats {
    /// `places` for admitted devices and as many for the others; `per_address` of them for one address.
    pub(crate) fn new(places: usize, per_address: usize) -> Self {
        let [admitted, staged] = [(), ()].map(|()| Arc::new(Semaphore::new(places)));
        Self { admitted, staged, per_address, present: Arc::default() }
    }

    /// A place for a connection from `address`, if there is one.
    pub(crate) fn take(&self, address: IpAddr, is_admitted: bool) -> Option<Seat> {
        let places = if is_admitted { &self.admitted } else { &self.staged };
        let place = places.clone().try_acquire_owned().ok()?;
        let mut counts = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Seat { _place: place, present: self.present.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 77, 0, last].into()
    }

    #[test]
    fn strangers_leave_room_for_admitted_hubs_and_an_address_for_others() {
        let seats = Seats::new(4, 2);
        let strangers: Vec<Seat> = (1..=4).filter_map(|last| seats.take(address(last), false)).collect();
        assert_eq!(strangers.len(), 4);
        assert!(seats.take(address(5), false).is_none(), "no more for strangers");
        let first = seats.take(address(9), true).unwrap();
        let _second = seats.take(address(9), true).unwrap();
        assert!(seats.take(address(9), true).is_none(), "one address has its share");
        assert!(seats.take(address(8), true).is_some(), "and leaves the rest");
        drop(first);
        assert!(seats.take(address(9), true).is_some(), "given back");
        drop(strangers);
        assert!(seats.take(address(5), false).is_some());
        assert_eq!(seats.present.lock().unwrap().len(), 1, "only who is there is remembered");
    }
}
