//! The first owner: one link, ten minutes, once. Until it was used nothing else answers.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, OwnerLink, PLATFORM, Typed};
use sluice_node_identity::{Fingerprint, UnixTime};
use subtle::ConstantTimeEq;

use super::{
    AdminState, ApiError, Rights, auth,
    extract::Body,
    model::{ClaimOwner, NewToken},
};

/// Seconds a link is good for.
pub const LINK_SECONDS: u64 = 600;
/// In front of a link's secret.
pub const OWNER_LINK_PREFIX: &str = "slo1_";
/// Seconds the owner's first token is good for: 90 days.
const OWNER_TOKEN_SECONDS: u64 = 90 * 24 * 3600;
const SECRET_BYTES: usize = 32;

/// A new link: the record and the secret to print. `before` is the record it replaces (break-glass).
///
/// # Errors
/// When the operating system has no randomness.
pub fn new_link(before: Option<&Typed<OwnerLink>>, now: UnixTime) -> Result<(OwnerLink, String), ApiError> {
    let secret = auth::random::<SECRET_BYTES>()?;
    let used = before.and_then(|before| before.body.used);
    let link = OwnerLink { digest: Fingerprint::of(&secret), valid_until: now.plus(LINK_SECONDS), used };
    Ok((link, format!("{OWNER_LINK_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))))
}

/// Whether `secret` opens `link` now. A claimed link is kept with `valid_until` 0.
fn opens(link: &OwnerLink, secret: &str, now: UnixTime) -> bool {
    let Some(bytes) = secret.trim().strip_prefix(OWNER_LINK_PREFIX).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok())
    else {
        return false;
    };
    let digest = Fingerprint::of(&bytes);
    let right = bool::from(link.digest.as_str().as_bytes().ct_eq(digest.as_str().as_bytes()));
    right && now <= link.valid_until
}

/// Claim ownership with the secret of the link that `sluice control init` printed.
#[utoipa::path(post, path = "/api/v1/owner", tag = "owner", request_body = ClaimOwner,
    responses((status = 201, body = NewToken), (status = 401, description = "wrong, expired or used link")))]
pub(super) async fn claim(
    State(state): State<AdminState>,
    Body(request): Body<ClaimOwner>,
) -> Result<(axum::http::StatusCode, axum::Json<NewToken>), ApiError> {
    let now = state.now();
    let refused = || ApiError { message: REFUSED.to_owned(), ..ApiError::unauthorized() };
    let link = state.find::<OwnerLink>(PLATFORM, "owner").await?.ok_or_else(refused)?;
    if !opens(&link.body, request.secret.expose(), now) {
        return Err(refused());
    }
    let claimed =
        OwnerLink { valid_until: UnixTime(0), used: Some(link.body.used.unwrap_or(now)), ..link.body.clone() };
    let label = request.label.unwrap_or_else(|| "owner".to_owned());
    super::model::check_label("label", &label)?;
    let minted = auth::mint(None, Rights::FullAdministrator, label, now.plus(OWNER_TOKEN_SECONDS))?;
    let audit = AuditEntry {
        at: now,
        actor: "owner-link".to_owned(),
        act: "owner.claim".to_owned(),
        subject: format!("token/{}", minted.record.id),
        detail: json!({ "expires": minted.record.expires }),
    };
    let set = ChangeSet::default().update(&link, &claimed).create(&minted.record).audit(audit);
    match state.store.commit(set).await? {
        sluice_control_domain::Commit::Done => Ok(super::model::created(NewToken::of(minted))),
        // Somebody else claimed it between our look and our write.
        sluice_control_domain::Commit::Conflict => Err(refused()),
    }
}

const REFUSED: &str = "this owner link is wrong, used or older than ten minutes; make a new one on control's own machine: \
                       sluice control owner-link";

/// Lets nothing but the claim through until an owner exists.
pub(crate) async fn gate(State(state): State<AdminState>, request: Request, next: Next) -> Response {
    let claim = request.uri().path() == "/api/v1/owner";
    match state.has_owner().await {
        Ok(owned) if owned || claim => next.run(request).await,
        Ok(_) => ApiError::not_found().into_response(),
        Err(error) => error.into_response(),
    }
}
