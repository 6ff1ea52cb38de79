//! The feed with its buttons, and the form for the user's own logins.

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use sluice_node_identity::IntegrationId;

use super::{PagesState, csrf, identity::Visitor, look};
use crate::{CardView, ServiceError};

/// Longest login name or password.
const MAX_LOGIN: usize = 1024;

#[derive(Template)]
#[template(path = "pages/feed.html")]
struct FeedPage<'a> {
    person: &'a str,
    csrf: String,
    notice: Option<Notice>,
    cards: Vec<CardView>,
}

#[derive(Template)]
#[template(path = "pages/credentials.html")]
struct CredentialsPage<'a> {
    person: &'a str,
    csrf: String,
    notice: Option<Notice>,
    integrations: Vec<(IntegrationId, bool)>,
}

struct Notice {
    good: bool,
    text: String,
}

impl Notice {
    fn of(result: Result<String, ServiceError>) -> (StatusCode, Self) {
        match result {
            Ok(text) => (StatusCode::OK, Self { good: true, text }),
            Err(error) => (status(&error), Self { good: false, text: error.to_string() }),
        }
    }
}

fn status(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::NotFound(_) => StatusCode::NOT_FOUND,
        ServiceError::Refused(_) => StatusCode::CONFLICT,
        ServiceError::Failed(_) => StatusCode::BAD_GATEWAY,
    }
}

fn failed(error: &ServiceError) -> Response {
    look::sorry(status(error), "This did not work", &error.to_string())
}

/// `GET /`
pub(super) async fn cards(State(state): State<PagesState>, Extension(visitor): Extension<Visitor>) -> Response {
    show_feed(&state, &visitor, StatusCode::OK, None).await
}

async fn show_feed(state: &PagesState, visitor: &Visitor, status: StatusCode, notice: Option<Notice>) -> Response {
    match state.feed.cards(&visitor.user).await {
        Ok(cards) => {
            let csrf = state.csrf.token(&visitor.user);
            look::page(status, &FeedPage { person: &visitor.user.display_name, csrf, notice, cards })
        }
        Err(error) => failed(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ActForm {
    csrf: String,
}

fn ours(state: &PagesState, visitor: &Visitor, headers: &HeaderMap, token: &str) -> Result<(), Box<Response>> {
    if csrf::same_origin(headers, &visitor.feed_host) && state.csrf.accepts(&visitor.user, token) {
        return Ok(());
    }
    let text = "This form is not from your present page. Open your feed again and repeat what you wanted to do.";
    Err(Box::new(look::sorry(StatusCode::FORBIDDEN, "Please try again", text)))
}

/// `POST /cards/{card}/actions/{action}`
pub(super) async fn act(
    State(state): State<PagesState>,
    Extension(visitor): Extension<Visitor>,
    Path((card, action)): Path<(String, String)>,
    headers: HeaderMap,
    Form(form): Form<ActForm>,
) -> Response {
    if let Err(refusal) = ours(&state, &visitor, &headers, &form.csrf) {
        return *refusal;
    }
    let (status, notice) = Notice::of(state.feed.act(&visitor.user, &card, &action).await);
    show_feed(&state, &visitor, status, Some(notice)).await
}

/// `GET /credentials`
pub(super) async fn credentials(State(state): State<PagesState>, Extension(visitor): Extension<Visitor>) -> Response {
    show_credentials(&state, &visitor, StatusCode::OK, None).await
}

async fn show_credentials(
    state: &PagesState,
    visitor: &Visitor,
    status: StatusCode,
    notice: Option<Notice>,
) -> Response {
    match state.feed.credentials(&visitor.user).await {
        Ok(integrations) => {
            let csrf = state.csrf.token(&visitor.user);
            look::page(status, &CredentialsPage { person: &visitor.user.display_name, csrf, notice, integrations })
        }
        Err(error) => failed(&error),
    }
}

/// No `Debug`: it holds a password.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CredentialForm {
    csrf: String,
    login: String,
    password: String,
}

/// `POST /credentials/{integration}`
pub(super) async fn put_credential(
    State(state): State<PagesState>,
    Extension(visitor): Extension<Visitor>,
    Path(integration): Path<IntegrationId>,
    headers: HeaderMap,
    Form(form): Form<CredentialForm>,
) -> Response {
    if let Err(refusal) = ours(&state, &visitor, &headers, &form.csrf) {
        return *refusal;
    }
    let sane = (1..=MAX_LOGIN).contains(&form.login.len()) && (1..=MAX_LOGIN).contains(&form.password.len());
    let result = if sane {
        let stored = state.feed.put_credential(&visitor.user, &integration, &form.login, &form.password).await;
        stored.map(|()| format!("Your login for {integration} is stored. Only actions you start yourself use it."))
    } else {
        Err(ServiceError::Refused("Please fill in both login name and password.".to_owned()))
    };
    let (status, notice) = Notice::of(result);
    show_credentials(&state, &visitor, status, Some(notice)).await
}

/// Any other path.
pub(super) async fn nothing_here() -> Response {
    look::sorry(StatusCode::NOT_FOUND, "There is nothing here", "Go back to your feed.")
}
