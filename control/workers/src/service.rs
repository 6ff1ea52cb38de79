//! What pages and the admin API ask of the workers; the same shapes as `control/server`'s service traits.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::json;
use sluice_control_domain::{
    AuditEntry, CardRecord, CardState, ChangeSet, Commit, Integration, Kind, Load, Store, UserRecord,
};
use sluice_control_feed::{CardText, Person};
use sluice_control_sync::Declaration;
use sluice_control_wallet::{Credential, Owner};
use sluice_node_identity::{IntegrationId, ResourceId, TenantId, UnixTime};
use tokio::sync::Mutex;

use crate::{Cache, Credentials, Reach, Target, TenantKeys, WorkError, lease::now, seal};

/// Most cards of one feed.
const MAX_CARDS: usize = 200;
/// Most open cards of one user that are ranked.
const MAX_RANKED: u32 = 1_000;
/// Most rows the cache explorer gives.
const MAX_ROWS: u32 = 1_000;

/// What the workers work with.
pub struct Parts {
    /// Records.
    pub store: Arc<dyn Store>,
    /// Copies of systems of record.
    pub cache: Arc<dyn Cache>,
    /// The way to systems of record.
    pub reach: Arc<dyn Reach>,
    /// The wallet.
    pub credentials: Arc<dyn Credentials>,
    /// Tenants' keys.
    pub keys: Arc<dyn TenantKeys>,
    /// Names this process among those that share the store; different after every start (leases).
    pub process: String,
}

/// The workers.
pub struct Workers {
    pub(crate) parts: Parts,
    pub(crate) draining: Mutex<()>,
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

impl Workers {
    /// Workers over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { parts, draining: Mutex::new(()) })
    }

    /// Open cards of one user, best first, at most 200. Each is shown only while its row may be seen.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn cards(&self, user: &UserRecord) -> Result<Vec<CardView>, WorkError> {
        if user.disabled {
            return Ok(Vec::new());
        }
        let what = Load::ByIndex {
            kind: Kind::Card,
            tenant: Some(user.tenant.to_string()),
            name: "open",
            value: user.id.to_string(),
            limit: MAX_RANKED,
        };
        let mut by_integration: BTreeMap<IntegrationId, Vec<(CardRecord, CardText)>> = BTreeMap::new();
        for stored in self.parts.store.load(what).await? {
            let card: CardRecord = stored.typed()?.body;
            if card.user != user.id || card.tenant != user.tenant || card.state != CardState::Open {
                continue;
            }
            match seal::open(self.parts.keys.as_ref(), &user.tenant, &user.id, &card.id, &card.sealed) {
                Ok(text) => by_integration.entry(card.integration.clone()).or_default().push((card, text)),
                Err(error) => tracing::error!(card = card.id, "{error}"),
            }
        }
        let mut views = Vec::new();
        for (integration, cards) in by_integration {
            match self.target(&user.tenant, &integration).await {
                Ok(target) => views.extend(self.views(user, &target, cards).await?),
                Err(error) => tracing::warn!(%integration, "its cards are not shown: {error}"),
            }
        }
        views.sort_by(|a, b| b.score.cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        views.truncate(MAX_CARDS);
        Ok(views)
    }

    async fn views(
        &self,
        user: &UserRecord,
        target: &Target,
        cards: Vec<(CardRecord, CardText)>,
    ) -> Result<Vec<CardView>, WorkError> {
        let person = Person { user: user.id.clone(), email: user.email.clone() };
        let rows = cards.iter().map(|(_, text)| (text.table.clone(), text.key.clone())).collect();
        let visible = self.parts.cache.visible(target, &person, rows).await?;
        // A card about a deletion has no row any more; who may see it was settled when it was made.
        let shown = cards
            .into_iter()
            .zip(visible)
            .filter(|((_, text), visible)| *visible || text.kind == sluice_control_sync::ChangeKind::Delete);
        Ok(shown.map(|((card, text), _)| view(target, card, text)).collect())
    }

    /// Integrations of the tenant, and whether this user has stored a login for each.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn credentials(&self, user: &UserRecord) -> Result<Vec<(IntegrationId, bool)>, WorkError> {
        let tenant = user.tenant.to_string();
        let what = Load::Scan { kind: Kind::Integration, tenant, after: None, limit: MAX_RANKED };
        let owner = Owner::User(user.id.clone());
        let mut found = Vec::new();
        for stored in self.parts.store.load(what).await? {
            let id = stored.typed::<Integration>()?.body.id;
            let exists = self.parts.credentials.exists(&user.tenant, &id, &owner).await?;
            found.push((id, exists));
        }
        Ok(found)
    }

    /// Stores the user's own login at an integration in the wallet.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn put_credential(
        &self,
        user: &UserRecord,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), WorkError> {
        if user.disabled {
            return Err(WorkError::Refused("the account is disabled".into()));
        }
        let actor = format!("user/{}", user.id);
        self.put(&user.tenant, integration, Owner::User(user.id.clone()), actor, login, password).await
    }

    /// Stores the service account's login in the wallet. The caller audits who asked; this notes that it was done.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn put_service_credential(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        login: &str,
        password: &str,
    ) -> Result<(), WorkError> {
        self.put(tenant, integration, Owner::Service, "service/wallet".into(), login, password).await
    }

    async fn put(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        owner: Owner,
        actor: String,
        login: &str,
        password: &str,
    ) -> Result<(), WorkError> {
        self.integration(tenant, integration).await?;
        let credential = Credential::new(login, password).map_err(|error| WorkError::Refused(error.to_string()))?;
        let entry = AuditEntry {
            at: now(),
            actor,
            act: "credential.put".into(),
            subject: format!("integration/{integration}"),
            detail: json!({ "owner": owner.text() }),
        };
        // What cannot be recorded is not done.
        if self.parts.store.commit(ChangeSet::of(tenant).audit(entry)).await? != Commit::Done {
            return Err(WorkError::Failed("the audit record could not be written".into()));
        }
        Ok(self.parts.credentials.put(tenant, integration, &owner, credential).await?)
    }

    /// Checks a declaration (TOML); gives the resource it names.
    ///
    /// # Errors
    /// [`WorkError::Refused`] says where and what to do.
    pub fn validate(&self, declaration: &str) -> Result<ResourceId, WorkError> {
        Declaration::parse(declaration)
            .map(|read| read.service.resource)
            .map_err(|error| WorkError::Refused(error.to_string()))
    }

    /// Runs a full sync now and waits for it; gives (rows in the cache, rows changed, cards made).
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn sync(&self, tenant: &TenantId, integration: &IntegrationId) -> Result<(u64, u64, u64), WorkError> {
        let changed = self.full_sync(tenant, integration).await?;
        Ok((changed.rows, changed.changed, changed.cards))
    }

    /// Data-cache explorer (full administrators only): rows of a table as JSON objects, at most 1,000.
    ///
    /// # Errors
    /// [`WorkError`].
    pub async fn cache(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        table: &str,
        limit: u32,
    ) -> Result<Vec<serde_json::Value>, WorkError> {
        let target = self.target(tenant, integration).await?;
        let Some((at, _)) = target.declaration.table(table) else {
            return Err(WorkError::NotFound(format!("the integration has no table \"{table}\"")));
        };
        Ok(self.parts.cache.rows(&target, at, limit.min(MAX_ROWS)).await?)
    }
}

fn view(target: &Target, card: CardRecord, text: CardText) -> CardView {
    let declaration = &target.declaration;
    let buttons = declaration.event(&card.rule).map(|event| event.card.actions.as_slice()).unwrap_or_default();
    let actions = buttons.iter().filter_map(|at| declaration.actions.get(*at));
    CardView {
        id: card.id,
        title: text.title,
        body: text.body,
        actions: actions.map(|action| (action.name.clone(), action.label.clone())).collect(),
        score: card.score,
        created: rfc3339(card.created),
        integration: card.integration,
    }
}

fn rfc3339(at: UnixTime) -> String {
    let time = i64::try_from(at.0).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}
