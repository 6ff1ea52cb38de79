//! Tenants: their hosts, hub classes and traffic policy.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{ChangeSet, PLATFORM, Tenant};
use sluice_node_identity::TenantId;
use sluice_qos_plan::QosPolicy;

use super::{
    AdminState, ApiError, Caller,
    extract::{Body, Path, Query},
    model::{AddTenant, Page, Paging, PutClasses, TenantView, check_host, check_label, created},
};

/// Most tenants of one control.
const MAX_TENANTS: u32 = 1000;
/// Most hub classes of one tenant.
const MAX_CLASSES: usize = 100;
/// Most traffic rules of one tenant (see [`QosPolicy`]).
const MAX_RULES: usize = 1000;

/// The domain all of a tenant's hosts lie below: the parent of its login host, which the platform owner vouched for.
#[must_use]
pub(super) fn domain_of(login_host: &str) -> &str {
    login_host.split_once('.').map_or("", |(_, parent)| parent)
}

/// Whether `host` lies below `domain` (or is it).
pub(super) fn below(host: &str, domain: &str) -> bool {
    host == domain || host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'))
}

fn check(state: &AdminState, request: &AddTenant) -> Result<(), ApiError> {
    check_label("display_name", &request.display_name)?;
    let hosts = [
        ("login_host", &request.login_host),
        ("est_host", &request.est_host),
        ("checkin_host", &request.checkin_host),
        ("feed_host", &request.feed_host),
    ];
    let domain = domain_of(&request.login_host);
    if !domain.contains('.') {
        return Err(ApiError::invalid("login_host needs at least three labels, such as login.acme.example"));
    }
    for (index, (what, host)) in hosts.iter().enumerate() {
        check_host(what, host)?;
        state.not_ours(what, host)?;
        if !below(host, domain) {
            return Err(ApiError::invalid(format!("{what} must lie below {domain}, the parent of login_host")));
        }
        if hosts.iter().skip(index.saturating_add(1)).any(|(_, other)| other == host) {
            return Err(ApiError::invalid(format!("{what} is used twice; each of a tenant's hosts is its own")));
        }
    }
    Ok(())
}

/// Add a tenant; makes its hub root, policy key and data key.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = AddTenant,
    responses((status = 201, body = TenantView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Body(request): Body<AddTenant>,
) -> Result<(StatusCode, Json<TenantView>), ApiError> {
    caller.owns_platform()?;
    check(&state, &request)?;
    let now = state.now();
    let _hosts = state.hosts.lock().await;
    let paging = Paging { after: None, limit: Some(MAX_TENANTS) };
    let (tenants, _) = state.page::<Tenant>(PLATFORM, &paging).await?;
    if tenants.iter().any(|other| other.body.id == request.id) {
        // Asked before keys are made: an existing tenant's keys must never be replaced.
        return Err(ApiError::exists("tenant"));
    }
    let domain = domain_of(&request.login_host);
    let overlaps = |other: &str| below(other, domain) || below(domain, other);
    if tenants.iter().any(|other| overlaps(domain_of(&other.body.login_host))) {
        return Err(ApiError::invalid(format!(
            "{domain} overlaps another tenant's domain; choose hosts below another one"
        )));
    }
    if u32::try_from(tenants.len()).is_ok_and(|count| count >= MAX_TENANTS) {
        return Err(ApiError::invalid(format!("this control already has {MAX_TENANTS} tenants, the most it takes")));
    }
    let keys = state.authority.make_tenant(&request.id, now).map_err(ApiError::internal)?;
    let tenant = Tenant {
        id: request.id,
        display_name: request.display_name,
        login_host: request.login_host,
        est_host: request.est_host,
        checkin_host: request.checkin_host,
        feed_host: request.feed_host,
        hub_root: keys.hub_root,
        policy_key: keys.policy_key,
        policy: Default::default(),
        policy_epoch: 1,
        classes: Vec::new(),
        qos: QosPolicy::default(),
        created: now,
    };
    let audit =
        caller.did(now, "tenant.add", format!("tenant/{}", tenant.id), json!({ "login_host": tenant.login_host }));
    state.create("tenant", ChangeSet::of(&tenant.id).create(&tenant).audit(audit)).await?;
    Ok(created(tenant.into()))
}

/// List tenants: all for a platform owner, else the caller's own.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(Paging),
    responses((status = 200, body = Page<TenantView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<TenantView>>, ApiError> {
    if let Some(own) = &caller.tenant {
        let tenant = state.one::<Tenant>(PLATFORM, own.as_str()).await?;
        return Ok(Json(Page { items: vec![tenant.body.into()], next: None }));
    }
    let (tenants, next) = state.page::<Tenant>(PLATFORM, &paging).await?;
    Ok(Json(Page { items: tenants.into_iter().map(|tenant| tenant.body.into()).collect(), next }))
}

/// Show one tenant.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path)),
    responses((status = 200, body = TenantView)), security(("token" = [])))]
pub(super) async fn show(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
) -> Result<Json<TenantView>, ApiError> {
    caller.may_touch(&tenant)?;
    Ok(Json(state.one::<Tenant>(PLATFORM, tenant.as_str()).await?.body.into()))
}

/// Replace the traffic policy of a tenant's edges.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/qos", tag = "tenants", params(("tenant" = String, Path)),
    request_body = Object, responses((status = 200, body = TenantView)), security(("token" = [])))]
pub(super) async fn put_qos(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(qos): Body<QosPolicy>,
) -> Result<Json<TenantView>, ApiError> {
    caller.may_touch(&tenant)?;
    if qos.rules.len() > MAX_RULES {
        return Err(ApiError::invalid(format!("a policy has at most {MAX_RULES} rules")));
    }
    if let Some(rule) = qos.rules.iter().find(|rule| rule.when.ports.0 > rule.when.ports.1 || rule.when.ports.0 == 0) {
        let (first, last) = rule.when.ports;
        return Err(ApiError::invalid(format!(
            "ports {first} to {last} are no range; write the lower port first, from 1"
        )));
    }
    let detail = json!({ "rules": qos.rules.len() });
    change(&state, &caller, &tenant, "tenant.qos", detail, |tenant| tenant.qos = qos.clone()).await
}

/// Replace the hub classes of a tenant.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/classes", tag = "tenants", params(("tenant" = String, Path)),
    request_body = PutClasses, responses((status = 200, body = TenantView)), security(("token" = [])))]
pub(super) async fn put_classes(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<PutClasses>,
) -> Result<Json<TenantView>, ApiError> {
    caller.may_touch(&tenant)?;
    if request.classes.len() > MAX_CLASSES {
        return Err(ApiError::invalid(format!("a tenant has at most {MAX_CLASSES} hub classes")));
    }
    for class in &request.classes {
        check_label("a class's name", &class.name)?;
        check_label("a class's vendor_class", &class.vendor_class)?;
    }
    let detail = json!({ "classes": request.classes.len() });
    change(&state, &caller, &tenant, "tenant.classes", detail, |tenant| tenant.classes = request.classes.clone()).await
}

async fn change(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    act: &str,
    detail: serde_json::Value,
    edit: impl Fn(&mut Tenant) + Send + Sync,
) -> Result<Json<TenantView>, ApiError> {
    let now = state.now();
    let after = state
        .change::<Tenant, Tenant>(PLATFORM, tenant.as_str(), |loaded| {
            let mut after = loaded.body.clone();
            edit(&mut after);
            let audit = caller.did(now, act, format!("tenant/{tenant}"), detail.clone());
            Ok((ChangeSet::of(tenant).update(loaded, &after).audit(audit), after))
        })
        .await?;
    Ok(Json(after.into()))
}
