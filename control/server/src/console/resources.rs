//! What a tenant's connectors may reach: resources, exceptions, and how their lists stand.

use askama::Template;
use axum::{
    Extension,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use sluice_control_domain::{ExceptionRecord, ResourceRecord};
use sluice_node_identity::TenantId;

use super::{ConsoleState, SignedIn, tables::failed};
use crate::{
    admin_api::{ApiError, ExceptionView, Paging, PolicyView, ResourceView, policy_of},
    pages,
};

#[derive(Template)]
#[template(path = "console/resources.html")]
struct ResourcesPage {
    csrf: String,
    owner: bool,
    tenant: TenantId,
    policy: PolicyView,
    exceptions: Vec<ExceptionView>,
    resources: Vec<ResourceRow>,
    next: Option<String>,
}

struct ResourceRow {
    resource: ResourceView,
    callers: &'static str,
    times: String,
}

/// `GET /t/{tenant}/resources`
pub(super) async fn resources(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path(tenant): Path<TenantId>,
    Query(paging): Query<Paging>,
) -> Response {
    match page(&state, &person, tenant, &paging).await {
        Ok(page) => pages::page(StatusCode::OK, &page),
        Err(error) => failed(&error),
    }
}

async fn page(
    state: &ConsoleState,
    person: &SignedIn,
    tenant: TenantId,
    paging: &Paging,
) -> Result<ResourcesPage, ApiError> {
    let admin = &state.admin;
    let policy = policy_of(admin, &person.caller, &tenant).await?;
    let (found, next) = admin.page::<ResourceRecord>(tenant.as_str(), paging).await?;
    let all = Paging { after: None, limit: Some(1000) };
    let (exceptions, _) = admin.page::<ExceptionRecord>(tenant.as_str(), &all).await?;
    let now = admin.now();
    let holding = exceptions.into_iter().filter(|one| one.body.holds(now));
    Ok(ResourcesPage {
        csrf: person.csrf.clone(),
        owner: person.caller.tenant.is_none(),
        policy,
        exceptions: holding.map(|one| one.body.into()).collect(),
        resources: found.into_iter().map(|one| row(one.body.into())).collect(),
        next,
        tenant,
    })
}

fn row(resource: ResourceView) -> ResourceRow {
    let callers = match (resource.for_users, resource.for_control) {
        (true, true) => "users, control",
        (true, false) => "users",
        (false, true) => "control",
        (false, false) => "nobody",
    };
    let times = if resource.times.is_empty() { "always".to_owned() } else { resource.times.join(", ") };
    ResourceRow { resource, callers, times }
}
