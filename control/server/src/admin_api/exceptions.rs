//! Exceptions: permissions that end by themselves within a day.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use sluice_connector_wire::{CONTROL, MAX_EXCEPTION, Target};
use sluice_control_domain::{ChangeSet, ExceptionRecord, NodeRecord, ResourceRecord};
use sluice_node_identity::{ResourceId, Role, TenantId};

use super::{
    AdminState, ApiError, Caller, auth,
    extract::{Body, Path, Query},
    model::{AddException, ExceptionView, Page, Paging, Waits, check_label, created},
    resources::{MAX_NETWORKS, parse_target, require_site},
};

/// Shortest exception, seconds: clocks differ by some.
const MIN_SECONDS: u64 = 60;
/// Most exceptions of one tenant at a time.
const MAX_EXCEPTIONS: u32 = 200;
/// Most callers of one.
const MAX_CALLERS: usize = 16;

fn check(request: &AddException) -> Result<Target, ApiError> {
    if !(MIN_SECONDS..=MAX_EXCEPTION).contains(&request.seconds) {
        let message = format!("an exception lasts {MIN_SECONDS} s to 24 h; what is needed for longer is a resource");
        return Err(ApiError::invalid(message));
    }
    check_label("why", &request.why)?;
    if request.callers.is_empty() || request.callers.len() > MAX_CALLERS {
        return Err(ApiError::invalid(format!("callers are 1 to {MAX_CALLERS}: control, or names of gateways")));
    }
    if request.networks.len() > MAX_NETWORKS {
        return Err(ApiError::invalid(format!("an exception names at most {MAX_NETWORKS} networks")));
    }
    parse_target(&request.target)
}

/// Add an exception: connectors hear of it at once (with a policy key of the customer: once he has signed), and end it
/// themselves.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/exceptions", tag = "exceptions",
    params(("tenant" = String, Path)), request_body = AddException,
    responses((status = 201, body = ExceptionView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<AddException>,
) -> Result<(StatusCode, Json<ExceptionView>), ApiError> {
    caller.may_touch(&tenant)?;
    let target = check(&request)?;
    require_site(&state, &tenant, &request.site).await?;
    for id in request.callers.iter().filter(|id| *id != CONTROL) {
        let node = state.find::<NodeRecord>(tenant.as_str(), id).await?;
        if node.is_none_or(|node| node.body.role != Role::Gateway) {
            return Err(ApiError::invalid(format!("there is no gateway \"{id}\"; callers are control or gateways")));
        }
    }
    let paging = Paging { after: None, limit: Some(MAX_EXCEPTIONS) };
    let now = state.now();
    let (others, _) = state.page::<ExceptionRecord>(tenant.as_str(), &paging).await?;
    if u32::try_from(others.len()).is_ok_and(|count| count >= MAX_EXCEPTIONS) {
        return Err(ApiError::invalid(format!("this tenant has {MAX_EXCEPTIONS} exceptions, the most it may have")));
    }
    let id: String = auth::random::<6>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let id: ResourceId = format!("x-{id}").parse()?;
    let (resource, networks) = widened(&state, &tenant, &id, &request).await?;
    let mut callers = request.callers;
    callers.sort();
    callers.dedup();
    let record = ExceptionRecord {
        tenant: tenant.clone(),
        id,
        site: request.site,
        resource,
        target,
        networks,
        callers,
        made: now,
        until: now.plus(request.seconds),
        why: request.why,
        by: format!("token/{}", caller.token),
    };
    let sound = record.rule(&[]).check(now, 0);
    sound.map_err(|fault| ApiError::invalid(format!("the exception's rule {fault}")))?;
    let _lists = state.lists.lock().await;
    state.fits(&tenant, |fleet| fleet.exceptions.push(record.clone())).await?;
    let detail = json!({
        "site": record.site, "resource": record.resource, "target": record.target.to_string(),
        "callers": record.callers, "until": record.until, "why": record.why,
    });
    let audit = caller.did(now, "exception.add", format!("exception/{}", record.id), detail);
    state.create("exception", ChangeSet::of(&tenant).create(&record).audit(audit)).await?;
    Ok(created(ExceptionView { waits: state.waits(&tenant).await?, ..record.into() }))
}

/// As which resource, and in which networks.
async fn widened(
    state: &AdminState,
    tenant: &TenantId,
    id: &ResourceId,
    request: &AddException,
) -> Result<(ResourceId, Vec<ipnetwork::IpNetwork>), ApiError> {
    let Some(name) = &request.resource else { return Ok((id.clone(), request.networks.clone())) };
    let resource = state.find::<ResourceRecord>(tenant.as_str(), name.as_str()).await?;
    let Some(resource) = resource.filter(|resource| resource.body.site == request.site) else {
        return Err(ApiError::invalid(format!("there is no resource \"{name}\" at site \"{}\"", request.site)));
    };
    let networks = if request.networks.is_empty() { resource.body.networks } else { request.networks.clone() };
    Ok((name.clone(), networks))
}

/// List exceptions.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/exceptions", tag = "exceptions",
    params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<ExceptionView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<ExceptionView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<ExceptionRecord>(tenant.as_str(), &paging).await?;
    let now = state.now();
    // One that is over and not yet swept away is none any more.
    let holding = found.into_iter().filter(|one| one.body.holds(now));
    Ok(Json(Page { items: holding.map(|one| one.body.into()).collect(), next }))
}

/// End an exception before its time: its connectors cut running streams that need it as soon as they have a list without it.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/exceptions/{exception}", tag = "exceptions",
    params(("tenant" = String, Path), ("exception" = String, Path)),
    responses((status = 204, description = "gone"),
        (status = 202, body = Waits, description = "gone; connectors wait for the customer's signature")), security(("token" = [])))]
pub(super) async fn remove(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, exception)): Path<(TenantId, ResourceId)>,
) -> Result<Response, ApiError> {
    caller.may_touch(&tenant)?;
    let now = state.now();
    state
        .change::<ExceptionRecord, ()>(tenant.as_str(), exception.as_str(), |loaded| {
            let detail = json!({ "until": loaded.body.until });
            let audit = caller.did(now, "exception.remove", format!("exception/{exception}"), detail);
            Ok((ChangeSet::of(&tenant).delete(loaded).audit(audit), ()))
        })
        .await?;
    state.gone(&tenant).await
}
