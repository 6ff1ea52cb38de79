//! Sessions, as they live in cookies.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sluice_node_identity::{UnixTime, UserId};
use thiserror::Error;

/// Longest cookie value we make; browsers keep 4,096 bytes with name and attributes.
pub const MAX_COOKIE: usize = 3_600;

/// 128 random bits; names a session in the state feed (`session/<id>`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId([u8; 16]);

/// Not 22 characters of base64url.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a session id is 128 bits in base64url")]
pub struct BadSessionId;

impl SessionId {
    /// Wraps 16 random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({self})")
    }
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadSessionId)?;
        Ok(Self(bytes.try_into().map_err(|_| BadSessionId)?))
    }
}

impl TryFrom<String> for SessionId {
    type Error = BadSessionId;

    fn try_from(text: String) -> Result<Self, BadSessionId> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.to_string()
    }
}

/// How surely the user was recognised; more is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strength {
    /// A password that control checked.
    Password,
}

/// A user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// Its name; the same on every host, new with every login.
    pub id: SessionId,
    /// Account.
    pub user: UserId,
    /// Proved mail address.
    pub email: String,
    /// What to call the person.
    pub display_name: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// How surely the user was recognised.
    pub strength: Strength,
    /// When the user logged in.
    pub issued: UnixTime,
    /// From here on the session is nothing.
    pub expires: UnixTime,
}

impl Session {
    /// Whether the session is running at `now`. One that claims to come from the future is not.
    #[must_use]
    pub fn is_running(&self, now: UnixTime) -> bool {
        const CLOCK_SKEW: u64 = 60;
        now < self.expires && self.issued <= now.plus(CLOCK_SKEW)
    }
}
