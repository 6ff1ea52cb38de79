//! Tells control who was seen where, newest sighting per hub, in batches, until control has heard it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_discovery_rules::staging::MAX_HUBS;
use sluice_node_identity::{
    HubId,
    api::{CheckIn, CheckIns},
};
use tokio::{sync::Notify, time::sleep};
use tracing::debug;

use crate::Control;

/// Most sightings in one call (see [`CheckIns`]).
const BATCH: usize = 256;
/// Sightings are collected for this long before a call.
const GATHER: Duration = Duration::from_millis(500);
/// Pause after a failed call.
const PAUSE: Duration = Duration::from_secs(5);

/// What control has not heard yet. At most one entry per hub, at most [`MAX_HUBS`].
#[derive(Default)]
pub(crate) struct Reports {
    waiting: Mutex<BTreeMap<HubId, CheckIn>>,
    more: Notify,
}

impl Reports {
    pub(crate) fn add(&self, seen: CheckIn) {
        self.put(seen, true);
        self.more.notify_one();
    }

    fn put(&self, seen: CheckIn, is_newer: bool) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let known = waiting.contains_key(&seen.hub);
        if (known && !is_newer) || (!known && waiting.len() >= MAX_HUBS) {
            return;
        }
        waiting.insert(seen.hub.clone(), seen);
    }

    fn take(&self) -> Vec<CheckIn> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| waiting.pop_first()).take(BATCH).map(|(_, seen)| seen).collect()
    }

    /// For ever.
    pub(crate) async fn run(&self, control: Arc<dyn Control>) {
        loop {
            let seen = self.take();
            if seen.is_empty() {
                self.more.notified().await;
                sleep(GATHER).await;
                continue;
            }
            if let Err(error) = control.check_ins(CheckIns { seen: seen.clone() }).await {
                debug!("check-ins are not reported yet: {error:#}");
                seen.into_iter().for_each(|seen| self.put(seen, false));
                sleep(PAUSE).await;
            }
        }
    }
}
