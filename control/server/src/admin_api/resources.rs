//! Resources behind connectors.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde_json::json;
use sluice_connector_wire::{BadPorts, BadTarget, Ports, Protocol, Question, Target, Verdict, WeeklyWindow};
use sluice_control_domain::{
    AppPlace, AppRecord, ChangeSet, ExceptionRecord, Integration, ResourceRecord, Site, compile::Fleet,
};
use sluice_node_identity::{ResourceId, TenantId, UnixTime};

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{Page, Paging, ResourceView, Waits, created},
};
use crate::fleet;

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
    if state.find::<ExceptionRecord>(tenant.as_str(), request.id.as_str()).await?.is_some() {
        return Err(ApiError::exists("name"));
    }
    let resource = read(&state, &tenant, request).await?;
    let _lists = state.lists.lock().await;
    state.fits(&tenant, |fleet| fleet.resources.push(resource.clone())).await?;
    let audit = caller.did(state.now(), "resource.add", format!("resource/{}", resource.id), detail(&resource));
    state.create("resource", ChangeSet::of(&tenant).create(&resource).audit(audit)).await?;
    Ok(created(ResourceView { waits: state.waits(&tenant).await?, ..resource.into() }))
}

/// What is asked for, if it can be meant.
async fn read(state: &AdminState, tenant: &TenantId, request: ResourceView) -> Result<ResourceRecord, ApiError> {
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
    require_site(state, tenant, &request.site).await?;
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
    Ok(resource)
}

fn detail(resource: &ResourceRecord) -> serde_json::Value {
    json!({
        "site": resource.site, "target": resource.target.to_string(), "for_users": resource.for_users,
        "for_control": resource.for_control, "rule": resource.rule(&[]).to_string(),
    })
}

/// Replace a resource whole. Refused when an app or an integration that names it could not use it any more.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/resources/{resource}", tag = "resources",
    params(("tenant" = String, Path), ("resource" = String, Path)), request_body = ResourceView,
    responses((status = 200, body = ResourceView)), security(("token" = [])))]
pub(super) async fn change(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, id)): Path<(TenantId, ResourceId)>,
    Body(request): Body<ResourceView>,
) -> Result<Json<ResourceView>, ApiError> {
    caller.may_touch(&tenant)?;
    if request.id != id {
        return Err(ApiError::invalid("a resource keeps its name: id must be the one in the path"));
    }
    state.one::<ResourceRecord>(tenant.as_str(), id.as_str()).await?;
    let resource = read(&state, &tenant, request).await?;
    let _lists = state.lists.lock().await;
    let replace = |fleet: &mut Fleet| {
        fleet.resources.retain(|one| one.id != id);
        fleet.resources.push(resource.clone());
    };
    state.fits(&tenant, replace).await?;
    let tcp = resource.target.protocol == Protocol::Tcp;
    let users = Users::of(&state, &tenant, &id).await?;
    if !(tcp && resource.for_users) {
        Users::none(&users.apps, "can use only a TCP resource for users")?;
    }
    if !(tcp && resource.for_control) {
        Users::none(&users.integrations, "can use only a TCP resource for control")?;
    }
    let now = state.now();
    state
        .change::<ResourceRecord, ()>(tenant.as_str(), id.as_str(), |loaded| {
            let was = loaded.body.rule(&[]).to_string();
            let mut detail = detail(&resource);
            if let Some(detail) = detail.as_object_mut() {
                detail.insert("was".to_owned(), was.into());
            }
            let audit = caller.did(now, "resource.change", format!("resource/{id}"), detail);
            Ok((ChangeSet::of(&tenant).update(loaded, &resource).audit(audit), ()))
        })
        .await?;
    Ok(Json(ResourceView { waits: state.waits(&tenant).await?, ..resource.into() }))
}

/// Remove a resource: connectors refuse it from their next list on, and cut running streams that need it.
/// Refused while an app or an integration names it.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/resources/{resource}", tag = "resources",
    params(("tenant" = String, Path), ("resource" = String, Path)),
    responses((status = 204, description = "gone"),
        (status = 202, body = Waits, description = "gone; connectors wait for the customer's signature"), (status = 409, description = "something names it")),
    security(("token" = [])))]
pub(super) async fn remove(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, id)): Path<(TenantId, ResourceId)>,
) -> Result<Response, ApiError> {
    caller.may_touch(&tenant)?;
    state.one::<ResourceRecord>(tenant.as_str(), id.as_str()).await?;
    let _lists = state.lists.lock().await;
    let users = Users::of(&state, &tenant, &id).await?;
    Users::none(&users.apps, "names this resource; remove it first")?;
    Users::none(&users.integrations, "names this resource; give it another one first")?;
    let now = state.now();
    state
        .change::<ResourceRecord, ()>(tenant.as_str(), id.as_str(), |loaded| {
            let audit = caller.did(now, "resource.remove", format!("resource/{id}"), detail(&loaded.body));
            Ok((ChangeSet::of(&tenant).delete(loaded).audit(audit), ()))
        })
        .await?;
    state.gone(&tenant).await
}

/// What names a resource.
struct Users {
    apps: Vec<String>,
    integrations: Vec<String>,
}

impl Users {
    async fn of(state: &AdminState, tenant: &TenantId, resource: &ResourceId) -> Result<Self, ApiError> {
        let failed = |error: anyhow::Error| ApiError::internal(format!("{error:#}"));
        let apps: Vec<AppRecord> = fleet::all(state.store.as_ref(), tenant).await.map_err(failed)?;
        let integrations: Vec<Integration> = fleet::all(state.store.as_ref(), tenant).await.map_err(failed)?;
        let names = |app: &AppRecord| match &app.place {
            AppPlace::Resource { resource: named, .. } => named == resource,
            AppPlace::Direct(_) => false,
        };
        let asks =
            |one: &Integration| state.integrations.validate(&one.declaration).is_ok_and(|named| named == *resource);
        Ok(Self {
            apps: apps.iter().filter(|app| names(app)).map(|app| format!("app \"{}\"", app.id)).collect(),
            integrations: integrations
                .iter()
                .filter(|one| asks(one))
                .map(|one| format!("integration \"{}\"", one.id))
                .collect(),
        })
    }

    /// Refuses when there is one.
    fn none(users: &[String], why: &str) -> Result<(), ApiError> {
        users.first().map_or(Ok(()), |first| Err(ApiError::in_use(format!("{first} {why}"))))
    }
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
