//! Public keys as JWKs (RFC 7517, RFC 8037), their thumbprints (RFC 7638), and the one algorithm each may use.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Shortest RSA modulus a stream token's key may have, in bytes (3072 bits).
pub(crate) const MIN_RSA_BYTES: usize = 384;
/// Longest, so that one verification stays cheap (8192 bits).
pub(crate) const MAX_RSA_BYTES: usize = 1024;
/// Longest RSA public exponent, in bytes.
const MAX_EXPONENT_BYTES: usize = 4;

/// Why a JWK cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadKey {
    /// Not a public EC P-256, OKP Ed25519 or RSA key.
    #[error("a key must be a public JWK: EC P-256, OKP Ed25519 or RSA of 3072 to 8192 bits")]
    Shape,
    /// It contains the private half; whoever sent it has leaked it.
    #[error("the JWK contains its private half; throw the key away and make a new one")]
    Private,
}

/// A JWS algorithm. `none` has no value here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Policy keys.
    Es256,
    /// Gateways' keys.
    EdDsa,
    /// Service keys.
    Ps256,
}

impl Algorithm {
    /// Its name in a JWS header.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
            Self::Ps256 => "PS256",
        }
    }
}

/// A public key that verifies signatures with the one algorithm of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyingKey {
    /// Uncompressed point, 65 bytes.
    P256(Vec<u8>),
    /// 32 bytes.
    Ed25519(Vec<u8>),
    /// Big-endian, no leading zeros.
    Rsa {
        /// Modulus.
        n: Vec<u8>,
        /// Public exponent.
        e: Vec<u8>,
    },
}

impl VerifyingKey {
    /// Reads a public JWK. Members it does not need are ignored (RFC 7517 §4).
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_jwk(jwk: &Value) -> Result<Self, BadKey> {
        if ["d", "p", "q", "k"].iter().any(|member| jwk.get(*member).is_some()) {
            return Err(BadKey::Private);
        }
        let text = |member: &str| jwk.get(member).and_then(Value::as_str).ok_or(BadKey::Shape);
        let bytes = |member: &str| URL_SAFE_NO_PAD.decode(text(member)?).map_err(|_| BadKey::Shape);
        match text("kty")? {
            "EC" if text("crv")? == "P-256" => {
                let (x, y) = (bytes("x")?, bytes("y")?);
                if x.len() != 32 || y.len() != 32 {
                    return Err(BadKey::Shape);
                }
                Ok(Self::P256([vec![4], x, y].concat()))
            }
            "OKP" if text("crv")? == "Ed25519" => Self::from_ed25519(&bytes("x")?),
            "RSA" => {
                let (n, e) = (bytes("n")?, bytes("e")?);
                let plain = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
                let sized = (MIN_RSA_BYTES..=MAX_RSA_BYTES).contains(&n.len()) && e.len() <= MAX_EXPONENT_BYTES;
                if plain(&n) && plain(&e) && sized { Ok(Self::Rsa { n, e }) } else { Err(BadKey::Shape) }
            }
            _ => Err(BadKey::Shape),
        }
    }

    /// A P-256 key from its uncompressed point (SEC 1 §2.3.3).
    ///
    /// # Errors
    /// [`BadKey::Shape`].
    pub fn from_p256_point(point: &[u8]) -> Result<Self, BadKey> {
        if point.len() == 65 && point.first() == Some(&4) { Ok(Self::P256(point.to_vec())) } else { Err(BadKey::Shape) }
    }

    /// An Ed25519 key from its 32 bytes.
    ///
    /// # Errors
    /// [`BadKey::Shape`].
    pub fn from_ed25519(bytes: &[u8]) -> Result<Self, BadKey> {
        if bytes.len() == 32 { Ok(Self::Ed25519(bytes.to_vec())) } else { Err(BadKey::Shape) }
    }

    /// The one algorithm this key verifies.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
            Self::Rsa { .. } => Algorithm::Ps256,
        }
    }

    /// The key as a JWK with required members only.
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::P256(point) => {
                let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
            }
            Self::Ed25519(bytes) => json!({ "kty": "OKP", "crv": "Ed25519", "x": text(bytes) }),
            Self::Rsa { n, e } => json!({ "kty": "RSA", "n": text(n), "e": text(e) }),
        }
    }

    /// RFC 7638 thumbprint with SHA-256, base64url.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        // `serde_json` keeps object members sorted unless `preserve_order` is switched on somewhere in the build, and
        // RFC 7638 §3 needs them sorted: so they are sorted here.
        let jwk = self.to_jwk();
        let mut members: Vec<String> =
            jwk.as_object().into_iter().flatten().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        members.sort_unstable();
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("{{{}}}", members.join(","))))
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(point) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Self::Ed25519(bytes) => UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature),
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(&RSA_PSS_2048_8192_SHA256, message, signature),
        }
        .is_ok()
    }
}

/// RFC 7638 thumbprint (base64url SHA-256) of a public JWK.
///
/// # Errors
/// [`BadKey`].
pub fn thumbprint(jwk: &Value) -> Result<String, BadKey> {
    VerifyingKey::from_jwk(jwk).map(|key| key.thumbprint())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn thumbprint_agrees_with_rfc_8037_appendix_a_3() {
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" });
        assert_eq!(thumbprint(&jwk).unwrap(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn short_private_and_foreign_keys_are_refused() {
        let short = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0x80_u8; 256]), "e": "AQAB" });
        assert_eq!(VerifyingKey::from_jwk(&short), Err(BadKey::Shape));
        let private = json!({ "kty": "OKP", "crv": "Ed25519", "x": "AA", "d": "AA" });
        assert_eq!(VerifyingKey::from_jwk(&private), Err(BadKey::Private));
        let symmetric = json!({ "kty": "oct", "k": "AA" });
        assert_eq!(VerifyingKey::from_jwk(&symmetric), Err(BadKey::Private));
        let other_curve = json!({ "kty": "EC", "crv": "P-384", "x": "AA", "y": "AA" });
        assert_eq!(VerifyingKey::from_jwk(&other_curve), Err(BadKey::Shape));
    }
}
