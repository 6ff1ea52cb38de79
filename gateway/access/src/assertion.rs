//! `Sluice-Identity`: the signed word of a gateway to an app about who its user is (RFC 7515, RFC 7519, ES256).

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_node_identity::{AppId, TenantId, UnixTime, UserId};
use thiserror::Error;

use crate::{App, Permitted, Plan};

/// The header that carries it.
pub const ASSERTION_HEADER: &str = "Sluice-Identity";
/// Seconds it is good for.
pub const ASSERTION_SECONDS: u64 = 60;

/// Claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// `https://<login host>`.
    pub iss: String,
    /// The app it is for.
    pub aud: AppId,
    /// Account.
    pub sub: UserId,
    /// Proved mail address.
    pub email: String,
    /// What to call the person.
    pub name: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// Whose account.
    pub tenant: TenantId,
    /// Issued.
    pub iat: UnixTime,
    /// [`ASSERTION_SECONDS`] later.
    pub exp: UnixTime,
    /// 128 random bits, base64url; never the same twice.
    pub jti: String,
}

impl Assertion {
    /// What `plan`'s gateway says about a permitted user.
    #[must_use]
    pub fn about(plan: &Plan, permitted: &Permitted<App>, jti: [u8; 16], now: UnixTime) -> Self {
        let session = permitted.session();
        Self {
            iss: format!("https://{}", plan.login_host()),
            aud: permitted.app().id.clone(),
            sub: session.user.clone(),
            email: session.email.clone(),
            name: session.display_name.clone(),
            groups: session.groups.clone(),
            tenant: plan.tenant().clone(),
            iat: now,
            exp: now.plus(ASSERTION_SECONDS),
            jti: URL_SAFE_NO_PAD.encode(jti),
        }
    }
}

/// A gateway's P-256 key for assertions.
pub struct AssertionKey {
    pair: EcdsaKeyPair,
    kid: String,
    header: String,
    jwk: Value,
}

/// The key or the signature cannot be made.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the assertion key is not a P-256 key in PKCS#8; remove the file to have a new one made")]
pub struct BadAssertionKey;

impl AssertionKey {
    /// Reads a key (PKCS#8, DER).
    ///
    /// # Errors
    /// [`BadAssertionKey`]
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, BadAssertionKey> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der).map_err(|_| BadAssertionKey)?;
        // Uncompressed point: 0x04, 32 bytes x, 32 bytes y (SEC 1 §2.3.3).
        let point = pair.public_key().as_ref();
        let (x, y) = match point.split_first() {
            Some((4, xy)) if xy.len() == 64 => xy.split_at(32),
            _ => return Err(BadAssertionKey),
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        // RFC 7638 §3: required members only, in lexicographic order, no white space.
        let thumbprint = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, thumbprint.as_bytes()));
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "ES256", "kid": kid, "typ": "JWT"}).to_string());
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "alg": "ES256", "use": "sig"});
        Ok(Self { pair, kid, header, jwk })
    }

    /// RFC 7638 thumbprint of the public key.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Public JWK, as control registers it (`GatewayKeys::assertion`).
    #[must_use]
    pub const fn jwk(&self) -> &Value {
        &self.jwk
    }

    /// The JWKS document served on the login host (RFC 7517 §5).
    #[must_use]
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.jwk] }).to_string()
    }

    /// Compact JWS. The signature's own randomness comes from inside the cryptographic library.
    ///
    /// # Errors
    /// [`BadAssertionKey`] when the library cannot sign.
    pub fn sign(&self, assertion: &Assertion) -> Result<String, BadAssertionKey> {
        let claims = serde_json::to_vec(assertion).map_err(|_| BadAssertionKey)?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| BadAssertionKey)?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok(token)
    }
}

impl std::fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssertionKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn signature_verifies_with_the_published_key_and_not_after_a_change() {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = AssertionKey::from_pkcs8(pkcs8.as_ref()).unwrap();
        let assertion = Assertion {
            iss: "https://login.acme.test".into(),
            aud: "wiki".parse().unwrap(),
            sub: "bob".parse().unwrap(),
            email: "bob@acme.test".into(),
            name: "Bob".into(),
            groups: vec!["staff".into()],
            tenant: "acme".parse().unwrap(),
            iat: UnixTime(100),
            exp: UnixTime(160),
            jti: "x".into(),
        };
        let token = key.sign(&assertion).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(key.jwk()[name].as_str().unwrap()).unwrap();
        let point = [vec![4], part("x"), part("y")].concat();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert!(public.verify(format!("{signed}A").as_bytes(), &signature).is_err());
        let (header, claims) = signed.split_once('.').unwrap();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        assert_eq!(header["alg"], "ES256");
        assert_eq!(header["kid"], key.kid());
        let read: Assertion = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(read, assertion);
    }

    #[test]
    fn a_foreign_key_file_is_refused() {
        assert!(AssertionKey::from_pkcs8(b"").is_err());
        assert!(AssertionKey::from_pkcs8(&[0x30; 80]).is_err());
    }
}
