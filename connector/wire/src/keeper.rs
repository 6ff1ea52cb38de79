//! Keeps the newest allow-list: believes only the tenant's policy key, never goes back, says when it has expired.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use sluice_node_identity::{Fingerprint, NodeId, TenantId, UnixTime};
use thiserror::Error;

use crate::{
    AllowList, Caller, CallerKind, RuleFault, SignedAllowList,
    jwk::VerifyingKey,
    jws::{TYP_ALLOW_LIST, TYP_SUCCESSION, Unverified},
    sign::CONTROL,
};

/// Longest list that is read, as JWS text.
pub const MAX_LIST_BYTES: usize = 2 * 1024 * 1024;
/// Most callers in a list.
pub const MAX_CALLERS: usize = 256;
/// Most rules in a list.
pub const MAX_RULES: usize = 10_000;
/// Most policy keys since the one in the join code.
pub const MAX_SUCCESSION: usize = 16;
/// Longest a list may be good, in seconds.
pub const MAX_LIST_LIFE: u64 = 7 * 24 * 3600;
/// How far control's clock may be ahead when `not_after` is checked, in seconds.
pub const LIST_LEEWAY: u64 = 300;
const MAX_SUCCESSION_BYTES: usize = 4096;

/// What survives a restart, so that a list cannot go back: store it before the list is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListPosition {
    /// Of the newest list seen.
    pub epoch: u64,
    /// Of the newest list seen.
    pub version: u64,
    /// SHA-256 of its payload: one version has one content.
    pub digest: Fingerprint,
    /// Thumbprint of the policy key that signed it; an older key is not believed any more.
    pub policy_key: String,
}

/// Why a list was refused; the one in use stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListRefused {
    /// Cannot be read.
    #[error("the allow-list is not a signed list of a known shape, or larger than its limits")]
    Malformed,
    /// Neither the key of the join code nor led to from it.
    #[error("the allow-list is signed by a policy key that this connector's join code does not lead to")]
    UnknownPolicyKey,
    /// A policy key that was already replaced.
    #[error("the allow-list is signed by a policy key that has been replaced")]
    OldPolicyKey,
    /// Wrong signature.
    #[error("the allow-list's signature is broken")]
    BadSignature,
    /// Somebody else's.
    #[error("the allow-list is for another tenant or connector")]
    NotOurs,
    /// Older than what was seen.
    #[error("the allow-list goes back: have {have:?}, offered {offered:?} (epoch, version)")]
    GoesBack {
        /// (epoch, version) seen.
        have: (u64, u64),
        /// (epoch, version) offered.
        offered: (u64, u64),
    },
    /// Same number, other content.
    #[error("two different allow-lists have the same epoch and version")]
    SameVersion,
    /// Past its end.
    #[error(
        "the allow-list ended {0} s ago by this connector's clock; set that clock, or have a new list signed when it \
         is right"
    )]
    Expired(u64),
    /// Good for too long.
    #[error(
        "the allow-list ends {0} s later than one that is signed now may, by this connector's clock; that clock is \
         probably at least so much behind control's"
    )]
    TooLong(u64),
    /// A caller's record does not fit together.
    #[error("caller '{0}' of the allow-list has a wrong kind, key id, algorithm or key")]
    BadCaller(String),
    /// A rule nobody could mean.
    #[error("rule '{rule}' of the allow-list {fault}")]
    BadRule {
        /// Its name.
        rule: String,
        /// What is wrong with it.
        fault: RuleFault,
    },
}

/// A list whose signature, order and content were checked.
#[derive(Clone, Debug)]
pub struct CheckedList {
    list: AllowList,
    callers: Vec<(Caller, VerifyingKey)>,
}

impl CheckedList {
    /// Its content.
    #[must_use]
    pub const fn list(&self) -> &AllowList {
        &self.list
    }

    /// The record and key of the caller with this key; no two callers share one.
    pub(crate) fn by_kid(&self, kid: &str) -> Option<&(Caller, VerifyingKey)> {
        self.callers.iter().find(|(caller, _)| caller.kid == kid)
    }
}

/// See the module's first line.
#[derive(Clone, Debug)]
pub struct AllowListKeeper {
    tenant: TenantId,
    connector: NodeId,
    anchor: String,
    position: Option<ListPosition>,
    current: Option<Arc<CheckedList>>,
}

impl AllowListKeeper {
    /// For one connector. `anchor` is the policy key's thumbprint that came with the join code, `position` what was
    /// stored before the restart.
    #[must_use]
    pub const fn new(tenant: TenantId, connector: NodeId, anchor: String, position: Option<ListPosition>) -> Self {
        Self { tenant, connector, anchor, position, current: None }
    }

    /// Whose lists.
    #[must_use]
    pub const fn connector(&self) -> &NodeId {
        &self.connector
    }

    /// What to store; see [`ListPosition`].
    #[must_use]
    pub const fn position(&self) -> Option<&ListPosition> {
        self.position.as_ref()
    }

    /// The list in use, whether expired or not. Cloning it is cheap; it never changes.
    #[must_use]
    pub const fn current(&self) -> Option<&Arc<CheckedList>> {
        self.current.as_ref()
    }

    /// Takes a list into use. The same list again is fine.
    ///
    /// # Errors
    /// [`ListRefused`]; nothing has changed then.
    pub fn offer(&mut self, signed: &SignedAllowList, now: UnixTime) -> Result<(), ListRefused> {
        let key = self.policy_key(signed)?;
        let jws = Unverified::parse(&signed.jws, MAX_LIST_BYTES, TYP_ALLOW_LIST).map_err(|_| ListRefused::Malformed)?;
        let thumbprint = key.thumbprint();
        if jws.header.kid != thumbprint || jws.header.jwk.is_some() {
            return Err(ListRefused::BadSignature);
        }
        let list: AllowList = jws.verify(&key).map_err(|_| ListRefused::BadSignature)?;
        if list.tenant != self.tenant || list.connector != self.connector {
            return Err(ListRefused::NotOurs);
        }
        let digest = Fingerprint::of(jws.payload_text().as_bytes());
        self.check_order(&list, &digest)?;
        check_life(&list, now)?;
        let callers = check_callers(&list)?;
        check_rules(&list, now)?;
        self.position = Some(ListPosition { epoch: list.epoch, version: list.version, digest, policy_key: thumbprint });
        self.current = Some(Arc::new(CheckedList { list, callers }));
        Ok(())
    }

    /// Walks from the join code's key to the one that signed the list. A node that joined later than a change of keys
    /// knows a later key: what lies before it in the succession is nothing to it.
    fn policy_key(&self, signed: &SignedAllowList) -> Result<VerifyingKey, ListRefused> {
        if signed.succession.len() > MAX_SUCCESSION {
            return Err(ListRefused::Malformed);
        }
        let mut at = self.anchor.clone();
        let last_used = self.position.as_ref().map_or(&self.anchor, |position| &position.policy_key);
        let mut passed = at == *last_used;
        for step in signed.succession.iter().skip_while(|step| !is_from(step, &self.anchor)) {
            at = successor(step, &at)?;
            passed |= at == *last_used;
        }
        let key = VerifyingKey::from_jwk(&signed.policy_key).map_err(|_| ListRefused::UnknownPolicyKey)?;
        if !matches!(key, VerifyingKey::P256(_)) || key.thumbprint() != at {
            return Err(ListRefused::UnknownPolicyKey);
        }
        if passed { Ok(key) } else { Err(ListRefused::OldPolicyKey) }
    }

    fn check_order(&self, list: &AllowList, digest: &Fingerprint) -> Result<(), ListRefused> {
        let Some(position) = &self.position else { return Ok(()) };
        let have = (position.epoch, position.version);
        let offered = (list.epoch, list.version);
        if offered < have {
            return Err(ListRefused::GoesBack { have, offered });
        }
        if offered == have && *digest != position.digest {
            return Err(ListRefused::SameVersion);
        }
        Ok(())
    }
}

/// Whether `step` claims to be signed by the key with this thumbprint.
fn is_from(step: &str, thumbprint: &str) -> bool {
    let jws = Unverified::parse(step, MAX_SUCCESSION_BYTES, TYP_SUCCESSION).ok();
    let key = jws.and_then(|jws| VerifyingKey::from_jwk(jws.header.jwk.as_ref()?).ok());
    key.is_some_and(|key| key.thumbprint() == thumbprint)
}

/// The thumbprint of the key that `step` says follows `before`.
pub(crate) fn successor(step: &str, before: &str) -> Result<String, ListRefused> {
    let jws =
        Unverified::parse(step, MAX_SUCCESSION_BYTES, TYP_SUCCESSION).map_err(|_| ListRefused::UnknownPolicyKey)?;
    let old = jws.header.jwk.as_ref().and_then(|jwk| VerifyingKey::from_jwk(jwk).ok());
    let old = old.filter(|key| matches!(key, VerifyingKey::P256(_)) && key.thumbprint() == before);
    let old = old.ok_or(ListRefused::UnknownPolicyKey)?;
    let new: Value = jws.verify(&old).map_err(|_| ListRefused::UnknownPolicyKey)?;
    crate::jwk::thumbprint(&new).map_err(|_| ListRefused::UnknownPolicyKey)
}

fn check_life(list: &AllowList, now: UnixTime) -> Result<(), ListRefused> {
    if list.not_after < now {
        return Err(ListRefused::Expired(now.since(list.not_after)));
    }
    let left = list.not_after.since(now);
    if left > MAX_LIST_LIFE + LIST_LEEWAY {
        return Err(ListRefused::TooLong(left - MAX_LIST_LIFE));
    }
    Ok(())
}

fn check_callers(list: &AllowList) -> Result<Vec<(Caller, VerifyingKey)>, ListRefused> {
    if list.callers.len() > MAX_CALLERS || list.rules.len() > MAX_RULES {
        return Err(ListRefused::Malformed);
    }
    let mut checked: Vec<(Caller, VerifyingKey)> = Vec::with_capacity(list.callers.len());
    for caller in &list.callers {
        let bad = || ListRefused::BadCaller(caller.id.clone());
        let key = VerifyingKey::from_jwk(&caller.jwk).map_err(|_| bad())?;
        // A gateway that is called `control` must not pass for it, nor a key for two callers.
        let named = match caller.kind {
            CallerKind::Control => caller.id == CONTROL,
            CallerKind::Gateway => caller.id != CONTROL && caller.id.parse::<NodeId>().is_ok(),
        };
        let signs = matches!(key, VerifyingKey::Ed25519(_) | VerifyingKey::Rsa { .. });
        let pinned = caller.alg == key.algorithm().as_str() && caller.kid == key.thumbprint();
        let repeated = checked.iter().any(|(other, _)| other.kid == caller.kid);
        if !named || !signs || !pinned || repeated {
            return Err(bad());
        }
        checked.push((caller.clone(), key));
    }
    Ok(checked)
}

fn check_rules(list: &AllowList, now: UnixTime) -> Result<(), ListRefused> {
    let mut names = BTreeSet::new();
    for rule in &list.rules {
        let bad = |fault| ListRefused::BadRule { rule: rule.name().to_owned(), fault };
        rule.check(now, LIST_LEEWAY).map_err(bad)?;
        if !rule.name.is_empty() && !names.insert(rule.name.as_str()) {
            return Err(bad(RuleFault::Name));
        }
    }
    Ok(())
}

/// `cnf` of a certificate: SHA-256 of its DER, base64url.
#[must_use]
pub fn certificate_hash(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(Sha256::digest(der))
}
