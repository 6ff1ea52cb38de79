//! Integrations: declaration, service credential, sync, data-cache explorer.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{ChangeSet, Commit, Integration, PLATFORM, Tenant};
use sluice_node_identity::{IntegrationId, TenantId};

use super::{
    AdminState, ApiError, Caller, Rights,
    extract::{Body, Path, Query},
    model::{IntegrationView, Page, Paging, PutCredential, PutIntegration, Synced},
};

/// Longest declaration.
const MAX_DECLARATION: usize = 256 * 1024;
/// Longest login name or password in a credential.
const MAX_LOGIN: usize = 1024;

fn view(integration: Integration) -> IntegrationView {
    let (synced, rows, error) = match integration.last_sync {
        Some((at, rows, error)) => (Some(at), Some(rows), error),
        None => (None, None, None),
    };
    IntegrationView { id: integration.id, synced, rows, error }
}

/// List integrations.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/integrations", tag = "integrations",
    params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<IntegrationView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<IntegrationView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<Integration>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: found.into_iter().map(|found| view(found.body)).collect(), next }))
}

/// Add an integration or replace its declaration. A declaration that does not check changes nothing.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/integrations/{integration}", tag = "integrations",
    params(("tenant" = String, Path), ("integration" = String, Path)), request_body = PutIntegration,
    responses((status = 200, body = IntegrationView)), security(("token" = [])))]
pub(super) async fn put(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, integration)): Path<(TenantId, IntegrationId)>,
    Body(request): Body<PutIntegration>,
) -> Result<Json<IntegrationView>, ApiError> {
    caller.may_touch(&tenant)?;
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    if request.declaration.len() > MAX_DECLARATION {
        return Err(ApiError::invalid(format!("a declaration has at most {MAX_DECLARATION} bytes")));
    }
    state.integrations.validate(&request.declaration)?;
    let before = state.find::<Integration>(tenant.as_str(), integration.as_str()).await?;
    let last_sync = before.as_ref().and_then(|before| before.body.last_sync.clone());
    let after = Integration { tenant: tenant.clone(), id: integration, declaration: request.declaration, last_sync };
    let subject = format!("integration/{}", after.id);
    let audit = caller.did(state.now(), "integration.put", subject, json!({ "bytes": after.declaration.len() }));
    let set = ChangeSet::of(&tenant).audit(audit);
    let set = match &before {
        Some(before) => set.update(before, &after),
        None => set.create(&after),
    };
    match state.store.commit(set).await? {
        Commit::Done => Ok(Json(view(after))),
        Commit::Conflict => Err(ApiError::conflict()),
    }
}

/// Writes the audit entry of an act whose effect lies outside the store, before the act: an act that cannot be
/// recorded does not happen.
async fn record(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    integration: &IntegrationId,
    act: &str,
    detail: serde_json::Value,
) -> Result<(), ApiError> {
    caller.may_touch(tenant)?;
    state.one::<Integration>(tenant.as_str(), integration.as_str()).await?;
    let audit = caller.did(state.now(), act, format!("integration/{integration}"), detail);
    state.create("audit entry", ChangeSet::of(tenant).audit(audit)).await
}

/// Store the service account's login in the wallet. There is no way to read it back.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/integrations/{integration}/credential", tag = "integrations",
    params(("tenant" = String, Path), ("integration" = String, Path)), request_body = PutCredential,
    responses((status = 204)), security(("token" = [])))]
pub(super) async fn put_credential(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, integration)): Path<(TenantId, IntegrationId)>,
    Body(request): Body<PutCredential>,
) -> Result<StatusCode, ApiError> {
    let (login, password) = (&request.login, request.password.expose());
    if login.is_empty() || login.len() > MAX_LOGIN || password.len() > MAX_LOGIN {
        return Err(ApiError::invalid(format!("login has 1 to {MAX_LOGIN} bytes, password at most {MAX_LOGIN}")));
    }
    record(&state, &caller, &tenant, &integration, "integration.credential", json!({})).await?;
    state.integrations.put_service_credential(&tenant, &integration, login, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Run a full sync now and wait for it.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/integrations/{integration}/sync", tag = "integrations",
    params(("tenant" = String, Path), ("integration" = String, Path)),
    responses((status = 200, body = Synced)), security(("token" = [])))]
pub(super) async fn sync(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, integration)): Path<(TenantId, IntegrationId)>,
) -> Result<Json<Synced>, ApiError> {
    record(&state, &caller, &tenant, &integration, "integration.sync", json!({})).await?;
    let (rows, changed, cards) = state.integrations.sync(&tenant, &integration).await?;
    Ok(Json(Synced { rows, changed, cards }))
}

/// Data-cache explorer: rows of one table, for full administrators of the tenant only.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/integrations/{integration}/cache/{table}", tag = "integrations",
    params(("tenant" = String, Path), ("integration" = String, Path), ("table" = String, Path), Paging),
    responses((status = 200, body = Page<Object>)), security(("token" = [])))]
pub(super) async fn cache(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, integration, table)): Path<(TenantId, IntegrationId, String)>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<serde_json::Value>>, ApiError> {
    caller.may_touch(&tenant)?;
    if caller.rights != Rights::FullAdministrator {
        return Err(ApiError::forbidden(
            "only a full administrator reads the cache; have such a token made: sluice admin token add --full",
        ));
    }
    record(&state, &caller, &tenant, &integration, "integration.cache", json!({ "table": table })).await?;
    let items = state.integrations.cache(&tenant, &integration, &table, paging.limit()).await?;
    Ok(Json(Page { items, next: None }))
}
