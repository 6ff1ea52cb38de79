//! Form tokens: proof that a form came from our own page, without a cookie of our own behind the gateway.

use std::sync::Arc;

use aws_lc_rs::hmac;
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_control_domain::UserRecord;

/// Signs form tokens.
#[derive(Clone)]
pub(crate) struct CsrfKey(Arc<hmac::Key>);

impl CsrfKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    /// The token for one user's forms.
    pub(crate) fn token(&self, user: &UserRecord) -> String {
        URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, &message(user)))
    }

    /// Whether `token` is this user's. Constant time.
    pub(crate) fn accepts(&self, user: &UserRecord, token: &str) -> bool {
        let Ok(tag) = URL_SAFE_NO_PAD.decode(token) else { return false };
        hmac::verify(&self.0, &message(user), &tag).is_ok()
    }
}

/// Tenant and user names hold no NUL, so the parts cannot run into each other. The hash of the password is part of
/// it: a new password ends the old forms.
fn message(user: &UserRecord) -> Vec<u8> {
    format!("sluice-form-v1\0{}\0{}\0{}", user.tenant, user.id, user.password_hash).into_bytes()
}

/// Whether a browser says that a form came from `host` itself. A browser that says nothing is left to the token.
pub(crate) fn same_origin(headers: &HeaderMap, host: &str) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let fetch = text("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none");
    let origin = text(header::ORIGIN.as_str()).is_none_or(|origin| {
        let rest = origin.strip_prefix("https://").unwrap_or("");
        rest == host || rest.strip_prefix(host).is_some_and(|port| port.starts_with(':'))
    });
    fetch && origin
}
