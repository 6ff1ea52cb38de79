//! Hubs: enrolment codes one by one or by list, standing, revocation.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{
    ChangeSet, EnrollCode, HubRecord, HubState, PLATFORM, Site, StateAudience, StateChange, Tenant,
};
use sluice_node_identity::{CodeBinding, HubId, JoinSecret, TenantId, UnixTime, api::HubStanding};

use super::{
    AdminState, ApiError, Caller, auth,
    extract::{Body, Path, Query},
    model::{AddHub, HubView, ImportHubs, ImportedHubs, NewCode, Page, Paging, SecretText, check_label, created},
};

/// Most rows of one list.
pub(super) const MAX_IMPORT: usize = 1000;
/// A hub's code is built into its image or printed on its box: it lives longer than a node's.
const DEFAULT_DAYS: u32 = 30;
const MAX_DAYS: u32 = 90;
/// Most sites looked at for one list.
const MAX_SITES: u32 = 1000;

struct NewHub {
    record: HubRecord,
    code: EnrollCode,
    answer: NewCode,
}

fn new_hub(tenant: &TenantId, request: AddHub, now: UnixTime) -> Result<NewHub, ApiError> {
    let AddHub { id, site, serial, days } = request;
    if let Some(serial) = &serial {
        check_label("serial", serial)?;
    }
    let (code, answer) = new_code(tenant, &id, days, now)?;
    let tenant = tenant.clone();
    let state = HubState::Expected;
    let record =
        HubRecord { tenant, id, site, serial, state, keys: Vec::new(), certificate: None, seen: None, created: now };
    Ok(NewHub { record, code, answer })
}

fn new_code(
    tenant: &TenantId,
    hub: &HubId,
    days: Option<u32>,
    now: UnixTime,
) -> Result<(EnrollCode, NewCode), ApiError> {
    let days = days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ApiError::invalid(format!("days is 1 to {MAX_DAYS}")));
    }
    let secret = JoinSecret::new(auth::random()?);
    let valid_until = now.plus(u64::from(days).saturating_mul(86_400));
    let code = CodeBinding { digest: secret.digest(), valid_until, bound: None, alarmed: false };
    let answer = NewCode { id: hub.to_string(), code: SecretText::new(secret.to_text()), valid_until };
    Ok((EnrollCode { tenant: tenant.clone(), hub: hub.clone(), code, issued: None }, answer))
}

/// Add a hub; the answer holds its enrolment code, once.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/hubs", tag = "hubs", params(("tenant" = String, Path)),
    request_body = AddHub, responses((status = 201, body = NewCode)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<AddHub>,
) -> Result<(StatusCode, Json<NewCode>), ApiError> {
    let mut codes = add_all(&state, &caller, &tenant, vec![request]).await?;
    codes.pop().map(created).ok_or_else(|| ApiError::internal("no code was made"))
}

/// Import a list of hubs, each assigned to its site: all rows or none.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/hubs/import", tag = "hubs", params(("tenant" = String, Path)),
    request_body = ImportHubs, responses((status = 201, body = ImportedHubs)), security(("token" = [])))]
pub(super) async fn import(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<ImportHubs>,
) -> Result<(StatusCode, Json<ImportedHubs>), ApiError> {
    if request.hubs.is_empty() || request.hubs.len() > MAX_IMPORT {
        return Err(ApiError::invalid(format!("a list has 1 to {MAX_IMPORT} hubs; split a longer one")));
    }
    let codes = add_all(&state, &caller, &tenant, request.hubs).await?;
    Ok(created(ImportedHubs { codes }))
}

async fn add_all(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    hubs: Vec<AddHub>,
) -> Result<Vec<NewCode>, ApiError> {
    caller.may_touch(tenant)?;
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    let paging = Paging { after: None, limit: Some(MAX_SITES) };
    let sites: BTreeSet<_> =
        state.page::<Site>(tenant.as_str(), &paging).await?.0.into_iter().map(|site| site.body.id).collect();
    let mut seen = BTreeSet::new();
    let now = state.now();
    let mut set = ChangeSet::of(tenant);
    let mut answers = Vec::with_capacity(hubs.len());
    let count = hubs.len();
    for hub in hubs {
        if !sites.contains(&hub.site) {
            return Err(ApiError::invalid(format!(
                "hub \"{}\": there is no site \"{}\"; add it first",
                hub.id, hub.site
            )));
        }
        if !seen.insert(hub.id.clone()) {
            return Err(ApiError::invalid(format!("hub \"{}\" stands twice in the list", hub.id)));
        }
        let made = new_hub(tenant, hub, now)?;
        let audit = caller.did(now, "hub.add", format!("hub/{}", made.record.id), json!({ "site": made.record.site }));
        set = set.create(&made.record).create(&made.code).audit(audit);
        answers.push(made.answer);
    }
    let what = if count == 1 { "hub" } else { "hub, or one of these hubs," };
    state.create(what, set).await?;
    Ok(answers)
}

/// Give a hub a new enrolment code. A revoked hub is expected again; an enrolled one stays enrolled.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/hubs/{hub}/code", tag = "hubs",
    params(("tenant" = String, Path), ("hub" = String, Path)),
    responses((status = 201, body = NewCode)), security(("token" = [])))]
pub(super) async fn renew_code(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, hub)): Path<(TenantId, HubId)>,
) -> Result<(StatusCode, Json<NewCode>), ApiError> {
    caller.may_touch(&tenant)?;
    let now = state.now();
    let (code, answer) = new_code(&tenant, &hub, None, now)?;
    let record = state.one::<HubRecord>(tenant.as_str(), hub.as_str()).await?;
    let mut set = ChangeSet::of(&tenant);
    if record.body.state == HubState::Revoked {
        // Its old keys stay worthless; only a certificate for the new code brings it back.
        let after = HubRecord { state: HubState::Expected, keys: Vec::new(), certificate: None, ..record.body.clone() };
        set = set.update(&record, &after);
    }
    set = match state.find::<EnrollCode>(tenant.as_str(), hub.as_str()).await? {
        Some(before) => set.update(&before, &code),
        None => set.create(&code),
    };
    let set = set.audit(caller.did(now, "hub.code", format!("hub/{hub}"), json!({})));
    match state.store.commit(set).await? {
        sluice_control_domain::Commit::Done => Ok(created(answer)),
        sluice_control_domain::Commit::Conflict => Err(ApiError::conflict()),
    }
}

/// List hubs.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/hubs", tag = "hubs", params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<HubView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<HubView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<HubRecord>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: found.into_iter().map(|hub| hub.body.into()).collect(), next }))
}

/// Revoke a hub: its certificate is worthless and its traffic stops at the edge within a second.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/hubs/{hub}/revoke", tag = "hubs",
    params(("tenant" = String, Path), ("hub" = String, Path)),
    responses((status = 200, body = HubView)), security(("token" = [])))]
pub(super) async fn revoke_one(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, hub)): Path<(TenantId, HubId)>,
) -> Result<Json<HubView>, ApiError> {
    Ok(Json(revoke(&state, &caller, &tenant, &hub).await?.into()))
}

/// What [`revoke_one`] does; the console's button does the same.
///
/// # Errors
/// Not found, for a caller of another tenant too.
pub async fn revoke(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    hub: &HubId,
) -> Result<HubRecord, ApiError> {
    caller.may_touch(tenant)?;
    let now = state.now();
    let record = state.one::<HubRecord>(tenant.as_str(), hub.as_str()).await?;
    let after = HubRecord { state: HubState::Revoked, keys: Vec::new(), ..record.body.clone() };
    let standing = HubStanding { enrolled: false, keys: Vec::new() };
    let change = StateChange {
        audience: StateAudience::Site(after.site.clone()),
        key: format!("hub/{hub}"),
        value: Some(serde_json::to_value(standing).map_err(ApiError::internal)?),
    };
    let audit = caller.did(now, "hub.revoke", format!("hub/{hub}"), json!({ "site": after.site }));
    let mut set = ChangeSet::of(tenant).update(&record, &after).state(change).audit(audit);
    if let Some(code) = state.find::<EnrollCode>(tenant.as_str(), hub.as_str()).await? {
        // A revoked hub must not enrol again with the code in its image.
        set = set.delete(&code);
    }
    match state.store.commit(set).await? {
        sluice_control_domain::Commit::Done => Ok(after),
        sluice_control_domain::Commit::Conflict => Err(ApiError::conflict()),
    }
}
