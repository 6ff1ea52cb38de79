//! Loads what a tenant's documents are made of; one load serves all nodes that ask after the same commit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use sluice_control_domain::{Load, PLATFORM, Record, Store, Stored, Tenant, compile::Fleet};
use sluice_node_identity::TenantId;

use crate::record::one;

/// Records per read.
const PAGE: u32 = 1_000;
/// Tenants whose fleet is kept.
const KEPT: usize = 1_024;

/// Fleets by tenant, each with the commit it was loaded after.
#[derive(Default)]
pub(crate) struct Fleets(Mutex<HashMap<TenantId, (u64, Arc<Fleet>)>>);

impl Fleets {
    /// The fleet as of commit `commit` or later.
    pub(crate) async fn at(&self, store: &dyn Store, tenant: &TenantId, commit: u64) -> anyhow::Result<Arc<Fleet>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned();
        if let Some((_, fleet)) = kept.filter(|(at, _)| commit > 0 && *at >= commit) {
            return Ok(fleet);
        }
        let fleet = Arc::new(load(store, tenant).await?);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= KEPT {
            all.clear();
        }
        all.insert(tenant.clone(), (commit, fleet.clone()));
        Ok(fleet)
    }
}

/// A tenant's fleet as it is now.
pub(crate) async fn load(store: &dyn Store, id: &TenantId) -> anyhow::Result<Fleet> {
    let tenant = one::<Tenant>(store, PLATFORM, id.as_str()).await?;
    let tenant = tenant.context("a node's tenant is gone")?.body;
    Ok(Fleet {
        tenant,
        nodes: all(store, id).await?,
        gateways: all(store, id).await?,
        apps: all(store, id).await?,
        resources: all(store, id).await?,
        exceptions: all(store, id).await?,
    })
}

/// All of a tenant's records of one sort.
pub(crate) async fn all<R: Record>(store: &dyn Store, tenant: &TenantId) -> anyhow::Result<Vec<R>> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = Load::Scan { kind: R::KIND, tenant: tenant.to_string(), after, limit: PAGE };
        let page = store.load(page).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.key.id.clone());
        let full = page.len() >= PAGE as usize;
        for stored in page {
            found.push(Stored::typed::<R>(stored)?.body);
        }
        if !full {
            return Ok(found);
        }
    }
}
