//! Nodes: join codes, standing, revocation.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{ChangeSet, NodeRecord, PLATFORM, StateAudience, StateChange, Tenant, Typed};
use sluice_node_identity::{CodeBinding, JoinCode, JoinSecret, Lock, NodeId, Role, TenantId, UnixTime};

use super::{
    AdminState, ApiError, Caller, auth,
    extract::{Body, Path, Query},
    model::{AddNode, NewCode, NodeView, Page, Paging, SecretText, check_host, created},
    resources::require_site,
};

/// Seconds a node's join code is good for.
const CODE_SECONDS: u64 = 15 * 60;
/// Most addresses of one gateway.
const MAX_ADDRESSES: usize = 16;

fn check(state: &AdminState, request: &AddNode) -> Result<(), ApiError> {
    if request.role == Role::Gateway {
        let host = request.host.as_deref();
        let host = host.ok_or_else(|| ApiError::invalid("a gateway needs host, the name under which it is reached"))?;
        check_host("host", host)?;
        state.not_ours("host", host)?;
        if request.addresses.is_empty() || request.addresses.len() > MAX_ADDRESSES {
            return Err(ApiError::invalid(format!("a gateway has 1 to {MAX_ADDRESSES} addresses")));
        }
    } else if request.host.is_some() || !request.addresses.is_empty() {
        return Err(ApiError::invalid("only gateways have host and addresses; an edge's are in its own file"));
    }
    Ok(())
}

fn new_code(state: &AdminState, tenant: &Tenant, now: UnixTime) -> Result<(CodeBinding, String), ApiError> {
    let secret = JoinSecret::new(auth::random()?);
    let binding =
        CodeBinding { digest: secret.digest(), valid_until: now.plus(CODE_SECONDS), bound: None, alarmed: false };
    let code = JoinCode {
        url: state.authority.node_url(),
        root_pin: state.authority.node_root_pin(),
        policy_thumbprint: state.authority.thumbprint(&tenant.policy_key).map_err(ApiError::internal)?,
        secret,
    };
    Ok((binding, code.to_string()))
}

/// Add a node; the answer holds its join code, once.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/nodes", tag = "nodes", params(("tenant" = String, Path)),
    request_body = AddNode, responses((status = 201, body = NewCode)), security(("token" = [])))]
pub(super) async fn add(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Body(request): Body<AddNode>,
) -> Result<(StatusCode, Json<NewCode>), ApiError> {
    caller.may_touch(&tenant)?;
    check(&state, &request)?;
    let owner = state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    require_site(&state, &tenant, &request.site).await?;
    let now = state.now();
    let (code, text) = new_code(&state, &owner.body, now)?;
    let node = NodeRecord {
        tenant: tenant.clone(),
        id: request.id,
        role: request.role,
        site: request.site,
        code,
        binding: None,
        config: None,
        refused: None,
        addresses: request.addresses,
        host: request.host,
        created: now,
    };
    let _lists = state.lists.lock().await;
    if node.role == Role::Gateway {
        state.fits(&tenant, |fleet| fleet.nodes.push(node.clone())).await?;
    }
    let detail = json!({ "role": node.role, "site": node.site });
    let audit = caller.did(now, "node.add", format!("node/{}", node.id), detail);
    state.create("node", ChangeSet::of(&tenant).create(&node).audit(audit)).await?;
    let valid_until = node.code.valid_until;
    Ok(created(NewCode { id: node.id.to_string(), code: SecretText::new(text), valid_until }))
}

/// Give a node a new join code: it lost its key, was revoked, or its first code expired. Until the code is used
/// the present key stays as good or bad as it is.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/nodes/{node}/code", tag = "nodes",
    params(("tenant" = String, Path), ("node" = String, Path)),
    responses((status = 201, body = NewCode)), security(("token" = [])))]
pub(super) async fn renew_code(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, node)): Path<(TenantId, NodeId)>,
) -> Result<(StatusCode, Json<NewCode>), ApiError> {
    caller.may_touch(&tenant)?;
    let owner = state.one::<Tenant>(PLATFORM, tenant.as_str()).await?;
    let now = state.now();
    let (code, text) = new_code(&state, &owner.body, now)?;
    let valid_until = code.valid_until;
    state
        .change::<NodeRecord, ()>(tenant.as_str(), node.as_str(), |loaded| {
            let after = NodeRecord { code: code.clone(), ..loaded.body.clone() };
            let audit = caller.did(now, "node.code", format!("node/{node}"), json!({}));
            Ok((ChangeSet::of(&tenant).update(loaded, &after).audit(audit), ()))
        })
        .await?;
    Ok(created(NewCode { id: node.to_string(), code: SecretText::new(text), valid_until }))
}

/// List nodes.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes", tag = "nodes", params(("tenant" = String, Path), Paging),
    responses((status = 200, body = Page<NodeView>)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<NodeView>>, ApiError> {
    caller.may_touch(&tenant)?;
    let (found, next) = state.page::<NodeRecord>(tenant.as_str(), &paging).await?;
    Ok(Json(Page { items: found.into_iter().map(|node| node.body.into()).collect(), next }))
}

/// Revoke a node: its key and its join code are worthless from now on, everywhere within a second.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/nodes/{node}/revoke", tag = "nodes",
    params(("tenant" = String, Path), ("node" = String, Path)),
    responses((status = 200, body = NodeView)), security(("token" = [])))]
pub(super) async fn revoke_one(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, node)): Path<(TenantId, NodeId)>,
) -> Result<Json<NodeView>, ApiError> {
    Ok(Json(revoke(&state, &caller, &tenant, &node).await?.into()))
}

/// What [`revoke_one`] does; the console's button does the same.
///
/// # Errors
/// Not found, for a caller of another tenant too.
pub async fn revoke(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    node: &NodeId,
) -> Result<NodeRecord, ApiError> {
    caller.may_touch(tenant)?;
    let now = state.now();
    state
        .change::<NodeRecord, NodeRecord>(tenant.as_str(), node.as_str(), |loaded| {
            let after = revoked(loaded, now);
            let audit = caller.did(now, "node.revoke", format!("node/{node}"), json!({ "role": after.role }));
            let change = StateChange {
                audience: StateAudience::Tenant,
                key: format!("node/{node}"),
                value: Some(json!({ "revoked": true })),
            };
            Ok((ChangeSet::of(tenant).update(loaded, &after).state(change).audit(audit), after))
        })
        .await
}

fn revoked(loaded: &Typed<NodeRecord>, now: UnixTime) -> NodeRecord {
    let mut after = loaded.body.clone();
    // A code nobody has used yet dies too: 0 lies before every clock.
    after.code.valid_until = UnixTime(0);
    if let Some(binding) = &mut after.binding {
        binding.lock.get_or_insert(Lock::Revoked { at: now });
    }
    after
}
