//! Whether control believes a `Sluice-Identity`: one gateway's word about one user, once (RFC 7515, RFC 7519).

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::Value;
use sluice_connector_wire::VerifyingKey;
use sluice_control_domain::compile::FEED_APP;
use sluice_gateway_access::Assertion;
use sluice_node_identity::{NodeId, TenantId, UnixTime};
use thiserror::Error;

/// How many used assertions are remembered for each gateway. A full memory refuses instead of forgetting.
pub const SPENT_PER_GATEWAY: usize = 65_536;
/// Longest token.
const MAX_TOKEN: usize = 8 * 1024;
/// Longest life of an assertion, seconds.
const MAX_LIFE: u64 = 60;
/// Longest unique id: 128 bits in base64url have 22 characters.
const MAX_JTI: usize = 64;
/// How far the gateway's clock may differ, seconds.
const LEEWAY: u64 = 30;

/// Why an assertion is not believed. Logged; the browser is told only that it must sign in again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AssertionRefused {
    /// Not a compact JWS with exactly `alg`, `kid` and `typ`.
    #[error("not a compact JWS of type JWT")]
    Shape,
    /// Not ES256 by the key this gateway registered.
    #[error("not signed with ES256 by the key this gateway registered")]
    Signature,
    /// Another login host's.
    #[error("issued by another login host")]
    Issuer,
    /// For another app.
    #[error("made for another app")]
    Audience,
    /// Gateway and assertion name different tenants.
    #[error("names another tenant than the gateway's certificate")]
    Tenant,
    /// Expired, from the future, or good for too long.
    #[error("outside its time; check both clocks")]
    Time,
    /// Seen before.
    #[error("used before")]
    Replayed,
    /// Too many to remember.
    #[error("too many assertions from this gateway at once")]
    Full,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    #[serde(rename = "kid")]
    _kid: String,
    typ: String,
}

/// What a good assertion must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Tenant of the gateway's certificate.
    pub tenant: &'a TenantId,
    /// That tenant's login host.
    pub login_host: &'a str,
    /// The assertion key the gateway registered, public JWK.
    pub key: &'a Value,
}

/// Checks everything but replay, which [`Spent::spend`] does with the answer.
///
/// # Errors
/// [`AssertionRefused`].
pub fn verify(token: &str, expected: &Expected<'_>, now: UnixTime) -> Result<Assertion, AssertionRefused> {
    if token.len() > MAX_TOKEN {
        return Err(AssertionRefused::Shape);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(AssertionRefused::Shape)?;
    let (header, claims) = signed.split_once('.').ok_or(AssertionRefused::Shape)?;
    let part = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|_| AssertionRefused::Shape);
    let header: Header = serde_json::from_slice(&part(header)?).map_err(|_| AssertionRefused::Shape)?;
    if header.typ != "JWT" {
        return Err(AssertionRefused::Shape);
    }
    let key = VerifyingKey::from_jwk(expected.key).map_err(|_| AssertionRefused::Signature)?;
    // The key decides the algorithm; an Ed25519 or RSA key registered as an assertion key verifies nothing here.
    let es256 = matches!(key, VerifyingKey::P256(_)) && header.alg == "ES256";
    if !es256 || !key.verifies(signed.as_bytes(), &part(signature)?) {
        return Err(AssertionRefused::Signature);
    }
    let claims: Assertion = serde_json::from_slice(&part(claims)?).map_err(|_| AssertionRefused::Shape)?;
    check(claims, expected, now)
}

fn check(claims: Assertion, expected: &Expected<'_>, now: UnixTime) -> Result<Assertion, AssertionRefused> {
    // It is remembered: a broken-in gateway must not make us remember kilobytes each time.
    if claims.jti.is_empty() || claims.jti.len() > MAX_JTI {
        return Err(AssertionRefused::Shape);
    }
    if claims.tenant != *expected.tenant {
        return Err(AssertionRefused::Tenant);
    }
    if claims.iss.strip_prefix("https://") != Some(expected.login_host) {
        return Err(AssertionRefused::Issuer);
    }
    if claims.aud.as_str() != FEED_APP {
        return Err(AssertionRefused::Audience);
    }
    let timely = claims.iat <= now.plus(LEEWAY)
        && now < claims.exp.plus(LEEWAY)
        && claims.exp > claims.iat
        && claims.exp.since(claims.iat) <= MAX_LIFE;
    if timely { Ok(claims) } else { Err(AssertionRefused::Time) }
}

/// Assertions that were used, per gateway, until they expire.
#[derive(Debug, Default)]
pub struct Spent {
    gateways: BTreeMap<(TenantId, NodeId), BTreeMap<String, UnixTime>>,
}

impl Spent {
    /// Uses `assertion` up.
    ///
    /// # Errors
    /// [`AssertionRefused::Replayed`] the second time; [`AssertionRefused::Full`] when too many are remembered.
    pub fn spend(&mut self, gateway: &NodeId, assertion: &Assertion, now: UnixTime) -> Result<(), AssertionRefused> {
        let spent = self.gateways.entry((assertion.tenant.clone(), gateway.clone())).or_default();
        if spent.contains_key(&assertion.jti) {
            return Err(AssertionRefused::Replayed);
        }
        if spent.len() >= SPENT_PER_GATEWAY {
            spent.retain(|_, until| *until > now);
        }
        if spent.len() >= SPENT_PER_GATEWAY {
            return Err(AssertionRefused::Full);
        }
        spent.insert(assertion.jti.clone(), assertion.exp.plus(LEEWAY));
        Ok(())
    }
}
