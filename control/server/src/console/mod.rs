//! Everything on the console's name: the admin API, and server-rendered pages for people over the same acts.

mod resources;
mod session;
mod streams;
mod tables;

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;

use crate::{
    admin_api::{self, AdminState, ApiError, Caller, SecretText, recognise},
    pages,
};
pub use session::{COOKIE, MAX_SESSIONS, SESSION_SECONDS, Sessions};

/// Longest form.
const MAX_FORM: usize = 8 * 1024;

/// What the pages share.
#[derive(Clone)]
pub(crate) struct ConsoleState {
    pub(crate) admin: AdminState,
    pub(crate) sessions: Sessions,
}

/// A signed-in administrator: his token's scope, and what his forms must carry.
#[derive(Clone, Debug)]
pub(crate) struct SignedIn {
    pub(crate) caller: Caller,
    pub(crate) csrf: String,
}

/// All routes of the console's name. Until an owner exists only the claim answers.
pub fn router(admin: AdminState) -> Router {
    let state = ConsoleState { admin: admin.clone(), sessions: Sessions::default() };
    let signed_in = Router::new()
        .route("/", get(tables::tenants))
        .route("/t/{tenant}/nodes", get(tables::nodes))
        .route("/t/{tenant}/nodes/{node}/revoke", post(tables::revoke_node))
        .route("/t/{tenant}/hubs", get(tables::hubs))
        .route("/t/{tenant}/hubs/{hub}/revoke", post(tables::revoke_hub))
        .route("/t/{tenant}/resources", get(resources::resources))
        .route("/t/{tenant}/streams", get(streams::streams))
        .route("/t/{tenant}/streams/{connector}/{id}/kill", get(streams::confirm).post(streams::kill))
        .route("/logout", post(logout))
        .layer(middleware::from_fn_with_state(state.clone(), require));
    let html = Router::new()
        .route("/login", get(login_page).post(login))
        .merge(signed_in)
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(state);
    Router::new()
        .merge(admin_api::routes_with(admin.clone()))
        .merge(html)
        .route("/assets/sluice.css", get(pages::asset))
        .fallback(nothing_here)
        .layer(middleware::from_fn(pages::dress))
        .layer(middleware::from_fn_with_state(admin, admin_api::gate))
}

async fn nothing_here(uri: Uri) -> Response {
    if uri.path().starts_with("/api/") {
        return ApiError::not_found().into_response();
    }
    pages::sorry(StatusCode::NOT_FOUND, "There is nothing here", "Go back to the list of tenants.")
}

#[derive(Template)]
#[template(path = "console/login.html")]
struct LoginPage {
    wrong: bool,
}

async fn login_page() -> Response {
    pages::page(StatusCode::OK, &LoginPage { wrong: false })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginForm {
    token: SecretText,
}

async fn login(State(state): State<ConsoleState>, headers: HeaderMap, Form(form): Form<LoginForm>) -> Response {
    let wrong = || pages::page(StatusCode::UNAUTHORIZED, &LoginPage { wrong: true });
    if !from_ourselves(&headers) {
        return wrong();
    }
    let token = form.token.expose().trim();
    let Ok(caller) = recognise(&state.admin, token).await else { return wrong() };
    match state.sessions.begin(token, caller.tenant, state.admin.now()) {
        Some(id) => {
            let cookie = format!("{COOKIE}={id}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={SESSION_SECONDS}");
            with_cookie(Redirect::to("/").into_response(), &cookie)
        }
        None => pages::sorry(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many people are signed in",
            "Sign out elsewhere, or wait until older sessions end.",
        ),
    }
}

async fn logout(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    headers: HeaderMap,
    Form(form): Form<CsrfForm>,
) -> Response {
    if !person.ours(&headers, &form) {
        return stale_form();
    }
    if let Some(id) = session::cookie(&headers) {
        state.sessions.end(id);
    }
    with_cookie(
        Redirect::to("/login").into_response(),
        &format!("{COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0"),
    )
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

/// Body of every button.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CsrfForm {
    csrf: String,
}

impl SignedIn {
    /// Whether a form came from this person's own page.
    pub(crate) fn ours(&self, headers: &HeaderMap, form: &CsrfForm) -> bool {
        let same: bool = subtle::ConstantTimeEq::ct_eq(self.csrf.as_bytes(), form.csrf.as_bytes()).into();
        same && from_ourselves(headers)
    }
}

/// Whether the browser says that another site sent this. One that says nothing is left to cookie and token.
fn from_ourselves(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none")
}

pub(crate) fn stale_form() -> Response {
    pages::sorry(
        StatusCode::FORBIDDEN,
        "Please try again",
        "This form is not from your present page. Go back and reload it.",
    )
}

/// Lets only signed-in people through. The token is looked at again on every request, so that a revoked or expired
/// one ends the session too.
async fn require(State(state): State<ConsoleState>, mut request: Request, next: Next) -> Response {
    let held = session::cookie(request.headers()).and_then(|id| state.sessions.find(id, state.admin.now()));
    let Some(held) = held else {
        return Redirect::to("/login").into_response();
    };
    match recognise(&state.admin, held.token.expose()).await {
        Ok(caller) => {
            request.extensions_mut().insert(SignedIn { caller, csrf: held.csrf });
            next.run(request).await
        }
        Err(error) if error.status == StatusCode::UNAUTHORIZED => Redirect::to("/login").into_response(),
        Err(error) => pages::sorry(error.status, "This did not work", &error.message),
    }
}

#[cfg(test)]
mod tests;
