//! Apps that users open at a tenant's gateways. The feed is an app too, an implicit one.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_connector_wire::Protocol;
use sluice_control_domain::{
    AppPlace, AppRecord, ChangeSet, ExceptionRecord, PLATFORM, ResourceRecord, Tenant, compile::FEED_APP,
};
use sluice_gateway_access::{Upstream, removed_from_request};
use sluice_node_identity::{AppId, TenantId};

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{AppView, Page, Paging, check_host, check_label, created},
    tenants::{below, domain_of},
};

/// Most groups one app names.
const MAX_GROUPS: usize = 100;

fn check(request: &AppView, tenant: &Tenant) -> Result<(), ApiError> {
    check_label("display_name", &request.display_name)?;
    check_host("host", &request.host)?;
    if request.id.as_str() == FEED_APP {
        return Err(ApiError::invalid("this name belongs to the feed, which every tenant has; choose another"));
    }
    let domain = domain_of(&tenant.login_host);
    if !below(&request.host, domain) {
        return Err(ApiError::invalid(format!("host must lie below {domain}, this tenant's domain")));
    }
    let own = [&tenant.login_host, &tenant.est_host, &tenant.checkin_host, &tenant.feed_host];
    if own.contains(&&request.host) {
        return Err(ApiError::invalid("host is already the tenant's login, EST, check-in or feed host"));
    }
    if request.groups.len() > MAX_GROUPS {
        return Err(ApiError::invalid(format!("an app names at most {MAX_GROUPS} groups")));
    }
    for group in &request.groups {
        check_label("a group", group)?;
    }
    if let Some(header) = &request.user_header {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let own = header.get(..2).is_some_and(|front| front.eq_ignore_ascii_case("x-"));
        // Gateways strip some families from every request; such a header would never arrive.
        if !own || header.len() > 64 || !header.bytes().all(token) || removed_from_request(header, None) {
            return Err(ApiError::invalid(
                "user_header is a name such as X-Remote-User; X-Sluice-… and X-Forwarded-… are taken",
            ));
        }
    }
    Ok(())
}

async fn check_place(state: &AdminState, tenant: &TenantId, place: &AppPlace) -> Result<(), ApiError> {
    match place {
        AppPlace::Direct(Upstream::Direct { address, .. }) => {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.filter(|port| *port > 0).map(|_| ()).ok_or_else(|| ApiError::invalid("address is host:port"))
        }
        // The other shapes are control's own: they would let a tenant point an app at another one's connectors.
        AppPlace::Direct(_) => Err(ApiError::invalid("a direct place has kind \"direct\"")),
        AppPlace::Resource { resource, .. } => {
            let found = state.find::<ResourceRecord>(tenant.as_str(), resource.as_str()).await?;
            let none = found.is_none();
            let exception = state.find::<ExceptionRecord>(tenant.as_str(), resource.as_str()).await?;
            let exception = exception.map(|found| found.body).filter(|found| none && found.resource == *resource);
            match (found.map(|found| found.body), exception) {
                (Some(found), _) if found.target.protocol != Protocol::Tcp => {
                    Err(ApiError::invalid(format!("resource \"{resource}\" is not reached by TCP, as apps are")))
                }
                (Some(found), _) if found.for_users => Ok(()),
                (Some(_), _) => {
                    Err(ApiError::invalid(format!("resource \"{resource}\" is not for users; set for_users on it")))
                }
                // Published only while the exception lasts.
                (None, Some(found)) if found.target.protocol == Protocol::Tcp => Ok(()),
                (None, _) => Err(ApiError::invalid(format!("there is no resource \"{resource}\"; add it first"))),
            }
        }
    }
}

/// Add an app.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/apps", tag = "apps", params(("tenant" = String, Path)),
    request_body = AppView, responses((status = 201, body = AppView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(mut request): Body<AppView>,
) -> Result<(StatusCode, Json<AppView>), ApiError> {
    caller.may_touch(&tenant)?;
    let owner = state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    check(&request, &owner.body)?;
    state.not_ours("host", &request.host)?;
    let _lists = state.lists.lock().await;
    check_place(&state, &tenant, &request.place).await?;
    request.groups.sort();
    request.groups.dedup();
    let _hosts = state.hosts.lock().await;
    if state.taken::<AppRecord>("host", &request.host).await? {
        return Err(ApiError::exists("host"));
    }
    let app = AppRecord {
        tenant: tenant.clone(),
        id: request.id.clone(),
        display_name: request.display_name.clone(),
        host: request.host.clone(),
        place: request.place.clone(),
        groups: request.groups.clone(),
        user_header: request.user_header.clone(),
    };
    let detail = json!({ "host": app.host, "groups": app.groups });
    let audit = caller.did(state.now(), "app.add", format!("app/{}", app.id), detail);
    state.create("app", ChangeSet::of(&tenant).create(&app).audit(audit)).await?;
    Ok(created(request))
}

/// List apps.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/apps", tag = "apps", params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<AppView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<AppView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<AppRecord>(tenant.as_str(), &paging).await?;
    let view = |app: AppRecord| AppView {
        id: app.id,
        display_name: app.display_name,
        host: app.host,
        place: app.place,
        groups: app.groups,
        user_header: app.user_header,
    };
    Ok(Json(Page { items: found.into_iter().map(|app| view(app.body)).collect(), next }))
}

/// Remove an app: gateways stop publishing it. Its resource stays.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/apps/{app}", tag = "apps",
    params(("tenant" = String, Path), ("app" = String, Path)),
    responses((status = 204, description = "gone")), security(("token" = [])))]
pub(super) async fn remove(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, app)): Path<(TenantId, AppId)>,
) -> Result<StatusCode, ApiError> {
    caller.may_touch(&tenant)?;
    let now = state.now();
    state
        .change::<AppRecord, ()>(tenant.as_str(), app.as_str(), |loaded| {
            let detail = json!({ "host": loaded.body.host });
            let audit = caller.did(now, "app.remove", format!("app/{app}"), detail);
            Ok((ChangeSet::of(&tenant).delete(loaded).audit(audit), ()))
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
