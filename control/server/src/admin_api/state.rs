//! What the admin API works on, and the few questions it asks of the rest of control.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use sluice_control_domain::{
    ChangeSet, Commit, Load, OwnerLink, PLATFORM, Record, RecordKey, Store, Tenant, Typed, compile::Fleet,
};
use sluice_node_identity::{Fingerprint, TenantId, UnixTime};

use super::{
    ApiError,
    model::{Paging, Waits},
};
use crate::{IntegrationService, Names, Streams, fleet};

/// Public halves of a new tenant's keys; the private halves stay with the [`Authority`].
#[derive(Clone, Debug)]
pub struct NewTenantKeys {
    /// Hub root certificate, PEM.
    pub hub_root: String,
    /// Policy key, public JWK.
    pub policy_key: Value,
}

/// Who holds control's keys.
pub trait Authority: Send + Sync {
    /// Makes and keeps a tenant's hub root, policy key and data key. Called again for the same tenant before the
    /// tenant was committed it replaces them.
    ///
    /// # Errors
    /// When the keystore cannot be written.
    fn make_tenant(&self, tenant: &TenantId, now: UnixTime) -> Result<NewTenantKeys, String>;
    /// Fingerprint of the node root's SubjectPublicKeyInfo.
    fn node_root_pin(&self) -> Fingerprint;
    /// RFC 7638 thumbprint of a policy key.
    ///
    /// # Errors
    /// When `jwk` is not a key.
    fn thumbprint(&self, jwk: &Value) -> Result<String, String>;
    /// The node API's address as it stands in join codes: `https://host[:port]`.
    fn node_url(&self) -> String;
    /// Control's public key for stream tokens, JWK.
    fn caller_jwk(&self) -> Value;
    /// Says with the tenant's policy key that the key `new` (JWK) follows it.
    ///
    /// # Errors
    /// When the keystore does not hold it, or `new` is not a key.
    fn sign_succession(&self, tenant: &TenantId, new: &Value) -> Result<String, String>;
    /// Removes the tenant's policy key from the keystore; fine when it is not there.
    ///
    /// # Errors
    /// When the keystore cannot be written.
    fn forget_policy_key(&self, tenant: &TenantId) -> Result<(), String>;
}

/// Verifies audit chains.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Walks a tenant's chain (`None`: the platform's) from its first entry; gives how many entries were verified.
    async fn verify(&self, tenant: Option<&TenantId>) -> Result<u64, String>;
}

/// Shared by all handlers.
#[derive(Clone)]
pub struct AdminState {
    /// Where records are kept.
    pub store: Arc<dyn Store>,
    /// Keys.
    pub authority: Arc<dyn Authority>,
    /// Audit chains.
    pub ledger: Arc<dyn Ledger>,
    /// What is done with integrations.
    pub integrations: Arc<dyn IntegrationService>,
    /// Streams that connectors carry now; the node API fills it.
    pub streams: Arc<Streams>,
    /// The clock.
    pub clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
    /// Control's own names, which no host of a tenant may touch.
    pub names: Names,
    owner_seen: Arc<AtomicBool>,
    /// Host names are unique across records, which no version of a single record can express.
    pub(super) hosts: Arc<tokio::sync::Mutex<()>>,
    /// Nor can one express what fits on a connector's list, or that nothing names a resource.
    pub(super) lists: Arc<tokio::sync::Mutex<()>>,
}

/// Where the customer holds the policy key.
const WAITS: &str =
    "nothing changes at the connectors until their new lists are signed with your policy key: sluice admin policy sign";

/// How often a decision is made again when what it was based on changed.
pub(super) const TRIES: u32 = 4;

impl AdminState {
    /// Puts the pieces together.
    pub fn new(
        store: Arc<dyn Store>,
        authority: Arc<dyn Authority>,
        ledger: Arc<dyn Ledger>,
        integrations: Arc<dyn IntegrationService>,
        streams: Arc<Streams>,
        clock: Arc<dyn Fn() -> UnixTime + Send + Sync>,
        names: Names,
    ) -> Self {
        let owner_seen = Arc::new(AtomicBool::new(false));
        let (hosts, lists) = <(Arc<_>, Arc<_>)>::default();
        Self { store, authority, ledger, integrations, streams, clock, names, owner_seen, hosts, lists }
    }

    pub(crate) fn now(&self) -> UnixTime {
        (self.clock)()
    }

    /// Refuses a host that is one of control's own names or overlaps one: it would never be reached, or reach others.
    pub(super) fn not_ours(&self, what: &str, host: &str) -> Result<(), ApiError> {
        if self.names.overlap(host) {
            return Err(ApiError::invalid(format!("{what} overlaps a name of control itself; choose another host")));
        }
        Ok(())
    }

    /// Refuses `change` when connectors would refuse the list it leads to. [`Self::lists`] is held meanwhile.
    pub(super) async fn fits(&self, tenant: &TenantId, change: impl FnOnce(&mut Fleet)) -> Result<(), ApiError> {
        let fleet = fleet::load(self.store.as_ref(), tenant).await;
        let mut fleet = fleet.map_err(|error| ApiError::internal(format!("{error:#}")))?;
        change(&mut fleet);
        fleet.fits(self.now()).map_err(|error| ApiError::invalid(error.to_string()))
    }

    /// What to say to whoever changes rules of a tenant whose policy key is the customer's.
    pub(super) async fn waits(&self, tenant: &TenantId) -> Result<Option<String>, ApiError> {
        let customer = self.one::<Tenant>(PLATFORM, tenant.as_str()).await?.body.policy.customer;
        Ok(customer.then(|| WAITS.to_owned()))
    }

    /// The answer to a removal: done, or waiting for a signature.
    pub(super) async fn gone(&self, tenant: &TenantId) -> Result<Response, ApiError> {
        Ok(match self.waits(tenant).await? {
            None => StatusCode::NO_CONTENT.into_response(),
            Some(waits) => (StatusCode::ACCEPTED, Json(Waits { waits })).into_response(),
        })
    }

    /// Whether an owner has claimed this control. Once true it stays true, so only the "no" is asked again.
    pub(crate) async fn has_owner(&self) -> Result<bool, ApiError> {
        if self.owner_seen.load(Ordering::Acquire) {
            return Ok(true);
        }
        let link = self.find::<OwnerLink>(PLATFORM, "owner").await?;
        let used = link.is_some_and(|link| link.body.used.is_some());
        self.owner_seen.store(used, Ordering::Release);
        Ok(used)
    }

    /// One record, if it is there.
    pub(crate) async fn find<R: Record>(&self, tenant: &str, id: &str) -> Result<Option<Typed<R>>, ApiError> {
        let key = RecordKey { kind: R::KIND, tenant: tenant.to_owned(), id: id.to_owned() };
        let found = self.store.load(Load::Keys(vec![key])).await?;
        Ok(found.into_iter().next().map(sluice_control_domain::Stored::typed).transpose()?)
    }

    /// One record, or the refusal that it is not there.
    pub(crate) async fn one<R: Record>(&self, tenant: &str, id: &str) -> Result<Typed<R>, ApiError> {
        self.find(tenant, id).await?.ok_or_else(ApiError::not_found)
    }

    /// A page of a tenant's records, and the `after` of the next one.
    pub(crate) async fn page<R: Record>(
        &self,
        tenant: &str,
        paging: &Paging,
    ) -> Result<(Vec<Typed<R>>, Option<String>), ApiError> {
        let limit = paging.limit();
        let scan = Load::Scan { kind: R::KIND, tenant: tenant.to_owned(), after: paging.after.clone(), limit };
        let found = self.store.load(scan).await?;
        let full = u32::try_from(found.len()).is_ok_and(|count| count >= limit);
        let next = found.last().filter(|_| full).map(|last| last.key.id.clone());
        let items = found.into_iter().map(sluice_control_domain::Stored::typed).collect::<Result<_, _>>()?;
        Ok((items, next))
    }

    /// Whether another record than `own` holds an index value, in any tenant.
    pub(crate) async fn taken<R: Record>(&self, name: &'static str, value: &str) -> Result<bool, ApiError> {
        let by = Load::ByIndex { kind: R::KIND, tenant: None, name, value: value.to_owned(), limit: 1 };
        Ok(!self.store.load(by).await?.is_empty())
    }

    /// Commits a change set that creates something called `what`.
    pub(crate) async fn create(&self, what: &str, set: ChangeSet) -> Result<(), ApiError> {
        match self.store.commit(set).await? {
            Commit::Done => Ok(()),
            Commit::Conflict => Err(ApiError::exists(what)),
        }
    }

    /// Loads a record, decides, commits; decides again when somebody was quicker.
    pub(crate) async fn change<R, T>(
        &self,
        tenant: &str,
        id: &str,
        decide: impl Fn(&Typed<R>) -> Result<(ChangeSet, T), ApiError> + Send + Sync,
    ) -> Result<T, ApiError>
    where
        R: Record + Send + Sync,
        T: Send,
    {
        for _ in 0..TRIES {
            let loaded = self.one::<R>(tenant, id).await?;
            let (set, answer) = decide(&loaded)?;
            if self.store.commit(set).await? == Commit::Done {
                return Ok(answer);
            }
        }
        Err(ApiError::conflict())
    }
}
