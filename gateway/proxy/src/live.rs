//! Requests that are running now, so that taking a right back ends them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use sluice_gateway_access::Session;
use sluice_node_identity::AppId;

use crate::connection::Facts;

/// All running requests of users.
#[derive(Default)]
pub(crate) struct Live {
    next: AtomicU64,
    running: Mutex<HashMap<u64, Running>>,
}

struct Running {
    session: Session,
    host: String,
    app: AppId,
    facts: Arc<Facts>,
}

impl Live {
    /// Notes a request until the guard is dropped.
    pub(crate) fn enter(self: &Arc<Self>, session: Session, app: AppId, facts: Arc<Facts>) -> LiveGuard {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let host = facts.host.clone();
        let running = Running { session, host, app, facts };
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id, running);
        LiveGuard { live: self.clone(), id }
    }

    /// Ends the connection of every request that `still` does not vouch for.
    pub(crate) fn cut(&self, still: impl Fn(&Session, &str, &AppId) -> bool) {
        for running in self.running.lock().unwrap_or_else(PoisonError::into_inner).values() {
            if !still(&running.session, &running.host, &running.app) && !running.facts.cut.is_cancelled() {
                tracing::info!(session = %running.session.id, app = %running.app, "cut: the right to this app was taken back");
                running.facts.cut.cancel();
            }
        }
    }
}

/// One running request.
pub(crate) struct LiveGuard {
    live: Arc<Live>,
    id: u64,
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        self.live.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
