//! Places for connections: bounded in all and per client address. Devices in staging cannot take those of admitted ones:
//! a stranger with many addresses must not keep hubs from checking in again.

use std::{net::IpAddr, sync::Arc};

use sluice_node_places::{Place, Places};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one listening socket.
pub(crate) struct Seats {
    admitted: Arc<Semaphore>,
    staged: Arc<Semaphore>,
    per_address: Places,
}

/// One connection's place; free again when dropped.
pub(crate) struct Seat {
    _place: OwnedSemaphorePermit,
    _per_address: Place,
}

impl Seats {
    /// `places` for admitted devices and as many for the others; `per_address` of them for one address.
    pub(crate) fn new(places: usize, per_address: usize) -> Self {
        let [admitted, staged] = [(), ()].map(|()| Arc::new(Semaphore::new(places)));
        Self { admitted, staged, per_address: Places::new(per_address) }
    }

    /// A place for a connection from `address`, if there is one.
    pub(crate) fn take(&self, address: IpAddr, is_admitted: bool) -> Option<Seat> {
        let places = if is_admitted { &self.admitted } else { &self.staged };
        let place = places.clone().try_acquire_owned().ok()?;
        let per_address = self.per_address.take_for(address)?;
        Some(Seat { _place: place, _per_address: per_address })
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
    }
}
