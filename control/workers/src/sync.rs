//! A full sync: fetch every table into the stage, then swap.

use std::{sync::Arc, time::Duration};

use sluice_control_domain::{ChangeSet, Commit, Integration, Kind, Load, RecordKey, Typed, UserRecord};
use sluice_control_feed::{People, Person};
use sluice_control_sync::{Declaration, Fetch, Step};
use sluice_node_identity::{IntegrationId, TenantId};

use crate::{
    Changed, Swap, Target, WorkError, Workers,
    http::Session,
    lease::{Lease, now},
};

/// How long a sync waits for another sync of the same integration to end.
const PATIENCE: Duration = Duration::from_secs(90);
/// Most accounts of a tenant that get cards.
const MAX_PEOPLE: usize = 200_000;
/// Records of one page.
const PAGE: u32 = 1_000;
/// How often the outcome is noted again when the record changed meanwhile.
const TRIES: u8 = 5;

impl Workers {
    /// Runs a full sync now and waits for it.
    ///
    /// # Errors
    /// [`WorkError`]: nothing in the cache changed; the integration's record says why.
    pub async fn full_sync(&self, tenant: &TenantId, integration: &IntegrationId) -> Result<Changed, WorkError> {
        self.integration(tenant, integration).await?;
        let job = format!("sync/{tenant}/{integration}");
        let Some(lease) = Lease::take(&self.parts.store, &self.parts.process, job, PATIENCE).await? else {
            return Err(WorkError::Refused("a sync of this integration is running; ask again when it is done".into()));
        };
        let result = self.leased_sync(tenant, integration, &lease).await;
        lease.end().await;
        self.note(tenant, integration, &result).await?;
        result
    }

    async fn leased_sync(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        lease: &Lease,
    ) -> Result<Changed, WorkError> {
        let target = self.target(tenant, integration).await?;
        let Some(credential) = self.parts.credentials.service(tenant, integration).await? else {
            return Err(WorkError::Refused("store the service account's login for this integration first".into()));
        };
        let begun = now();
        let run = format!("{}@{}", lease.holder, begun.0);
        self.parts.cache.begin(&target, &run).await?;
        let resource = &target.declaration.service.resource;
        let sub = format!("service/sync-{integration}");
        let mut session = Session::new(self.parts.reach.as_ref(), tenant, resource, sub, &credential)
            .map_err(|error| WorkError::Failed(error.to_string()))?;
        let mut since = Vec::new();
        for (at, table) in target.declaration.tables.iter().enumerate() {
            let mut fetch = Fetch::new(&target.declaration, table, begun);
            since.push(fetch.since().map(str::to_owned));
            self.fetch(&target, &run, at, &mut fetch, &mut session, lease).await?;
        }
        drop(session);
        lease.held()?;
        let people = self.people(tenant).await?;
        let swap = Swap { target, run, since, people, now: now() };
        let changed = self.parts.cache.swap(swap).await?;
        if changed.suppressed > 0 {
            tracing::warn!(%tenant, %integration, changed.suppressed, "a sync made too many cards; the rest was left out");
        }
        self.drain(tenant).await?;
        Ok(changed)
    }

    async fn fetch(
        &self,
        target: &Target,
        run: &str,
        table: usize,
        fetch: &mut Fetch<'_>,
        session: &mut Session<'_>,
        lease: &Lease,
    ) -> Result<(), WorkError> {
        let name = || target.declaration.tables.get(table).map_or("", |table| &table.name);
        let wrong = |error: &dyn std::fmt::Display| WorkError::Failed(format!("table {}: {error}", name()));
        let mut step = fetch.step(None).map_err(|error| wrong(&error))?;
        loop {
            lease.held()?;
            let request = match step {
                Step::Send(request) => request,
                Step::Wait { seconds, then } => {
                    tokio::time::sleep(Duration::from_secs(seconds.into())).await;
                    then
                }
                Step::Rows { rows, next } => {
                    self.parts.cache.stage(target, run, table, rows).await?;
                    let Some(request) = next else { return Ok(()) };
                    request
                }
            };
            let response = session.send(&request).await.map_err(|error| wrong(&error))?;
            step = fetch.step(Some(&response)).map_err(|error| wrong(&error))?;
        }
    }

    /// Notes how the sync ended on the integration's record.
    async fn note(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        result: &Result<Changed, WorkError>,
    ) -> Result<(), WorkError> {
        for _ in 0..TRIES {
            let loaded = self.integration(tenant, integration).await?;
            let mut body = loaded.body.clone();
            let former = body.last_sync.as_ref().map_or(0, |(_, rows, _)| *rows);
            body.last_sync = Some(match result {
                Ok(changed) => (now(), changed.rows, None),
                Err(error) => (now(), former, Some(error.to_string())),
            });
            if self.parts.store.commit(ChangeSet::of(tenant).update(&loaded, &body)).await? == Commit::Done {
                return Ok(());
            }
        }
        Err(WorkError::Failed("the integration's record keeps changing".into()))
    }

    /// An integration's record.
    pub(crate) async fn integration(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
    ) -> Result<Typed<Integration>, WorkError> {
        let key = RecordKey { kind: Kind::Integration, tenant: tenant.to_string(), id: integration.to_string() };
        let found = self.parts.store.load(Load::Keys(vec![key])).await?.pop();
        let found = found.ok_or_else(|| WorkError::NotFound(format!("there is no integration \"{integration}\"")))?;
        Ok(found.typed()?)
    }

    /// An integration with its declaration.
    pub(crate) async fn target(&self, tenant: &TenantId, integration: &IntegrationId) -> Result<Target, WorkError> {
        let record = self.integration(tenant, integration).await?;
        let declaration = Declaration::parse(&record.body.declaration);
        let declaration = declaration.map_err(|error| WorkError::Refused(format!("its declaration: {error}")))?;
        Ok(Target { tenant: tenant.clone(), integration: integration.clone(), declaration: Arc::new(declaration) })
    }

    /// The tenant's accounts that are not disabled.
    pub(crate) async fn people(&self, tenant: &TenantId) -> Result<Arc<People>, WorkError> {
        let (mut people, mut after) = (Vec::new(), None);
        loop {
            let what = Load::Scan { kind: Kind::User, tenant: tenant.to_string(), after, limit: PAGE };
            let page = self.parts.store.load(what).await?;
            after = page.last().map(|stored| stored.key.id.clone());
            for stored in page {
                let user: UserRecord = stored.typed()?.body;
                people.extend((!user.disabled).then_some(Person { user: user.id, email: user.email }));
            }
            if after.is_none() {
                return Ok(Arc::new(People::new(people)));
            }
            if people.len() > MAX_PEOPLE {
                return Err(WorkError::Failed(format!("the tenant has more than {MAX_PEOPLE} accounts")));
            }
        }
    }
}
