//! Sites.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{ChangeSet, PLATFORM, Site, Tenant};
use sluice_node_identity::TenantId;

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{Page, Paging, SiteView, check_label, created},
};

/// Add a site.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/sites", tag = "sites", params(("tenant" = String, Path)),
    request_body = SiteView, responses((status = 201, body = SiteView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<SiteView>,
) -> Result<(StatusCode, Json<SiteView>), ApiError> {
    caller.may_touch(&tenant)?;
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    check_label("display_name", &request.display_name)?;
    check_label("time_zone", &request.time_zone)?;
    let SiteView { id, display_name, time_zone } = request;
    let site = Site { tenant: tenant.clone(), id, display_name, time_zone };
    let audit = caller.did(state.now(), "site.add", format!("site/{}", site.id), json!({}));
    state.create("site", ChangeSet::of(&tenant).create(&site).audit(audit)).await?;
    Ok(created(site.into()))
}

/// List sites.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/sites", tag = "sites", params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<SiteView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<SiteView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (sites, next) = state.page::<Site>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: sites.into_iter().map(|site| site.body.into()).collect(), next }))
}
