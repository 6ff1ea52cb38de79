//! Accounts of a tenant's local directory.

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version, password_hash::SaltString};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{
    ChangeSet, Load, PLATFORM, Record, StateAudience, StateChange, Tenant, UserRecord, UserRole, compile::EVERYONE,
};
use sluice_gateway_access::{UserStanding, user_key};
use sluice_node_identity::{TenantId, UserId};

use super::{
    AdminState, ApiError, Caller, Rights, auth,
    extract::{Body, Path, Query},
    model::{AddUser, Page, Paging, UserView, check_label, created},
};

/// Most groups one user is in.
const MAX_GROUPS: usize = 100;
/// Length of a password, in characters.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
/// Longest mail address.
const MAX_EMAIL: usize = 254;

fn hash(password: &str) -> Result<String, ApiError> {
    let salt = SaltString::encode_b64(&auth::random::<16>()?).map_err(ApiError::internal)?;
    // OWASP's first choice for argon2id: 19 MiB, two passes, one lane.
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default());
    Ok(argon.hash_password(password.as_bytes(), &salt).map_err(ApiError::internal)?.to_string())
}

fn check(request: &mut AddUser) -> Result<(), ApiError> {
    check_label("display_name", &request.display_name)?;
    request.email = request.email.to_lowercase();
    let sane = request.email.len() <= MAX_EMAIL
        && request.email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
        && request.email.bytes().all(|byte| byte.is_ascii_graphic());
    if !sane {
        return Err(ApiError::invalid("email is name@host"));
    }
    if !PASSWORD.contains(&request.password.expose().chars().count()) {
        return Err(ApiError::invalid("password has 8 to 128 characters"));
    }
    if request.groups.len() > MAX_GROUPS {
        return Err(ApiError::invalid(format!("a user is in at most {MAX_GROUPS} groups")));
    }
    for group in &request.groups {
        check_label("a group", group)?;
        if group.trim().eq_ignore_ascii_case(EVERYONE) {
            return Err(ApiError::invalid(format!("every user is in the group \"{EVERYONE}\"; leave it away")));
        }
    }
    request.groups.sort();
    request.groups.dedup();
    Ok(())
}

/// Add a user.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/users", tag = "users", params(("tenant" = String, Path)),
    request_body = AddUser, responses((status = 201, body = UserView)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(mut request): Body<AddUser>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    caller.may_touch(&tenant)?;
    check(&mut request)?;
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    let role = request.role.unwrap_or(UserRole::User);
    if role == UserRole::FullAdministrator && caller.rights != Rights::FullAdministrator {
        return Err(ApiError::forbidden("only a full administrator makes full administrators"));
    }
    // Viewer rules compare addresses: two accounts with one address would read each other's rows.
    let _hosts = state.hosts.lock().await;
    let by = Load::ByIndex {
        kind: UserRecord::KIND,
        tenant: Some(tenant.to_string()),
        name: "email",
        value: request.email.clone(),
        limit: 1,
    };
    if !state.store.load(by).await?.is_empty() {
        return Err(ApiError::exists("email address"));
    }
    let password = request.password.clone();
    let password_hash =
        tokio::task::spawn_blocking(move || hash(password.expose())).await.map_err(ApiError::internal)??;
    let now = state.now();
    let AddUser { id, email, display_name, groups, .. } = request;
    let user = UserRecord {
        tenant: tenant.clone(),
        id,
        email,
        display_name,
        password_hash,
        groups,
        role,
        disabled: false,
        created: now,
    };
    let detail = json!({ "groups": user.groups, "role": user.role });
    let audit = caller.did(now, "user.add", format!("user/{}", user.id), detail);
    state.create("user", ChangeSet::of(&tenant).create(&user).audit(audit)).await?;
    Ok(created(user.into()))
}

/// List users.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/users", tag = "users", params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<UserView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<UserView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<UserRecord>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: found.into_iter().map(|user| user.body.into()).collect(), next }))
}

/// Disable an account: nothing more is granted to it and its sessions end within a second.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/users/{user}/disable", tag = "users",
    params(("tenant" = String, Path), ("user" = String, Path)),
    responses((status = 200, body = UserView)), security(("token" = [])))]
pub(super) async fn disable(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, user)): Path<(TenantId, UserId)>,
) -> Result<Json<UserView>, ApiError> {
    caller.may_touch(&tenant)?;
    let now = state.now();
    let after = state
        .change::<UserRecord, UserRecord>(tenant.as_str(), user.as_str(), |loaded| {
            let after = UserRecord { disabled: true, ..loaded.body.clone() };
            let audit = caller.did(now, "user.disable", format!("user/{user}"), json!({}));
            let change = StateChange {
                audience: StateAudience::Tenant,
                key: user_key(&user),
                value: Some(serde_json::to_value(UserStanding { sessions_end: now }).map_err(ApiError::internal)?),
            };
            Ok((ChangeSet::of(&tenant).update(loaded, &after).state(change).audit(audit), after))
        })
        .await?;
    Ok(Json(after.into()))
}
