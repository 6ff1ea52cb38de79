//! Signed-in administrators, in memory: a restart signs everybody out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_node_identity::{Fingerprint, TenantId, UnixTime};

use crate::admin_api::SecretText;

/// Name of the session cookie.
pub const COOKIE: &str = "__Host-sluice-console";
/// Seconds a session lives.
pub const SESSION_SECONDS: u64 = 8 * 3600;
/// Most sessions at a time.
pub const MAX_SESSIONS: usize = 1000;
/// Most sessions of one tenant's administrators (or of the platform's owners); the oldest gives way. One tenant must
/// not keep another out.
const MAX_OF_TENANT: usize = 100;

/// One session.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) token: SecretText,
    pub(crate) csrf: String,
    tenant: Option<TenantId>,
    ends: UnixTime,
}

/// All sessions, by digest of the cookie.
#[derive(Clone, Debug, Default)]
pub struct Sessions(Arc<Mutex<BTreeMap<Fingerprint, Held>>>);

impl Sessions {
    /// Begins a session; gives the cookie's value, or `None` when there are too many.
    pub(crate) fn begin(&self, token: &str, tenant: Option<TenantId>, now: UnixTime) -> Option<String> {
        let (id, csrf) = (random()?, random()?);
        let held = Held { token: SecretText::new(token.to_owned()), csrf, tenant, ends: now.plus(SESSION_SECONDS) };
        let mut sessions = self.0.lock().ok()?;
        if sessions.len() >= MAX_SESSIONS {
            sessions.retain(|_, held| held.ends > now);
        }
        let of_tenant: Vec<_> = sessions.iter().filter(|(_, other)| other.tenant == held.tenant).collect();
        if of_tenant.len() >= MAX_OF_TENANT {
            let oldest = of_tenant.into_iter().min_by_key(|(_, other)| other.ends).map(|(id, _)| id.clone());
            oldest.map(|id| sessions.remove(&id));
        }
        if sessions.len() >= MAX_SESSIONS {
            return None;
        }
        sessions.insert(Fingerprint::of(id.as_bytes()), held);
        Some(id)
    }

    pub(crate) fn find(&self, id: &str, now: UnixTime) -> Option<Held> {
        let sessions = self.0.lock().ok()?;
        sessions.get(&Fingerprint::of(id.as_bytes())).filter(|held| held.ends > now).cloned()
    }

    pub(crate) fn end(&self, id: &str) {
        if let Ok(mut sessions) = self.0.lock() {
            sessions.remove(&Fingerprint::of(id.as_bytes()));
        }
    }
}

fn random() -> Option<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// The session cookie's value, when there is exactly one.
pub(crate) fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| *name == COOKIE)
        .map(|(_, value)| value);
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn one_tenant_cannot_take_all_sessions() {
        let sessions = Sessions::default();
        let greedy = |at| sessions.begin("token", Some("acme".parse().unwrap()), UnixTime(at)).unwrap();
        let first = greedy(1);
        let ids: Vec<_> = (2..2 * MAX_SESSIONS as u64).map(greedy).collect();
        assert!(sessions.find(&first, UnixTime(3)).is_none(), "the oldest gave way");
        assert!(sessions.find(ids.last().unwrap(), UnixTime(3)).is_some());
        assert!(sessions.begin("other", None, UnixTime(3)).is_some());
        assert_eq!(sessions.0.lock().unwrap().len(), MAX_OF_TENANT + 1);
    }
}
