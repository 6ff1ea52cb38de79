//! The audit chains: pages of them, and whether they are intact.

use axum::{Json, extract::State};
use serde::Deserialize;
use sluice_node_identity::TenantId;
use utoipa::IntoParams;

use super::{
    AdminState, ApiError, Caller,
    extract::{Path, Query},
    model::{AuditVerdict, AuditView, Page},
};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// Last number already seen.
    after: Option<u64>,
    /// At most 1,000; 100 unless told otherwise.
    limit: Option<u32>,
}

async fn page(state: &AdminState, tenant: Option<&TenantId>, since: &Since) -> Result<Json<Page<AuditView>>, ApiError> {
    let limit = since.limit.unwrap_or(100).clamp(1, 1000);
    let found = state.store.audit(tenant, since.after.unwrap_or(0), limit).await?;
    let full = u32::try_from(found.len()).is_ok_and(|count| count >= limit);
    let next = found.last().filter(|_| full).map(|(seq, ..)| seq.to_string());
    let view = |(seq, entry, hash): (u64, sluice_control_domain::AuditEntry, String)| AuditView {
        seq,
        at: entry.at,
        actor: entry.actor,
        act: entry.act,
        subject: entry.subject,
        detail: entry.detail,
        hash,
    };
    Ok(Json(Page { items: found.into_iter().map(view).collect(), next }))
}

async fn verdict(state: &AdminState, tenant: Option<&TenantId>) -> Json<AuditVerdict> {
    Json(match state.ledger.verify(tenant).await {
        Ok(entries) => AuditVerdict { intact: true, entries, problem: None },
        Err(problem) => AuditVerdict { intact: false, entries: 0, problem: Some(problem) },
    })
}

/// The platform's chain.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Since),
    responses((status = 200, body = Page<AuditView>)), security(("token" = [])))]
pub(super) async fn platform(
    State(state): State<AdminState>,
    caller: Caller,
    Query(since): Query<Since>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    caller.owns_platform()?;
    page(&state, None, &since).await
}

/// A tenant's chain.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/audit", tag = "audit", params(("tenant" = String, Path), Since),
    responses((status = 200, body = Page<AuditView>)), security(("token" = [])))]
pub(super) async fn tenant(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(since): Query<Since>,
) -> Result<Json<Page<AuditView>>, ApiError> {
    caller.may_touch(&tenant)?;
    page(&state, Some(&tenant), &since).await
}

/// Walk the platform's chain.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerdict)), security(("token" = [])))]
pub(super) async fn verify_platform(
    State(state): State<AdminState>,
    caller: Caller,
) -> Result<Json<AuditVerdict>, ApiError> {
    caller.owns_platform()?;
    Ok(verdict(&state, None).await)
}

/// Walk a tenant's chain.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/audit/verify", tag = "audit", params(("tenant" = String, Path)),
    responses((status = 200, body = AuditVerdict)), security(("token" = [])))]
pub(super) async fn verify_tenant(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
) -> Result<Json<AuditVerdict>, ApiError> {
    caller.may_touch(&tenant)?;
    Ok(verdict(&state, Some(&tenant)).await)
}
