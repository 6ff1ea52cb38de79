//! Passwords, checked for gateways; the hashes never leave control.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_control_domain::{AuditEntry, ChangeSet, Kind, Load, Stored, UserRecord};
use sluice_control_enroll::{Factors, Limit, Limiter, verified};
use sluice_node_identity::{
    Fingerprint, Role, TenantId, UserId,
    api::{VerifiedUser, VerifyFactor},
};
use tokio::sync::Semaphore;

use super::{NodeApi, body::Body, peer::Node, refusal::Refusal};
use crate::keys;

/// Wrong passwords for one account.
const PER_LOGIN: Limit = Limit { tries: 10, seconds: 300 };
/// Tries from one browser's address; offices share one.
const PER_ADDRESS: Limit = Limit { tries: 200, seconds: 300 };
/// Accounts and addresses remembered; a full memory refuses.
const REMEMBERED: usize = 50_000;
/// Passwords hashed at once, 19 MiB each.
const AT_ONCE: usize = 2;

/// Checks passwords, slowly and not too often.
pub(super) struct Checker {
    factors: Arc<Factors>,
    places: Arc<Semaphore>,
    logins: Mutex<Limiter<(TenantId, Fingerprint)>>,
    addresses: Mutex<Limiter<(TenantId, IpAddr)>>,
}

impl Checker {
    pub(super) fn new() -> anyhow::Result<Self> {
        let factors = Factors::new(&keys::random()?).ok().context("argon2 refused its own parameters")?;
        Ok(Self {
            factors: Arc::new(factors),
            places: Arc::new(Semaphore::new(AT_ONCE)),
            logins: Mutex::new(Limiter::new(PER_LOGIN, REMEMBERED)),
            addresses: Mutex::new(Limiter::new(PER_ADDRESS, REMEMBERED)),
        })
    }
}

pub(super) async fn verify(
    State(api): State<NodeApi>,
    node: Node,
    Body(asked): Body<VerifyFactor>,
) -> Result<Json<VerifiedUser>, Refusal> {
    node.must_be(Role::Gateway)?;
    let (checker, now) = (&api.factors, api.now());
    let account = (node.tenant.clone(), Fingerprint::of(asked.login.to_lowercase().as_bytes()));
    let address = (node.tenant.clone(), asked.client);
    let lock = PoisonError::into_inner;
    checker.addresses.lock().unwrap_or_else(lock).attempt(address, now).map_err(Refusal::too_many)?;
    checker
        .logins
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .attempt(account.clone(), now)
        .map_err(Refusal::too_many)?;

    let user = find(&api, &node.tenant, &asked.login).await?;
    let place = checker.places.clone().acquire_owned().await.map_err(Refusal::failed)?;
    let (factors, password, candidate) = (checker.factors.clone(), asked.password, user.clone());
    let right = tokio::task::spawn_blocking(move || {
        let right = factors.verify(candidate.as_ref(), &password);
        drop(place);
        right
    });
    let right = right.await.map_err(Refusal::failed)?;
    let granted = user.filter(|_| right);
    record(&api, &node, granted.as_ref(), asked.client).await?;
    let wrong = || Refusal::new(StatusCode::UNAUTHORIZED, "wrong", "name or password is wrong");
    let user = granted.ok_or_else(wrong)?;
    checker.logins.lock().unwrap_or_else(PoisonError::into_inner).clear(&account);
    Ok(Json(verified(&user)))
}

/// By login name, or by mail address.
async fn find(api: &NodeApi, tenant: &TenantId, login: &str) -> Result<Option<UserRecord>, Refusal> {
    let login = login.trim().to_lowercase();
    if let Ok(id) = login.parse::<UserId>() {
        return Ok(api.one::<UserRecord>(tenant.as_str(), id.as_str()).await?.map(|user| user.body));
    }
    let by =
        Load::ByIndex { kind: Kind::User, tenant: Some(tenant.to_string()), name: "email", value: login, limit: 2 };
    let mut found = api.store().load(by).await?;
    // An address that two accounts share is nobody's login name.
    let only = if found.len() == 1 { found.pop() } else { None };
    Ok(only.map(Stored::typed::<UserRecord>).transpose()?.map(|user| user.body))
}

/// Both outcomes are audited; a login whose record cannot be written does not happen. What was typed is not kept.
async fn record(api: &NodeApi, node: &Node, user: Option<&UserRecord>, client: IpAddr) -> Result<(), Refusal> {
    let entry = AuditEntry {
        at: api.now(),
        actor: format!("node/{}", node.id),
        act: if user.is_some() { "user.password.right" } else { "user.password.wrong" }.to_owned(),
        subject: user.map_or_else(|| "user".to_owned(), |user| format!("user/{}", user.id)),
        detail: json!({ "client": client }),
    };
    api.commit(Some(ChangeSet::of(&node.tenant).audit(entry))).await?;
    Ok(())
}
