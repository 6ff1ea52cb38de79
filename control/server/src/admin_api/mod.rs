//! The admin API, `/api/v1` on the console's name: JSON, bearer tokens, one audit entry in every change.
#![allow(unused_qualifications, reason = "utoipa's generated code names its traits in full")]

mod apps;
mod audit;
mod auth;
mod error;
mod exceptions;
mod extract;
mod hubs;
mod integrations;
mod model;
mod nodes;
mod owner;
mod policy;
mod resources;
mod sites;
mod state;
mod streams;
mod tenants;
mod tokens;
mod users;

pub use auth::{Caller, MintedToken, Rights, TOKEN_PREFIX, mint, recognise};
pub use error::ApiError;
pub use hubs::revoke as revoke_hub;
pub use model::*;
pub use nodes::revoke as revoke_node;
pub(crate) use owner::gate;
pub use owner::{LINK_SECONDS, OWNER_LINK_PREFIX, new_link};
pub(crate) use policy::look as policy_of;
pub use state::{AdminState, Authority, Ledger, NewTenantKeys};
pub use streams::kill as kill_stream;
pub(crate) use streams::{look as look_at_streams, look_at_one as look_at_stream};

use axum::{Router, extract::DefaultBodyLimit, routing::get};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{Http, HttpAuthScheme, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

/// Longest request body: a signed list of [`sluice_connector_wire::MAX_LIST_BYTES`] and a hub list of
/// [`hubs::MAX_IMPORT`] rows fit.
const MAX_BODY: usize = 3 * 1024 * 1024;

#[derive(OpenApi)]
#[openapi(
    info(title = "sluice admin API", description = "Everything `sluice admin` does. Bearer tokens; errors are ErrorBody."),
    modifiers(&Bearer)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(owner::claim))
        .routes(routes!(tenants::add, tenants::list))
        .routes(routes!(tenants::show))
        .routes(routes!(tenants::put_qos))
        .routes(routes!(tenants::put_classes))
        .routes(routes!(sites::add, sites::list))
        .routes(routes!(nodes::add, nodes::list))
        .routes(routes!(nodes::renew_code))
        .routes(routes!(nodes::revoke_one))
        .routes(routes!(hubs::add, hubs::list))
        .routes(routes!(hubs::import))
        .routes(routes!(hubs::renew_code))
        .routes(routes!(hubs::revoke_one))
        .routes(routes!(resources::add, resources::list))
        .routes(routes!(resources::change, resources::remove))
        .routes(routes!(streams::list))
        .routes(routes!(streams::kill_one))
        .routes(routes!(exceptions::add, exceptions::list))
        .routes(routes!(exceptions::remove))
        .routes(routes!(policy::show))
        .routes(routes!(policy::adopt))
        .routes(routes!(policy::pending))
        .routes(routes!(policy::sign))
        .routes(routes!(apps::add, apps::list))
        .routes(routes!(apps::remove))
        .routes(routes!(users::add, users::list))
        .routes(routes!(users::disable))
        .routes(routes!(integrations::list))
        .routes(routes!(integrations::put))
        .routes(routes!(integrations::put_credential))
        .routes(routes!(integrations::sync))
        .routes(routes!(integrations::cache))
        .routes(routes!(tokens::add, tokens::list))
        .routes(routes!(tokens::revoke))
        .routes(routes!(tokens::add_platform))
        .routes(routes!(audit::platform))
        .routes(routes!(audit::tenant))
        .routes(routes!(audit::verify_platform))
        .routes(routes!(audit::verify_tenant))
}

/// The API's routes, to be merged into the console's.
pub(crate) fn routes_with(state: AdminState) -> Router {
    let (router, description) = routes().split_for_parts();
    let document = description.to_pretty_json().unwrap_or_default();
    router
        .route(
            "/api/v1/openapi.json",
            get(move || std::future::ready(([("content-type", "application/json")], document))),
        )
        .method_not_allowed_fallback(|| async { ApiError::method() })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(state)
}

/// The OpenAPI document, committed as `docs/openapi.json`.
///
/// # Errors
/// Never in practice: the document is plain data.
pub fn openapi() -> Result<String, serde_json::Error> {
    routes().split_for_parts().1.to_pretty_json()
}

#[cfg(test)]
pub(crate) mod tests;
