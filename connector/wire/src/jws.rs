//! Compact JWS (RFC 7515 §7.1), the strict subset sluice speaks.
//!
//! The header has exactly `alg`, `typ`, `kid` and, where a key introduces itself, `jwk`; any other member
//! (`crit`, `b64`, `jku`, …) is refused. Which algorithm is right is decided by the verifier's key, never by the header.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

use crate::jwk::VerifyingKey;

/// `typ` of a stream token.
pub(crate) const TYP_STREAM: &str = "sluice-stream+jwt";
/// `typ` of an allow-list.
pub(crate) const TYP_ALLOW_LIST: &str = "sluice-allow-list+jwt";
/// `typ` of a policy key signed by the one before it.
pub(crate) const TYP_SUCCESSION: &str = "sluice-policy-key+jwt";

/// `typ` of the proof that somebody holds a policy key he wants a tenant to adopt.
pub(crate) const TYP_ADOPTION: &str = "sluice-policy-adoption+jwt";

/// Why a text is not an acceptable JWS. Deliberately coarse: the sender is not yet known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a compact JWS of the expected type")]
pub(crate) struct BadJws;

/// The protected header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) alg: String,
    pub(crate) typ: String,
    pub(crate) kid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jwk: Option<Value>,
}

/// A JWS taken apart; nothing in it is believed yet.
#[derive(Debug)]
pub(crate) struct Unverified<'a> {
    pub(crate) header: Header,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

impl<'a> Unverified<'a> {
    /// Takes `text` (at most `limit` bytes) apart.
    pub(crate) fn parse(text: &'a str, limit: usize, typ: &str) -> Result<Self, BadJws> {
        if text.len() > limit {
            return Err(BadJws);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(BadJws)?;
        let (header, payload) = signed.split_once('.').ok_or(BadJws)?;
        if payload.contains('.') {
            return Err(BadJws);
        }
        let header: Header = from_base64_json(header)?;
        if header.typ != typ {
            return Err(BadJws);
        }
        Ok(Self { header, signed, payload, signature: URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadJws)? })
    }

    /// The payload, if `key` signed it with the algorithm of its kind and the header says so too.
    pub(crate) fn verify<T: DeserializeOwned>(&self, key: &VerifyingKey) -> Result<T, BadJws> {
        if self.header.alg != key.algorithm().as_str() || !key.verifies(self.signed.as_bytes(), &self.signature) {
            return Err(BadJws);
        }
        from_base64_json(self.payload)
    }

    /// The payload's text, for comparing two versions of one document.
    pub(crate) const fn payload_text(&self) -> &'a str {
        self.payload
    }
}

/// The payload of a compact JWS as it was signed, unverified.
pub(crate) fn payload(text: &str, limit: usize, typ: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(Unverified::parse(text, limit, typ).ok()?.payload_text()).ok()
}

fn from_base64_json<T: DeserializeOwned>(text: &str) -> Result<T, BadJws> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadJws)?;
    serde_json::from_slice(&bytes).map_err(|_| BadJws)
}

/// The part of a JWS that gets signed.
pub(crate) fn signing_input(header: &Header, payload: &impl Serialize) -> Result<String, serde_json::Error> {
    signing_input_of(header, &serde_json::to_vec(payload)?)
}

/// As [`signing_input`], for a payload whose bytes are already settled.
pub(crate) fn signing_input_of(header: &Header, payload: &[u8]) -> Result<String, serde_json::Error> {
    let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(header)?);
    Ok(format!("{header}.{}", URL_SAFE_NO_PAD.encode(payload)))
}

/// Puts the signature behind its input.
pub(crate) fn compact(input: &str, signature: &[u8]) -> String {
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}
