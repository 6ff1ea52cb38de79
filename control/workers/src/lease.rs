//! Leases: one job of a name at a time, in whichever process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use sluice_control_domain::Store;
use sluice_node_identity::UnixTime;
use tokio::{task::JoinHandle, time::Instant};

use crate::WorkError;

/// How long a lease lasts, in seconds, unless it is renewed: so long a killed process keeps others waiting.
const TERM: u64 = 15;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(5);
/// How often a waiting job asks again.
const ASK: Duration = Duration::from_millis(250);

/// The clock.
pub(crate) fn now() -> UnixTime {
    UnixTime::from(SystemTime::now())
}

/// A held lease. It renews itself; dropping it without [`Lease::end`] lets it run out.
pub(crate) struct Lease {
    store: Arc<dyn Store>,
    job: String,
    /// Different for every lease taken, also within one process.
    pub(crate) holder: String,
    lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

impl Lease {
    /// Takes the lease of `job`, waiting for it at most `patience`; `None`: another still holds it.
    pub(crate) async fn take(
        store: &Arc<dyn Store>,
        process: &str,
        job: String,
        patience: Duration,
    ) -> Result<Option<Self>, WorkError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let holder = format!("{process}/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let begun = Instant::now();
        while store.lease(&job, &holder, now(), now().plus(TERM)).await?.is_none() {
            if begun.elapsed() >= patience {
                return Ok(None);
            }
            tokio::time::sleep(ASK).await;
        }
        let lost = Arc::new(AtomicBool::new(false));
        let renewal = tokio::spawn(renew(Arc::clone(store), job.clone(), holder.clone(), Arc::clone(&lost)));
        Ok(Some(Self { store: Arc::clone(store), job, holder, lost, renewal }))
    }

    /// Refuses to go on with a job that another has taken over. (Whatever is written is fenced besides.)
    pub(crate) fn held(&self) -> Result<(), WorkError> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(WorkError::Failed("another process took this job over".into()));
        }
        Ok(())
    }

    /// Lets the next one in at once.
    pub(crate) async fn end(self) {
        self.renewal.abort();
        if let Err(error) = self.store.lease(&self.job, &self.holder, now(), now()).await {
            tracing::warn!(job = self.job, "a lease could not be given back, it will run out: {error}");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

async fn renew(store: Arc<dyn Store>, job: String, holder: String, lost: Arc<AtomicBool>) {
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(RENEW).await;
        match store.lease(&job, &holder, now(), now().plus(TERM)).await {
            Ok(Some(_)) => last = Instant::now(),
            Ok(None) => break,
            Err(error) => tracing::warn!(job, "a lease could not be renewed: {error}"),
        }
        if last.elapsed() > Duration::from_secs(TERM) {
            break;
        }
    }
    lost.store(true, Ordering::Relaxed);
}
