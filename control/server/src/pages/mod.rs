//! Users' pages: the feed and the user's own logins, published behind a gateway.
//!
//! Nothing here is privileged: a gateway's word is enough to show a user his cards, never to administer.

mod assertion;
mod csrf;
mod feed;
mod identity;
mod look;

pub use assertion::{AssertionRefused, Expected, SPENT_PER_GATEWAY, Spent, verify};
pub use identity::GatewayPeer;
pub(crate) use look::{asset, dress, page, sorry};

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use sluice_control_domain::Store;
use sluice_node_identity::UnixTime;

use crate::FeedService;

/// Longest form.
const MAX_FORM: usize = 16 * 1024;

/// Shared by all pages.
#[derive(Clone)]
pub struct PagesState {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) feed: Arc<dyn FeedService>,
    pub(crate) clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
    pub(crate) spent: Arc<Mutex<Spent>>,
    pub(crate) csrf: csrf::CsrfKey,
}

impl PagesState {
    /// Puts the pieces together. `csrf_key` signs form tokens; the same key keeps open forms good over a restart.
    pub fn new(
        store: Arc<dyn Store>,
        feed: Arc<dyn FeedService>,
        clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
        csrf_key: &[u8; 32],
    ) -> Self {
        let csrf = csrf::CsrfKey::new(csrf_key);
        Self { store, feed, clock, spent: Arc::default(), csrf }
    }
}

/// Everything on the pages' name. Each request must come from a gateway ([`GatewayPeer`] in its extensions) and
/// carry that gateway's fresh assertion about the user.
pub fn router(state: PagesState) -> Router {
    Router::new()
        .route("/", get(feed::cards))
        .route("/cards/{card}/actions/{action}", post(feed::act))
        .route("/credentials", get(feed::credentials))
        .route("/credentials/{integration}", post(feed::put_credential))
        .route("/assets/sluice.css", get(asset))
        .fallback(feed::nothing_here)
        .layer(middleware::from_fn_with_state(state.clone(), identity::require))
        .layer(middleware::from_fn(dress))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .with_state(state)
}

#[cfg(test)]
mod tests;
