//! Resources behind connectors.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_connector_wire::{BadPorts, BadTarget, Ports, Question, Target, Verdict, WeeklyWindow};
use sluice_control_domain::{ChangeSet, ExceptionRecord, ResourceRecord, Site};
use sluice_node_identity::{TenantId, UnixTime};

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{Page, Paging, ResourceView, created},
};

/// Most networks one resource names.
pub(super) const MAX_NETWORKS: usize = 32;

/// Reads `tcp:host:port` or `udp:host:port` with a port that can be dialled.
pub(super) fn parse_target(text: &str) -> Result<Target, ApiError> {
    let target: Target = text.parse().map_err(|error: BadTarget| ApiError::invalid(error.to_string()))?;
    if target.port == 0 {
        return Err(ApiError::invalid("target needs a port from 1 to 65535"));
    }
    Ok(target)
}

/// Refuses what connectors would refuse, and a target that its own rule does not cover.
fn check_rule(resource: &ResourceRecord, now: UnixTime) -> Result<(), ApiError> {
    let rule = resource.rule(&[]);
    rule.check(now, 0).map_err(|fault| ApiError::invalid(format!("the resource's rule {fault}")))?;
    let asked = Question { caller: "", resource: None, target: &resource.target };
    match rule.judge(&asked, now) {
        Verdict::OtherHost => Err(ApiError::invalid("hosts must cover the target's host")),
        Verdict::OtherPort => Err(ApiError::invalid("the target's port must be among ports")),
        _ => Ok(()),
    }
}

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
    let target = parse_target(&request.target)?;
    if request.networks.len() > MAX_NETWORKS {
        return Err(ApiError::invalid(format!("a resource names at most {MAX_NETWORKS} networks")));
    }
    if !request.for_users && !request.for_control {
        return Err(ApiError::invalid("set for_users, for_control or both; otherwise nobody could reach it"));
    }
    let ports = request.ports.as_deref().map(str::parse).transpose();
    let ports: Option<Ports> = ports.map_err(|error: BadPorts| ApiError::invalid(error.to_string()))?;
    let times = request.times.iter().map(|text| text.parse()).collect::<Result<Vec<WeeklyWindow>, _>>();
    let times = times.map_err(|error| ApiError::invalid(error.to_string()))?;
    require_site(&state, &tenant, &request.site).await?;
    if state.find::<ExceptionRecord>(tenant.as_str(), request.id.as_str()).await?.is_some() {
        return Err(ApiError::exists("name"));
    }
    let ResourceView { id, site, networks, for_users, for_control, hosts, class, .. } = request;
    let resource = ResourceRecord {
        tenant: tenant.clone(),
        id,
        site,
        target,
        networks,
        for_users,
        for_control,
        class,
        hosts,
        ports,
        times,
    };
    check_rule(&resource, state.now())?;
    let detail = json!({
        "target": resource.target.to_string(), "for_users": for_users, "for_control": for_control,
        "rule": resource.rule(&[]).to_string(),
    });
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
