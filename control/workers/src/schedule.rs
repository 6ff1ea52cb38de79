//! When what runs by itself.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sluice_control_domain::{Integration, Kind, Load, PLATFORM, Tenant};
use sluice_control_sync::Declaration;
use sluice_control_wallet::Owner;
use sluice_node_identity::{IntegrationId, TenantId};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{WorkError, Workers, lease::now};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(5);
/// Seconds from a failed sync to the next. A wrong login tried more often would lock the service account.
const RETRY: u64 = 300;
/// Most syncs at once.
const MAX_SYNCS: usize = 4;
/// Most of one tenant: a slow system of record keeps nobody else's from being read.
const MAX_SYNCS_OF_TENANT: usize = 2;
/// Most tenants, and most integrations of one, looked at.
const PAGE: u32 = 1_000;

/// The syncs that run now.
#[derive(Clone, Debug, Default)]
struct Running(Arc<Mutex<HashSet<(TenantId, IntegrationId)>>>);

/// One sync's place; free again when dropped.
#[derive(Debug)]
struct Place {
    running: Running,
    sync: (TenantId, IntegrationId),
}

impl Running {
    /// A place for a sync, unless it runs already or too many do.
    fn begin(&self, tenant: &TenantId, integration: &IntegrationId) -> Option<Place> {
        let sync = (tenant.clone(), integration.clone());
        let mut running = self.lock();
        let of_tenant = running.iter().filter(|(owner, _)| owner == tenant).count();
        let room = running.len() < MAX_SYNCS && of_tenant < MAX_SYNCS_OF_TENANT;
        (room && running.insert(sync.clone())).then(|| Place { running: self.clone(), sync })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(TenantId, IntegrationId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.running.lock().remove(&self.sync);
    }
}

impl Workers {
    /// Runs due syncs and delivers what waits in the caches until `stop` resolves; then ends what is running.
    /// A sync that is cut off changes nothing and is run again later.
    pub async fn run_schedule(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (running, mut tasks) = (Running::default(), JoinSet::new());
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.turn(&running, &mut tasks).await {
                tracing::warn!("the schedule could not be read: {error}");
            }
            while tasks.try_join_next().is_some() {}
        }
        tasks.shutdown().await;
    }

    async fn turn(self: &Arc<Self>, running: &Running, tasks: &mut JoinSet<()>) -> Result<(), WorkError> {
        let what = Load::Scan { kind: Kind::Tenant, tenant: PLATFORM.to_owned(), after: None, limit: PAGE };
        for stored in self.parts.store.load(what).await? {
            let tenant = stored.typed::<Tenant>()?.body.id;
            if let Err(error) = self.sweep_exceptions(&tenant).await {
                tracing::warn!(%tenant, "exceptions that are over could not be removed: {error}");
            }
            // One tenant's broken cache is no other tenant's trouble.
            if let Err(error) = self.turn_of(&tenant, running, tasks).await {
                tracing::warn!(%tenant, "nothing runs by itself for this tenant: {error}");
            }
        }
        Ok(())
    }

    async fn turn_of(
        self: &Arc<Self>,
        tenant: &TenantId,
        running: &Running,
        tasks: &mut JoinSet<()>,
    ) -> Result<(), WorkError> {
        self.drain(tenant).await?;
        let what = Load::Scan { kind: Kind::Integration, tenant: tenant.to_string(), after: None, limit: PAGE };
        for stored in self.parts.store.load(what).await? {
            let integration = stored.typed::<Integration>()?.body;
            if !self.due(tenant, &integration).await? {
                continue;
            }
            let Some(place) = running.begin(tenant, &integration.id) else { continue };
            let (workers, tenant) = (Arc::clone(self), tenant.clone());
            tasks.spawn(async move {
                if let Err(error) = workers.full_sync(&tenant, &integration.id).await {
                    tracing::warn!(%tenant, integration = %integration.id, "a sync failed: {error}");
                }
                drop(place);
            });
        }
        Ok(())
    }

    async fn due(&self, tenant: &TenantId, integration: &Integration) -> Result<bool, WorkError> {
        let Ok(declaration) = Declaration::parse(&integration.declaration) else { return Ok(false) };
        let every = match &integration.last_sync {
            Some((_, _, Some(_))) => RETRY.min(declaration.full_every),
            _ => declaration.full_every,
        };
        if integration.last_sync.as_ref().is_some_and(|(at, ..)| now().since(*at) < every) {
            return Ok(false);
        }
        // Without a login there is nothing to try, and nothing to complain about.
        Ok(self.parts.credentials.exists(tenant, &integration.id, &Owner::Service).await?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn slow_syncs_of_one_tenant_leave_room_for_another() {
        let running = Running::default();
        let begin = |tenant: &str, name: &str| running.begin(&tenant.parse().unwrap(), &name.parse().unwrap());
        let first = begin("acme", "a").unwrap();
        assert!(begin("acme", "a").is_none(), "it runs already, however often it is due");
        let _second = begin("acme", "b").unwrap();
        assert!(begin("acme", "c").is_none(), "this tenant has its share");
        let _others = (begin("globex", "a").unwrap(), begin("initech", "a").unwrap());
        assert!(begin("umbrella", "a").is_none(), "enough in all");
        drop(first);
        assert!(begin("acme", "a").is_some());
    }
}
