//! API tokens: scoped to a tenant or the platform, expiring, never more than their maker's own right.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{ApiToken, ChangeSet, Load, PLATFORM, Record, Tenant, Typed};
use sluice_node_identity::TenantId;

use super::{
    AdminState, ApiError, Caller, Rights, auth,
    extract::{Body, Path},
    model::{AddToken, NewToken, Page, TokenView, check_label, created},
};

/// Longest life of a token.
const MAX_DAYS: u32 = 90;
const DEFAULT_DAYS: u32 = 30;
/// Most live tokens of one tenant, or of the platform.
const MAX_TOKENS: u32 = 1000;

async fn make(
    state: &AdminState,
    caller: &Caller,
    tenant: Option<TenantId>,
    request: AddToken,
) -> Result<(StatusCode, Json<NewToken>), ApiError> {
    check_label("label", &request.label)?;
    let days = request.days.unwrap_or(DEFAULT_DAYS);
    if !(1..=MAX_DAYS).contains(&days) {
        return Err(ApiError::invalid(format!("days is 1 to {MAX_DAYS}")));
    }
    let rights = request.rights.unwrap_or(Rights::Administrator);
    if rights == Rights::FullAdministrator && caller.rights != rights {
        return Err(ApiError::forbidden("a token cannot make a stronger one; ask a full administrator"));
    }
    let now = state.now();
    let (over, live): (Vec<_>, Vec<_>) =
        tokens_of(state, tenant.as_ref()).await?.into_iter().partition(|token| now >= token.body.expires);
    // Expired ones go as new ones come: they are worth nothing, and must not fill the place of live ones.
    let full = usize::try_from(MAX_TOKENS).unwrap_or(usize::MAX);
    if live.len() >= full {
        return Err(ApiError::invalid(format!("there are already {MAX_TOKENS} tokens; revoke some")));
    }
    let minted = auth::mint(tenant.clone(), rights, request.label, now.plus(u64::from(days).saturating_mul(86_400)))?;
    let detail = json!({ "label": minted.record.label, "rights": rights, "expires": minted.record.expires });
    let audit = caller.did(now, "token.add", format!("token/{}", minted.record.id), detail);
    let set = ChangeSet { tenant, ..ChangeSet::default() };
    let set = over.iter().fold(set, ChangeSet::delete);
    state.create("token", set.create(&minted.record).audit(audit)).await?;
    Ok(created(NewToken::of(minted)))
}

async fn tokens_of(state: &AdminState, tenant: Option<&TenantId>) -> Result<Vec<Typed<ApiToken>>, ApiError> {
    let value = tenant.map_or(PLATFORM, TenantId::as_str).to_owned();
    let by = Load::ByIndex {
        kind: ApiToken::KIND,
        tenant: Some(PLATFORM.to_owned()),
        name: "tenant",
        value,
        limit: MAX_TOKENS,
    };
    let found = state.store.load(by).await?;
    found.into_iter().map(|stored| Ok(stored.typed::<ApiToken>()?)).collect()
}

/// Add a token that is good in one tenant.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/tokens", tag = "tokens", params(("tenant" = String, Path)),
    request_body = AddToken, responses((status = 201, body = NewToken)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<AddToken>,
) -> Result<(StatusCode, Json<NewToken>), ApiError> {
    caller.may_touch(&tenant)?;
    state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    make(&state, &caller, Some(tenant), request).await
}

/// Add a platform owner's token.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = AddToken,
    responses((status = 201, body = NewToken)), security(("token" = [])))]
pub(super) async fn add_platform(
    State(state): State<AdminState>,
    caller: Caller,
    Body(request): Body<AddToken>,
) -> Result<(StatusCode, Json<NewToken>), ApiError> {
    caller.owns_platform()?;
    make(&state, &caller, None, request).await
}

/// List a tenant's tokens, without their secrets.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/tokens", tag = "tokens", params(("tenant" = String, Path)),
    responses((status = 200, body = Page<TokenView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
) -> Result<Json<Page<TokenView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let view = |token: ApiToken| TokenView {
        id: token.id,
        label: token.label,
        rights: if token.full_administrator { Rights::FullAdministrator } else { Rights::Administrator },
        expires: token.expires,
    };
    let items = tokens_of(&state, Some(&tenant)).await?.into_iter().map(|token| view(token.body)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Revoke a token at once.
#[utoipa::path(delete, path = "/api/v1/tokens/{id}", tag = "tokens", params(("id" = String, Path)),
    responses((status = 204)), security(("token" = [])))]
pub(super) async fn revoke(
    State(state): State<AdminState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let now = state.now();
    state
        .change::<ApiToken, ()>(PLATFORM, &id, |loaded| {
            match &loaded.body.tenant {
                Some(tenant) => caller.may_touch(tenant)?,
                None => caller.owns_platform().map_err(|_| ApiError::not_found())?,
            }
            let audit = caller.did(now, "token.revoke", format!("token/{id}"), json!({}));
            let set = ChangeSet { tenant: loaded.body.tenant.clone(), ..ChangeSet::default() };
            Ok((set.delete(loaded).audit(audit), ()))
        })
        .await?;
    Ok(StatusCode::NO_CONTENT)
}
