//! Tables of tenants, nodes and hubs, with a button to revoke.

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Redirect, Response},
};
use sluice_control_domain::{HubRecord, NodeRecord, PLATFORM, Tenant};
use sluice_node_identity::{HubId, NodeId, TenantId, UnixTime};

use super::{ConsoleState, CsrfForm, SignedIn, stale_form};
use crate::{
    admin_api::{
        ApiError, HubView, NodeView, Paging, TenantView, revoke_hub as hub_revoked, revoke_node as node_revoked,
    },
    pages,
};

pub(super) fn failed(error: &ApiError) -> Response {
    pages::sorry(error.status, "This did not work", &error.message)
}

/// RFC 3339, for people.
pub(super) fn when(at: UnixTime) -> String {
    let seconds = i64::try_from(at.0).unwrap_or(i64::MAX);
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&format).ok()).unwrap_or_else(|| "?".to_owned())
}

#[derive(Template)]
#[template(path = "console/tenants.html")]
struct TenantsPage {
    csrf: String,
    tenants: Vec<TenantView>,
    next: Option<String>,
}

/// `GET /`
pub(super) async fn tenants(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Query(paging): Query<Paging>,
) -> Response {
    if let Some(own) = &person.caller.tenant {
        return Redirect::to(&format!("/t/{own}/nodes")).into_response();
    }
    match state.admin.page::<Tenant>(PLATFORM, &paging).await {
        Ok((tenants, next)) => {
            let tenants = tenants.into_iter().map(|tenant| tenant.body.into()).collect();
            pages::page(StatusCode::OK, &TenantsPage { csrf: person.csrf, tenants, next })
        }
        Err(error) => failed(&error),
    }
}

#[derive(Template)]
#[template(path = "console/nodes.html")]
struct NodesPage {
    csrf: String,
    owner: bool,
    tenant: TenantId,
    nodes: Vec<NodeView>,
    next: Option<String>,
}

/// `GET /t/{tenant}/nodes`
pub(super) async fn nodes(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Response {
    let found = match person.caller.may_touch(&tenant) {
        Ok(()) => state.admin.page::<NodeRecord>(tenant.as_str(), &paging).await,
        Err(error) => Err(error),
    };
    match found {
        Ok((nodes, next)) => {
            let nodes = nodes.into_iter().map(|node| node.body.into()).collect();
            let owner = person.caller.tenant.is_none();
            pages::page(StatusCode::OK, &NodesPage { csrf: person.csrf, owner, tenant, nodes, next })
        }
        Err(error) => failed(&error),
    }
}

#[derive(Template)]
#[template(path = "console/hubs.html")]
struct HubsPage {
    csrf: String,
    owner: bool,
    tenant: TenantId,
    hubs: Vec<HubRow>,
    next: Option<String>,
}

struct HubRow {
    hub: HubView,
    seen: Option<String>,
}

/// `GET /t/{tenant}/hubs`
pub(super) async fn hubs(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Response {
    let found = match person.caller.may_touch(&tenant) {
        Ok(()) => state.admin.page::<HubRecord>(tenant.as_str(), &paging).await,
        Err(error) => Err(error),
    };
    match found {
        Ok((hubs, next)) => {
            let row = |hub: HubView| HubRow { seen: hub.seen.map(when), hub };
            let hubs = hubs.into_iter().map(|hub| row(hub.body.into())).collect();
            let owner = person.caller.tenant.is_none();
            pages::page(StatusCode::OK, &HubsPage { csrf: person.csrf, owner, tenant, hubs, next })
        }
        Err(error) => failed(&error),
    }
}

/// `POST /t/{tenant}/nodes/{node}/revoke`
pub(super) async fn revoke_node(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path((tenant, node)): Path<(TenantId, NodeId)>,
    headers: HeaderMap,
    Form(form): Form<CsrfForm>,
) -> Response {
    if !person.ours(&headers, &form) {
        return stale_form();
    }
    match node_revoked(&state.admin, &person.caller, &tenant, &node).await {
        Ok(_) => Redirect::to(&format!("/t/{tenant}/nodes")).into_response(),
        Err(error) => failed(&error),
    }
}

/// `POST /t/{tenant}/hubs/{hub}/revoke`
pub(super) async fn revoke_hub(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path((tenant, hub)): Path<(TenantId, HubId)>,
    headers: HeaderMap,
    Form(form): Form<CsrfForm>,
) -> Response {
    if !person.ours(&headers, &form) {
        return stale_form();
    }
    match hub_revoked(&state.admin, &person.caller, &tenant, &hub).await {
        Ok(_) => Redirect::to(&format!("/t/{tenant}/hubs")).into_response(),
        Err(error) => failed(&error),
    }
}
