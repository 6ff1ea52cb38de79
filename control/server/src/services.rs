//! What the pages and the admin API need from the rest of control, as traits; `src/control` wires them.

use async_trait::async_trait;
use sluice_control_domain::UserRecord;
use sluice_node_identity::{IntegrationId, ResourceId, TenantId};
use thiserror::Error;

/// A refusal that is shown to the person who asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ServiceError {
    /// What was asked does not exist, or not for this person.
    #[error("{0}")]
    NotFound(String),
    /// What was asked cannot be done now; the text says why and what to do.
    #[error("{0}")]
    Refused(String),
    /// Our own fault or a peer's; trying again may help.
    #[error("{0}")]
    Failed(String),
}

/// A card as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardView {
    /// Card id.
    pub id: String,
    /// Title.
    pub title: String,
    /// Body text.
    pub body: String,
    /// (action id, label), in order.
    pub actions: Vec<(String, String)>,
    /// Higher first.
    pub score: i64,
    /// RFC 3339, for people.
    pub created: String,
    /// From which integration.
    pub integration: IntegrationId,
}

/// A user's feed.
#[async_trait]
pub trait FeedService: Send + Sync {
    /// Open cards of one user, best first, at most 200.
    async fn cards(&self, user: &UserRecord) -> Result<Vec<CardView>, ServiceError>;
    /// Runs an action as the user; gives a sentence for the user.
    async fn act(&self, user: &UserRecord, card: &str, action: &str) -> Result<String, ServiceError>;
    /// Integrations of the tenant, and whether this user has stored a credential for each.
    async fn credentials(&self, user: &UserRecord) -> Result<Vec<(IntegrationId, bool)>, ServiceError>;
    /// Stores the user's own login at an integration in the wallet.
    async fn put_credential(
        &self,
        user: &UserRecord,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), ServiceError>;
}

/// What administrators do with integrations.
#[async_trait]
pub trait IntegrationService: Send + Sync {
    /// Checks a declaration (TOML); gives the resource it names.
    fn validate(&self, declaration: &str) -> Result<ResourceId, ServiceError>;
    /// Stores the service account's login in the wallet.
    async fn put_service_credential(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), ServiceError>;
    /// Runs a full sync now and waits for it; gives (rows in the cache, rows changed, cards made).
    async fn sync(&self, tenant: &TenantId, integration: &IntegrationId) -> Result<(u64, u64, u64), ServiceError>;
    /// Data-cache explorer (full administrators only): rows of a table as JSON objects.
    async fn cache(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        table: &str,
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, ServiceError>;
}
