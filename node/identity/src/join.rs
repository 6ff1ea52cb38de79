//! Join codes: the one-time right to become a node of a tenant.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::{Fingerprint, UnixTime};

/// 128 random bits known to whoever holds a code.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret([u8; 16]);

impl JoinSecret {
    /// Wraps 16 bytes from the operating system's random source.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// The secret as it travels in a join request.
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`JoinCodeError::Damaged`] when it is anything else.
    pub fn from_text(text: &str) -> Result<Self, JoinCodeError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JoinCodeError::Damaged)?;
        Ok(Self(bytes.try_into().map_err(|_| JoinCodeError::Damaged)?))
    }

    /// What the store keeps instead of the secret.
    #[must_use]
    pub fn digest(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(redacted)")
    }
}

/// Everything a new node needs for its first contact. Printed by `sluice admin node add`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinCode {
    /// Control's node API, `https://host[:port]`.
    pub url: String,
    /// Fingerprint of the node root's SubjectPublicKeyInfo: whom to believe at first contact.
    pub root_pin: Fingerprint,
    /// RFC 7638 thumbprint (base64url) of the tenant's policy key.
    pub policy_thumbprint: String,
    /// The one-time secret.
    pub secret: JoinSecret,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    u: String,
    r: Fingerprint,
    p: String,
    s: String,
}

/// Why text is not a join code. Copy it again from where it was printed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JoinCodeError {
    /// No `slj1_` in front.
    #[error("a join code starts with \"{PREFIX}\"")]
    Prefix,
    /// Truncated or altered.
    #[error("the join code is incomplete or damaged; copy the whole line again")]
    Damaged,
}

const PREFIX: &str = "slj1_";

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire {
            u: self.url.clone(),
            r: self.root_pin.clone(),
            p: self.policy_thumbprint.clone(),
            s: self.secret.to_text(),
        };
        let json = serde_json::to_vec(&wire).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;

    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(JoinCodeError::Prefix)?;
        let json = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinCodeError::Damaged)?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|_| JoinCodeError::Damaged)?;
        Ok(Self { url: wire.u, root_pin: wire.r, policy_thumbprint: wire.p, secret: JoinSecret::from_text(&wire.s)? })
    }
}

/// What a joining (or re-joining) node signs with its new key: it holds the key, now, for this CSR.
#[must_use]
pub fn proof_message(nonce: &[u8], csr_der: &[u8]) -> Vec<u8> {
    let mut message = b"sluice-join-v1\0".to_vec();
    message.extend_from_slice(&Sha256::digest(nonce));
    message.extend_from_slice(&Sha256::digest(csr_der));
    message
}

/// The state of a one-time code (a node's join code, a hub's enrolment code): free until the first key takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeBinding {
    /// Digest of the secret.
    pub digest: Fingerprint,
    /// After this a free code is worthless.
    pub valid_until: UnixTime,
    /// Key that took the code, and when.
    pub bound: Option<(Fingerprint, UnixTime)>,
    /// Somebody with another key tried the code after it was taken.
    pub alarmed: bool,
}

/// What an attempt to use a code means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodeUse {
    /// First use: store this binding with the certificate, in one compare-and-set.
    Bind(CodeBinding),
    /// The same key within [`CodeBinding::REPEAT_SECONDS`]: give the same certificate again.
    Repeat,
    /// Another key: refuse, store this (alarmed) binding, alarm.
    SecondKey(CodeBinding),
    /// Wrong secret or too late: refuse.
    Refused,
}

impl CodeBinding {
    /// How long after its first use the same key is answered again.
    pub const REPEAT_SECONDS: u64 = 24 * 3600;

    /// Judges an attempt by `key` at `now` with `secret_digest`.
    #[must_use]
    pub fn attempt(&self, secret_digest: &Fingerprint, key: &Fingerprint, now: UnixTime) -> CodeUse {
        let right = self.digest.as_str().as_bytes().ct_eq(secret_digest.as_str().as_bytes());
        if !bool::from(right) {
            return CodeUse::Refused;
        }
        match &self.bound {
            None if now > self.valid_until => CodeUse::Refused,
            None => CodeUse::Bind(Self { bound: Some((key.clone(), now)), ..self.clone() }),
            Some((bound, at)) if bound == key => {
                if now.since(*at) <= Self::REPEAT_SECONDS {
                    CodeUse::Repeat
                } else {
                    CodeUse::Refused
                }
            }
            Some(_) => CodeUse::SecondKey(Self { alarmed: true, ..self.clone() }),
        }
    }
}
