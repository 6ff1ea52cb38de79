//! When what runs by itself.

use std::{sync::Arc, time::Duration};

use sluice_control_domain::{Integration, Kind, Load, PLATFORM, Tenant};
use sluice_control_sync::Declaration;
use sluice_control_wallet::Owner;
use sluice_node_identity::TenantId;
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

use crate::{WorkError, Workers, lease::now};

/// How often it is looked what is due.
const TICK: Duration = Duration::from_secs(5);
/// Seconds from a failed sync to the next. A wrong login tried more often would lock the service account.
const RETRY: u64 = 300;
/// Most syncs at once.
const MAX_SYNCS: usize = 4;
/// Most tenants, and most integrations of one, looked at.
const PAGE: u32 = 1_000;

impl Workers {
    /// Runs due syncs and delivers what waits in the caches until `stop` resolves; then ends what is running.
    /// A sync that is cut off changes nothing and is run again later.
    pub async fn run_schedule(self: Arc<Self>, stop: impl Future<Output = ()> + Send) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (room, mut running) = (Arc::new(Semaphore::new(MAX_SYNCS)), JoinSet::new());
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.turn(&room, &mut running).await {
                tracing::warn!("the schedule could not be read: {error}");
            }
            while running.try_join_next().is_some() {}
        }
        running.shutdown().await;
    }

    async fn turn(self: &Arc<Self>, room: &Arc<Semaphore>, running: &mut JoinSet<()>) -> Result<(), WorkError> {
        let scan = |kind, tenant: &str| Load::Scan { kind, tenant: tenant.to_owned(), after: None, limit: PAGE };
        for stored in self.parts.store.load(scan(Kind::Tenant, PLATFORM)).await? {
            let tenant = stored.typed::<Tenant>()?.body.id;
            self.drain(&tenant).await?;
            for stored in self.parts.store.load(scan(Kind::Integration, tenant.as_str())).await? {
                let integration = stored.typed::<Integration>()?.body;
                if !self.due(&tenant, &integration).await? {
                    continue;
                }
                let Ok(place) = Arc::clone(room).try_acquire_owned() else { return Ok(()) };
                let (workers, tenant) = (Arc::clone(self), tenant.clone());
                running.spawn(async move {
                    if let Err(error) = workers.full_sync(&tenant, &integration.id).await {
                        tracing::warn!(%tenant, integration = %integration.id, "a sync failed: {error}");
                    }
                    drop(place);
                });
            }
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
