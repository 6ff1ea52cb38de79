//! Bearer tokens: `slat_<id>_<secret>`; only a digest of the secret is kept.

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sluice_control_domain::{ApiToken, AuditEntry, PLATFORM};
use sluice_node_identity::{Fingerprint, TenantId, UnixTime};
use subtle::ConstantTimeEq;

use super::{AdminState, ApiError};

/// In front of every token, so that scanners of repositories can find a leaked one.
pub const TOKEN_PREFIX: &str = "slat_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// A new token: the record to store and the text to hand out, once.
pub struct MintedToken {
    /// To be stored.
    pub record: ApiToken,
    /// To be shown once.
    pub text: String,
}

/// How much a token may do within its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rights {
    /// Configuration; no row of any cache.
    Administrator,
    /// Configuration and the data-cache explorer; no stored credential either.
    FullAdministrator,
}

/// Makes a token.
///
/// # Errors
/// When the operating system has no randomness.
pub fn mint(
    tenant: Option<TenantId>,
    rights: Rights,
    label: String,
    expires: UnixTime,
) -> Result<MintedToken, ApiError> {
    let id: String = random::<ID_BYTES>()?.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = random::<SECRET_BYTES>()?;
    let digest = Fingerprint::of(&secret);
    let text = format!("{TOKEN_PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    let full_administrator = rights == Rights::FullAdministrator;
    Ok(MintedToken { record: ApiToken { id, digest, tenant, label, expires, full_administrator }, text })
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ApiError::internal("no randomness"))?;
    Ok(bytes)
}

/// Whoever presented a good token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Id of the token.
    pub token: String,
    /// `None`: the platform owner's.
    pub tenant: Option<TenantId>,
    /// How much it may do.
    pub rights: Rights,
}

impl Caller {
    /// Refuses everybody who may not touch `tenant`, as if it did not exist.
    ///
    /// # Errors
    /// Not found.
    pub fn may_touch(&self, tenant: &TenantId) -> Result<(), ApiError> {
        match &self.tenant {
            None => Ok(()),
            Some(own) if own == tenant => Ok(()),
            Some(_) => Err(ApiError::not_found()),
        }
    }

    /// Refuses everybody but the platform owner.
    ///
    /// # Errors
    /// Forbidden.
    pub fn owns_platform(&self) -> Result<(), ApiError> {
        match self.tenant {
            None => Ok(()),
            Some(_) => Err(ApiError::forbidden("only a platform owner's token may do this")),
        }
    }

    /// An audit entry in this caller's name.
    #[must_use]
    pub fn did(&self, now: UnixTime, act: &str, subject: impl ToString, detail: serde_json::Value) -> AuditEntry {
        AuditEntry {
            at: now,
            actor: format!("token/{}", self.token),
            act: act.to_owned(),
            subject: subject.to_string(),
            detail,
        }
    }
}

/// Who presents `text`, if it is a good token now.
///
/// # Errors
/// Unauthorized, for whatever reason; or the store failed.
pub async fn recognise(state: &AdminState, text: &str) -> Result<Caller, ApiError> {
    let (id, digest) = parse(text).ok_or_else(ApiError::unauthorized)?;
    let found = state.find::<ApiToken>(PLATFORM, id).await?.ok_or_else(ApiError::unauthorized)?.body;
    let right = found.digest.as_str().as_bytes().ct_eq(digest.as_str().as_bytes());
    if !bool::from(right) || state.now() >= found.expires {
        return Err(ApiError::unauthorized());
    }
    let rights = if found.full_administrator { Rights::FullAdministrator } else { Rights::Administrator };
    Ok(Caller { token: found.id, tenant: found.tenant, rights })
}

pub(super) fn parse(text: &str) -> Option<(&str, Fingerprint)> {
    let (id, secret) = text.strip_prefix(TOKEN_PREFIX)?.split_once('_')?;
    let plain = id.len() == ID_BYTES.saturating_mul(2) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let secret: [u8; SECRET_BYTES] = URL_SAFE_NO_PAD.decode(secret).ok()?.try_into().ok()?;
    plain.then(|| (id, Fingerprint::of(&secret)))
}

impl FromRequestParts<AdminState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AdminState) -> Result<Self, ApiError> {
        let mut values = parts.headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(ApiError::unauthorized());
        };
        let text = value.to_str().map_err(|_| ApiError::unauthorized())?;
        let token = text.strip_prefix("Bearer ").ok_or_else(ApiError::unauthorized)?;
        recognise(state, token.trim()).await
    }
}
