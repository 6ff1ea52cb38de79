//! Resources behind connectors.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_connector_wire::Target;
use sluice_control_domain::{ChangeSet, ResourceRecord, Site};
use sluice_node_identity::TenantId;

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{Page, Paging, ResourceView, created},
};

/// Most networks one resource names.
const MAX_NETWORKS: usize = 32;

/// Add a resource.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/resources", tag = "resources",
    params(("tenant" = String, Path)), request_body = ResourceView,
    responses((status = 201, body = ResourceView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<ResourceView>,
) -> Result<(StatusCode, Json<ResourceView>), ApiError> {
    caller.may_touch(&tenant)?;
    let target: Target = request.target.parse().map_err(|_| ApiError::invalid("target is tcp:host:port"))?;
    if target.port == 0 {
        return Err(ApiError::invalid("target needs a port from 1 to 65535"));
    }
    if request.networks.len() > MAX_NETWORKS {
        return Err(ApiError::invalid(format!("a resource names at most {MAX_NETWORKS} networks")));
    }
    if !request.for_users && !request.for_control {
        return Err(ApiError::invalid("set for_users, for_control or both; otherwise nobody could reach it"));
    }
    require_site(&state, &tenant, &request.site).await?;
    let ResourceView { id, site, networks, for_users, for_control, class, .. } = request;
    let resource = ResourceRecord { tenant: tenant.clone(), id, site, target, networks, for_users, for_control, class };
    let detail = json!({ "target": resource.target.to_string(), "for_users": for_users, "for_control": for_control });
    let audit = caller.did(state.now(), "resource.add", format!("resource/{}", resource.id), detail);
    state.create("resource", ChangeSet::of(&tenant).create(&resource).audit(audit)).await?;
    Ok(created(resource.into()))
}

/// Refuses a site that the tenant does not have.
pub(super) async fn require_site(
    state: &AdminState,
    tenant: &TenantId,
    site: &sluice_node_identity::SiteId,
) -> Result<(), ApiError> {
    match state.find::<Site>(tenant.as_str(), site.as_str()).await? {
        Some(_) => Ok(()),
        None => Err(ApiError::invalid(format!("there is no site \"{site}\"; add it first"))),
    }
}

/// List resources.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/resources", tag = "resources",
    params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<ResourceView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<ResourceView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<ResourceRecord>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: found.into_iter().map(|resource| resource.body.into()).collect(), next }))
}
