//! A node's way in: join by code, renew with a new key, re-join after sleeping too long.

use serde_json::{Value, json};
use sluice_control_domain::{AuditEntry, ChangeSet, NodeRecord, StateAudience, StateChange, Typed};
use sluice_control_pki::{CertFacts, Csr, KeyKind, Leaf, NODE_SECONDS, PkiError, Usage, pem_chain};
use sluice_node_identity::{
    Binding, BoundKey, CodeUse, Fingerprint, JoinSecret, Principal, RejoinRefused, Renewal, Role, SpiffeId, UnixTime,
};

use crate::{Decision, Issuing, Refused};

/// A request whose proof over the server's nonce has been checked.
#[derive(Clone, Copy, Debug)]
pub struct NodeRequest<'a> {
    /// The request for a certificate.
    pub csr: &'a Csr,
    /// What the node says it is.
    pub role: Role,
}

fn leaf<'a>(node: &NodeRecord, csr: &'a Csr, issuing: &Issuing<'_>) -> Leaf<'a> {
    let principal = Principal::Node { tenant: node.tenant.clone(), role: node.role, id: node.id.clone() };
    Leaf {
        key: csr.spki(),
        name: Some(SpiffeId { trust_domain: issuing.trust_domain.clone(), principal }),
        // No DNS names: control's own names are under the same root, and a node must never answer to one of them.
        hosts: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Both,
        seconds: NODE_SECONDS,
    }
}

fn kind_fits(role: Role, kind: KeyKind) -> bool {
    matches!((role, kind), (Role::Connector, KeyKind::Rsa) | (Role::Gateway | Role::Edge, KeyKind::P256))
}

pub(crate) fn audit(node: &NodeRecord, now: UnixTime, act: &str, detail: Value) -> AuditEntry {
    let name = format!("node/{}", node.id);
    AuditEntry { at: now, actor: name.clone(), act: act.to_owned(), subject: name, detail }
}

pub(crate) fn known<'a>(binding: &'a Binding, key: &Fingerprint) -> Option<&'a BoundKey> {
    [&binding.current].into_iter().chain(&binding.pending).chain(&binding.retired).find(|bound| bound.key == *key)
}

/// Judges a join. `node` is the record that the secret's digest leads to.
pub fn join(
    node: &Typed<NodeRecord>,
    secret: &JoinSecret,
    request: &NodeRequest<'_>,
    issuing: &Issuing<'_>,
) -> Decision<String> {
    let (record, csr, now) = (&node.body, request.csr, issuing.now);
    if record.role != request.role {
        return Decision::just(Err(Refused::Code));
    }
    let key = csr.key();
    match record.code.attempt(&secret.digest(), &key, now) {
        CodeUse::Refused => Decision::just(Err(Refused::Code)),
        CodeUse::Repeat => Decision::just(again(record, &key)),
        // Told and alarmed once; further tries write nothing, so that nobody can fill the audit chain with them.
        CodeUse::SecondKey(_) if record.code.alarmed => Decision::just(Err(Refused::Code)),
        CodeUse::SecondKey(alarmed) => {
            let after = NodeRecord { code: alarmed, ..record.clone() };
            let entry = audit(record, now, "node.join.second_key", json!({ "key": key, "alarm": true }));
            let set = ChangeSet::of(&record.tenant).update(node, &after).audit(entry);
            Decision::with(set, Err(Refused::Code))
        }
        CodeUse::Bind(_) if !kind_fits(record.role, csr.kind()) => Decision::just(Err(Refused::Kind)),
        CodeUse::Bind(bound) => match issuing.issue(&leaf(record, csr, issuing)) {
            Err(refused) => Decision::just(Err(refused)),
            Ok(certificate) => {
                let first = BoundKey {
                    key: key.clone(),
                    csr: csr.fingerprint(),
                    generation: 1,
                    certificate: certificate.clone(),
                };
                let after = NodeRecord { code: bound, binding: Some(Binding::joined(first)), ..record.clone() };
                let entry = audit(record, now, "node.join", json!({ "role": record.role, "key": key }));
                let mut set = ChangeSet::of(&record.tenant).update(node, &after).audit(entry);
                if record.binding.is_some() {
                    // It may have been revoked or locked before: the others must not go on refusing it.
                    set = set.state(standing(record, None));
                }
                Decision::with(set, Ok(certificate))
            }
        },
    }
}

pub(crate) fn standing(node: &NodeRecord, value: Option<Value>) -> StateChange {
    StateChange { audience: StateAudience::Tenant, key: format!("node/{}", node.id), value }
}

fn again(record: &NodeRecord, key: &Fingerprint) -> Result<String, Refused> {
    let binding = record.binding.as_ref().filter(|binding| binding.lock.is_none()).ok_or(Refused::Code)?;
    known(binding, key).map(|bound| bound.certificate.clone()).ok_or(Refused::Code)
}

/// Judges a renewal asked for over a connection that presented `presented` (and was accepted with it).
pub fn renew(node: &Typed<NodeRecord>, presented: &Fingerprint, csr: &Csr, issuing: &Issuing<'_>) -> Decision<String> {
    let record = &node.body;
    let Some(binding) = &record.binding else { return Decision::just(Err(Refused::Key)) };
    if !kind_fits(record.role, csr.kind()) {
        return Decision::just(Err(Refused::Kind));
    }
    match binding.renew(presented, &csr.fingerprint()) {
        Err(_) => Decision::just(Err(Refused::Key)),
        Ok(Renewal::Again(bound)) => Decision::just(Ok(bound.certificate)),
        Ok(Renewal::Issue { .. }) if reused(binding, &csr.key()) => Decision::just(Err(Refused::OldKey)),
        Ok(Renewal::Issue { generation }) => match issuing.issue(&leaf(record, csr, issuing)) {
            Err(refused) => Decision::just(Err(refused)),
            Ok(certificate) => {
                let (key, csr) = (csr.key(), csr.fingerprint());
                let next = BoundKey { key, csr, generation, certificate: certificate.clone() };
                let after = NodeRecord { binding: Some(binding.renewed(next)), ..record.clone() };
                let entry = audit(record, issuing.now, "node.renew", json!({ "generation": generation }));
                Decision::with(ChangeSet::of(&record.tenant).update(node, &after).audit(entry), Ok(certificate))
            }
        },
    }
}

/// A pending key may come again with another request (its first answer was lost); a used one may not.
fn reused(binding: &Binding, key: &Fingerprint) -> bool {
    binding.current.key == *key || binding.retired.iter().any(|retired| retired.key == *key)
}

/// A certificate that lives no longer than this may be replaced by a re-join, seconds: clocks differ, and who has
/// missed every renewal until now has slept.
const NEARLY_OVER: u64 = 24 * 3600;

/// The certificate of the newest key, when it is `key` and its certificate is still good for a while.
fn still_good(binding: &Binding, key: &Fingerprint, now: UnixTime) -> Result<Option<String>, PkiError> {
    let newest = binding.pending.iter().chain([&binding.current]).find(|bound| bound.key == *key);
    let Some(bound) = newest.filter(|_| binding.lock.is_none()) else { return Ok(None) };
    let chain = pem_chain(&bound.certificate)?;
    let leaf = chain.first().map(|leaf| CertFacts::of(leaf)).transpose()?;
    Ok(leaf.filter(|leaf| now.plus(NEARLY_OVER) < leaf.not_after).map(|_| bound.certificate.clone()))
}

/// Judges a re-join: when the certificate of the newest key is over, its holder gets a fresh one, a bounded number of
/// times. One that is still good is given again: the answer to a re-join may have been lost, and nobody is given
/// more time than he has.
pub fn rejoin(node: &Typed<NodeRecord>, csr: &Csr, issuing: &Issuing<'_>) -> Decision<String> {
    let record = &node.body;
    let Some(binding) = &record.binding else { return Decision::just(Err(Refused::Key)) };
    let key = csr.key();
    match still_good(binding, &key, issuing.now) {
        Ok(None) => {}
        Ok(Some(certificate)) => return Decision::just(Ok(certificate)),
        Err(error) => return Decision::just(Err(error.into())),
    }
    match binding.rejoin(&key) {
        Err(RejoinRefused::Locked | RejoinRefused::NotNewest | RejoinRefused::Spent) => {
            Decision::just(Err(Refused::Key))
        }
        Ok(mut binding) => match issuing.issue(&leaf(record, csr, issuing)) {
            Err(refused) => Decision::just(Err(refused)),
            Ok(certificate) => {
                binding.current.certificate.clone_from(&certificate);
                let detail = json!({ "left": binding.rejoins_left });
                let after = NodeRecord { binding: Some(binding), ..record.clone() };
                let entry = audit(record, issuing.now, "node.rejoin", detail);
                Decision::with(ChangeSet::of(&record.tenant).update(node, &after).audit(entry), Ok(certificate))
            }
        },
    }
}
