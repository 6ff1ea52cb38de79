//! What the workers need from the rest of control; `src/` wires it.

use async_trait::async_trait;
use sluice_control_wallet::{Credential, Owner};
use sluice_node_identity::{IntegrationId, ResourceId, TenantId, UserId};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A byte stream of any kind.
pub type BoxedIo = Box<dyn Io>;

/// A resource cannot be reached; the text is for administrators and users.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct ReachError(pub String);

/// How a system of record is reached.
#[async_trait]
pub trait Reach: Send + Sync {
    /// Opens a stream to a resource on somebody's behalf (`sub`: `user/<id>` or `service/<name>`).
    async fn open(&self, tenant: &TenantId, resource: &ResourceId, sub: &str) -> Result<BoxedIo, ReachError>;
}

/// The wallet did not do what was asked; the text is safe to show.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct CredentialsError(pub String);

/// Where credentials are kept.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// The service account's, for syncs.
    async fn service(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
    ) -> Result<Option<Credential>, CredentialsError>;

    /// A user's own, to act as that user.
    async fn user(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        user: &UserId,
    ) -> Result<Option<Credential>, CredentialsError>;

    /// Stores one, replacing; durable when it returns.
    async fn put(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: &Owner,
        credential: Credential,
    ) -> Result<(), CredentialsError>;

    /// Whether there is one.
    async fn exists(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: &Owner,
    ) -> Result<bool, CredentialsError>;
}

/// A tenant's key cannot be derived.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct KeyError(pub String);

/// Keys derived from a tenant's data key.
pub trait TenantKeys: Send + Sync {
    /// HKDF-SHA-256 of the tenant's data key (`tenant/<t>/data`) with this info.
    ///
    /// # Errors
    /// When the keystore does not hold the tenant's key.
    fn derive(&self, tenant: &TenantId, info: &str) -> Result<[u8; 32], KeyError>;
}
