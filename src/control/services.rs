//! Adapters: the workers as the pages and the admin API know them, the wallet and the keystore as the workers do.

use std::sync::Arc;

use async_trait::async_trait;
use sluice_control_domain::UserRecord;
use sluice_control_keystore::Keystore;
use sluice_control_server::{CardView, FeedService, IntegrationService, ServiceError, admin_api::Ledger};
use sluice_control_store_sqlite::SqliteStore;
use sluice_control_wallet::{Credential, Owner};
use sluice_control_wallet_daemon::{WalletClients, WalletError};
use sluice_control_workers::{Credentials, CredentialsError, KeyError, TenantKeys, WorkError, Workers};
use sluice_node_identity::{IntegrationId, ResourceId, TenantId, UserId};

/// Keys derived from tenants' data keys.
pub(super) struct DataKeys(pub(super) Arc<Keystore>);

impl TenantKeys for DataKeys {
    fn derive(&self, tenant: &TenantId, info: &str) -> Result<[u8; 32], KeyError> {
        let key = self.0.derive(&format!("tenant/{tenant}/data"), info);
        key.map(|key| *key).map_err(|error| KeyError(error.to_string()))
    }
}

/// The wallet's process, one socket per grant. Its calls block, so they run on blocking threads.
#[derive(Clone)]
pub(super) struct Wallet(Arc<WalletClients>);

impl Wallet {
    pub(super) fn new(clients: Arc<WalletClients>) -> Self {
        Self(clients)
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&WalletClients) -> Result<T, WalletError> + Send + 'static,
    ) -> Result<T, CredentialsError> {
        let clients = Arc::clone(&self.0);
        let called = tokio::task::spawn_blocking(move || call(&clients)).await;
        let answer = called.map_err(|error| CredentialsError(error.to_string()))?;
        answer.map_err(|error| CredentialsError(error.to_string()))
    }
}

#[async_trait]
impl Credentials for Wallet {
    async fn service(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
    ) -> Result<Option<Credential>, CredentialsError> {
        let (tenant, integration) = (tenant.clone(), integration.clone());
        self.call(move |wallet| wallet.sync.read_service(&tenant, &integration)).await
    }

    async fn user(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        user: &UserId,
    ) -> Result<Option<Credential>, CredentialsError> {
        let (tenant, integration, user) = (tenant.clone(), integration.clone(), user.clone());
        self.call(move |wallet| wallet.actions.read_user(&tenant, &integration, &user)).await
    }

    async fn put(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: &Owner,
        credential: Credential,
    ) -> Result<(), CredentialsError> {
        let (tenant, integration, owner) = (tenant.clone(), integration.clone(), owner.clone());
        self.call(move |wallet| wallet.admin.write(&tenant, &integration, &owner, credential)).await
    }

    async fn exists(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: &Owner,
    ) -> Result<bool, CredentialsError> {
        let (tenant, integration, owner) = (tenant.clone(), integration.clone(), owner.clone());
        self.call(move |wallet| wallet.admin.exists(&tenant, &integration, &owner)).await
    }
}

fn told(error: WorkError) -> ServiceError {
    match error {
        WorkError::NotFound(text) => ServiceError::NotFound(text),
        WorkError::Refused(text) => ServiceError::Refused(text),
        WorkError::Failed(text) => ServiceError::Failed(text),
    }
}

/// The workers, as pages and admin API know them.
#[derive(Clone)]
pub(super) struct Services(pub(super) Arc<Workers>);

#[async_trait]
impl FeedService for Services {
    async fn cards(&self, user: &UserRecord) -> Result<Vec<CardView>, ServiceError> {
        let cards = self.0.cards(user).await.map_err(told)?;
        let view = |card: sluice_control_workers::CardView| CardView {
            id: card.id,
            title: card.title,
            body: card.body,
            actions: card.actions,
            score: card.score,
            created: card.created,
            integration: card.integration,
        };
        Ok(cards.into_iter().map(view).collect())
    }

    async fn act(&self, user: &UserRecord, card: &str, action: &str) -> Result<String, ServiceError> {
        let (workers, user) = (Arc::clone(&self.0), user.clone());
        let (card, action) = (card.to_owned(), action.to_owned());
        // A browser that goes away ends its request, but must not end the action between the write and its record.
        let acted = tokio::spawn(async move { workers.act(&user, &card, &action).await }).await;
        acted.map_err(|error| ServiceError::Failed(format!("the action broke off: {error}")))?.map_err(told)
    }

    async fn credentials(&self, user: &UserRecord) -> Result<Vec<(IntegrationId, bool)>, ServiceError> {
        self.0.credentials(user).await.map_err(told)
    }

    async fn put_credential(
        &self,
        user: &UserRecord,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), ServiceError> {
        self.0.put_credential(user, integration, login, password).await.map_err(told)
    }
}

#[async_trait]
impl IntegrationService for Services {
    fn validate(&self, declaration: &str) -> Result<ResourceId, ServiceError> {
        self.0.validate(declaration).map_err(told)
    }

    async fn put_service_credential(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), ServiceError> {
        self.0.put_service_credential(tenant, integration, login, password).await.map_err(told)
    }

    async fn sync(&self, tenant: &TenantId, integration: &IntegrationId) -> Result<(u64, u64, u64), ServiceError> {
        self.0.sync(tenant, integration).await.map_err(told)
    }

    async fn cache(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        table: &str,
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, ServiceError> {
        self.0.cache(tenant, integration, table, limit).await.map_err(told)
    }
}

/// Audit chains, verified by the store that holds their key.
pub(super) struct Chains(pub(super) Arc<SqliteStore>);

#[async_trait]
impl Ledger for Chains {
    async fn verify(&self, tenant: Option<&TenantId>) -> Result<u64, String> {
        let checked = self.0.verify_audit(tenant, None).await.map_err(|error| error.to_string())?;
        checked.map(|checkpoint| checkpoint.seq).map_err(|broken| broken.to_string())
    }
}
