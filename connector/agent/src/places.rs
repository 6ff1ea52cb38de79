//! Places that several askers share: bounded together, and nobody who hoards leaves the others without.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// An asker gets one more as long as it holds less than so many times what is free: alone it gets three quarters of
/// all, and each that hoards leaves a quarter of what it found.
const GREED: usize = 3;

/// All of one kind.
#[derive(Debug)]
pub(crate) struct Places {
    all: usize,
    each: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by: BTreeMap<String, usize>,
}

impl Places {
    /// So many for all together, shared fairly.
    pub(crate) fn shared(all: usize) -> Arc<Self> {
        Arc::new(Self { all, each: usize::MAX, taken: Mutex::default() })
    }

    /// So many for each asker, who are few.
    pub(crate) fn each(each: usize) -> Arc<Self> {
        Arc::new(Self { all: usize::MAX, each, taken: Mutex::default() })
    }

    /// A place for `asker`, until it is dropped.
    pub(crate) fn take(self: &Arc<Self>, asker: &str) -> Option<Place> {
        let mut taken = self.taken();
        if self.left(&taken, asker) == 0 {
            return None;
        }
        taken.total += 1;
        *taken.by.entry(asker.to_owned()).or_default() += 1;
        Some(Place { places: self.clone(), asker: asker.to_owned() })
    }

    /// How many are taken, and how many more `asker` would get.
    pub(crate) fn count(&self, asker: &str) -> (usize, usize) {
        let taken = self.taken();
        (taken.total, self.left(&taken, asker))
    }

    fn left(&self, taken: &Taken, asker: &str) -> usize {
        let held = taken.by.get(asker).copied().unwrap_or_default();
        let free = self.all.saturating_sub(taken.total);
        // Each that it takes is one more held and one less free.
        let fair = free.saturating_add(1).saturating_mul(GREED).saturating_sub(held) / (GREED + 1);
        fair.min(free).min(self.each.saturating_sub(held))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    asker: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.total = taken.total.saturating_sub(1);
        if let Some(held) = taken.by.get_mut(&self.asker) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                taken.by.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn hoard(places: &Arc<Places>, asker: &str) -> Vec<Place> {
        std::iter::from_fn(|| places.take(asker)).collect()
    }

    #[test]
    fn c5_one_that_hoards_gets_three_quarters_and_the_next_gets_its_part() {
        let places = Places::shared(512);
        let first = hoard(&places, "dmz-1");
        assert_eq!(first.len(), 384);
        assert_eq!(hoard(&places, "dmz-2").len(), 96);
        assert_eq!(places.count("dmz-2"), (384, 96));
        drop(first);
        assert_eq!(places.count("dmz-1"), (0, 384));
        assert!(places.taken().by.is_empty(), "those who hold nothing are forgotten");
        assert_eq!(hoard(&Places::each(5), "dmz-1").len(), 5);
        assert_eq!(hoard(&Places::shared(3), "dmz-1").len(), 3);
    }

    proptest! {
        /// Whatever three of them do: what is told is what is got, and a newcomer always gets a place.
        #[test]
        fn c5_whoever_takes_what_a_newcomer_gets_a_place(steps in proptest::collection::vec((0_u8..3, proptest::bool::weighted(0.7)), 0..400)) {
            let (places, mut held) = (Places::shared(64), Vec::new());
            for (who, takes) in steps {
                let asker = format!("dmz-{who}");
                if takes {
                    let told = places.count(&asker).1;
                    let got = places.take(&asker);
                    prop_assert_eq!(told > 0, got.is_some());
                    prop_assert!(got.is_none() || places.count(&asker).1 == told - 1);
                    held.extend(got);
                } else if let Some(at) = held.iter().position(|place: &Place| place.asker == asker) {
                    held.swap_remove(at);
                }
                prop_assert!(held.len() < 64);
                prop_assert_eq!(places.count("new").0, held.len());
                prop_assert!(places.count("new").1 > 0);
            }
        }
    }
}
