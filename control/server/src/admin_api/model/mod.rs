//! Bodies of the admin API. `sluice admin` reads and writes the same types.

mod check;
mod fleet;
mod place;
mod reach;
mod stream;

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_control_domain::{UserRecord, UserRole};
use sluice_node_identity::{IntegrationId, UnixTime, UserId};
use utoipa::{IntoParams, ToSchema};

use super::{MintedToken, Rights};
pub(crate) use check::{check_host, check_label};
pub use fleet::*;
pub use place::*;
pub use reach::*;
pub use stream::*;

/// A secret in a body: never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most 1,000; 100 unless told otherwise.
    pub limit: Option<u32>,
}

impl Paging {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1000)
    }
}

/// One page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// In order of their ids.
    pub items: Vec<T>,
    /// Ask for this `after` to get the next page; absent on the last one.
    pub next: Option<String>,
}

pub(crate) fn created<T>(body: T) -> (axum::http::StatusCode, axum::Json<T>) {
    (axum::http::StatusCode::CREATED, axum::Json(body))
}

/// `POST /api/v1/owner`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimOwner {
    /// The secret of the owner link.
    pub secret: SecretText,
    /// What to call the owner's first token.
    pub label: Option<String>,
}

/// A token, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Its public part, by which it can be revoked.
    pub id: String,
    /// What to send as `Authorization: Bearer`.
    pub token: SecretText,
    /// After this it is worthless.
    #[schema(value_type = u64)]
    pub expires: UnixTime,
}

impl NewToken {
    pub(crate) fn of(minted: MintedToken) -> Self {
        Self { id: minted.record.id, token: SecretText(minted.text), expires: minted.record.expires }
    }
}

/// `POST …/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// For people.
    pub label: String,
    /// `administrator` unless told otherwise.
    pub rights: Option<Rights>,
    /// Days it is good for, 1 to 90; 30 unless told otherwise.
    pub days: Option<u32>,
}

/// A token as it is listed: never its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Public part.
    pub id: String,
    /// For people.
    pub label: String,
    /// How much it may do.
    pub rights: Rights,
    /// After this it is worthless.
    #[schema(value_type = u64)]
    pub expires: UnixTime,
}

/// `POST …/users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Login name.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Mail address; viewer rules compare it.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// At least 8 characters.
    pub password: SecretText,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// `user` unless told otherwise.
    #[schema(value_type = Option<String>)]
    pub role: Option<UserRole>,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Login name.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Mail address.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Role.
    #[schema(value_type = String)]
    pub role: UserRole,
    /// Nothing is granted to a disabled account.
    pub disabled: bool,
}

impl From<UserRecord> for UserView {
    fn from(user: UserRecord) -> Self {
        let UserRecord { id, email, display_name, groups, role, disabled, .. } = user;
        Self { id, email, display_name, groups, role, disabled }
    }
}

/// `PUT …/integrations/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutIntegration {
    /// The declaration, TOML.
    pub declaration: String,
}

/// An integration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IntegrationView {
    /// Name.
    #[schema(value_type = String)]
    pub id: IntegrationId,
    /// When the last full sync ended.
    #[schema(value_type = Option<u64>)]
    pub synced: Option<UnixTime>,
    /// Rows it left in the cache.
    pub rows: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// `PUT …/credential`: a login at the system of record. It goes into the wallet; nobody can read it back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCredential {
    /// Login name.
    pub login: String,
    /// Password.
    pub password: SecretText,
}

/// Answer to `POST …/sync`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Synced {
    /// Rows in the cache.
    pub rows: u64,
    /// Rows that changed.
    pub changed: u64,
    /// Cards made.
    pub cards: u64,
}

/// One audit entry.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Number in its chain.
    pub seq: u64,
    /// When.
    #[schema(value_type = u64)]
    pub at: UnixTime,
    /// Who.
    pub actor: String,
    /// What.
    pub act: String,
    /// To what.
    pub subject: String,
    /// Further facts.
    pub detail: serde_json::Value,
    /// Hash of this link of the chain.
    pub hash: String,
}

/// Answer to `GET …/audit/verify`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether every link holds.
    pub intact: bool,
    /// Links verified.
    pub entries: u64,
    /// What is wrong.
    pub problem: Option<String>,
}
