//! What crosses the wallet's sockets: a big-endian `u32` length, then that many bytes of JSON.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_node_identity::{IntegrationId, TenantId, UserId};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Owner;

/// Longest frame either side sends or reads, in bytes.
pub const MAX_FRAME: usize = 32 * 1024;
/// Longest login name, in bytes.
pub const MAX_LOGIN: usize = 320;
/// Longest password, in bytes.
pub const MAX_PASSWORD: usize = 1_024;

/// A login that does not fit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error(
    "a login is 1 to {MAX_LOGIN} bytes without ':' and control characters, a password 1 to {MAX_PASSWORD} bytes without control characters"
)]
pub struct TooLong;

/// A login; wiped when dropped, never printed. What a peer sends passes the same checks as [`Credential::new`].
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "Unchecked")]
pub struct Credential {
    login: String,
    password: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    login: String,
    password: String,
}

impl TryFrom<Unchecked> for Credential {
    type Error = TooLong;

    fn try_from(unchecked: Unchecked) -> Result<Self, TooLong> {
        Self::new(&unchecked.login, &unchecked.password)
    }
}

impl Credential {
    /// A login and its password, fit for HTTP Basic (RFC 7617 §2).
    ///
    /// # Errors
    /// [`TooLong`] when one of them is empty, too long, or holds what Basic cannot carry.
    pub fn new(login: &str, password: &str) -> Result<Self, TooLong> {
        let fits =
            |text: &str, max: usize| !text.is_empty() && text.len() <= max && !text.chars().any(char::is_control);
        if !fits(login, MAX_LOGIN) || login.contains(':') || !fits(password, MAX_PASSWORD) {
            return Err(TooLong);
        }
        Ok(Self { login: login.to_owned(), password: password.to_owned() })
    }

    /// Login name.
    #[must_use]
    pub fn login(&self) -> &str {
        &self.login
    }

    /// Password; the name says that it is shown here.
    #[must_use]
    pub fn expose_password(&self) -> &str {
        &self.password
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}

/// What a service asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The service account's credential.
    ReadService {
        /// Whose.
        tenant: TenantId,
        /// For what.
        integration: IntegrationId,
    },
    /// A user's credential.
    ReadUser {
        /// Whose.
        tenant: TenantId,
        /// For what.
        integration: IntegrationId,
        /// Which user.
        user: UserId,
    },
    /// Stores, replacing.
    Write {
        /// Whose.
        tenant: TenantId,
        /// For what.
        integration: IntegrationId,
        /// Service or user.
        owner: Owner,
        /// The secret.
        credential: Credential,
    },
    /// Removes.
    Delete {
        /// Whose.
        tenant: TenantId,
        /// For what.
        integration: IntegrationId,
        /// Service or user.
        owner: Owner,
    },
    /// Whether there is one.
    Exists {
        /// Whose.
        tenant: TenantId,
        /// For what.
        integration: IntegrationId,
        /// Service or user.
        owner: Owner,
    },
}

/// What the wallet answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case", deny_unknown_fields)]
pub enum Response {
    /// The credential.
    Credential {
        /// The secret.
        credential: Credential,
    },
    /// There is none.
    Absent,
    /// Durable.
    Done,
    /// Whether there is one.
    Exists {
        /// Whether.
        exists: bool,
    },
    /// This socket's grant does not cover the request.
    NotGranted,
    /// The wallet could not do it; its log says why.
    Failed,
}
