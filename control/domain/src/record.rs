//! Records: typed bodies under versioned keys.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use thiserror::Error;

/// Which sort of record a key names. The text is part of the stored key: never rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// [`crate::ApiToken`]
    ApiToken,
    /// [`crate::AppRecord`]
    App,
    /// [`crate::CardRecord`]
    Card,
    /// [`crate::compile::DocumentRecord`]
    Document,
    /// [`crate::EnrollCode`]
    EnrollCode,
    /// [`crate::ExceptionRecord`]
    Exception,
    /// [`crate::GatewayRecord`]
    Gateway,
    /// [`crate::HubRecord`]
    Hub,
    /// [`crate::Integration`]
    Integration,
    /// [`crate::NodeRecord`]
    Node,
    /// [`crate::OwnerLink`]
    OwnerLink,
    /// [`crate::policy::ProposalRecord`]
    Proposal,
    /// [`crate::ResourceRecord`]
    Resource,
    /// [`crate::Site`]
    Site,
    /// [`crate::Tenant`]
    Tenant,
    /// [`crate::UserRecord`]
    User,
}

impl Kind {
    /// The stored text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiToken => "api_token",
            Self::App => "app",
            Self::Card => "card",
            Self::Document => "document",
            Self::EnrollCode => "enroll_code",
            Self::Exception => "exception",
            Self::Gateway => "gateway",
            Self::Hub => "hub",
            Self::Integration => "integration",
            Self::Node => "node",
            Self::OwnerLink => "owner_link",
            Self::Proposal => "proposal",
            Self::Resource => "resource",
            Self::Site => "site",
            Self::Tenant => "tenant",
            Self::User => "user",
        }
    }
}

/// Names one record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Sort.
    pub kind: Kind,
    /// Tenant, or [`crate::PLATFORM`].
    pub tenant: String,
    /// Unique within sort and tenant.
    pub id: String,
}

/// A record as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its key.
    pub key: RecordKey,
    /// 1 for a new record, one more with every write.
    pub version: u64,
    /// Its body.
    pub body: Value,
}

/// A body that can be stored.
pub trait Record: Serialize + DeserializeOwned {
    /// Its sort.
    const KIND: Kind;

    /// Its tenant, or [`crate::PLATFORM`].
    fn tenant(&self) -> &str;

    /// Its id within sort and tenant.
    fn id(&self) -> &str;

    /// Secondary index entries (name, value), by which [`crate::Load::ByIndex`] finds it.
    fn index(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Its key.
    fn key(&self) -> RecordKey {
        RecordKey { kind: Self::KIND, tenant: self.tenant().to_owned(), id: self.id().to_owned() }
    }
}

/// A stored record with its typed body.
#[derive(Clone, Debug, PartialEq)]
pub struct Typed<R> {
    /// Version as loaded: what a [`crate::ChangeSet`] expects.
    pub version: u64,
    /// The body.
    pub body: R,
}

/// A stored body that this release cannot read: the database is damaged or was written by a newer release.
#[derive(Debug, Error)]
#[error("stored {kind} \"{id}\" cannot be read: {source}")]
pub struct BadRecord {
    /// Sort.
    pub kind: &'static str,
    /// Which.
    pub id: String,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

impl Stored {
    /// Reads the body as `R`.
    ///
    /// # Errors
    /// [`BadRecord`] when it is something else.
    pub fn typed<R: Record>(self) -> Result<Typed<R>, BadRecord> {
        let Self { key, version, body } = self;
        let body =
            serde_json::from_value(body).map_err(|source| BadRecord { kind: R::KIND.as_str(), id: key.id, source })?;
        Ok(Typed { version, body })
    }
}
