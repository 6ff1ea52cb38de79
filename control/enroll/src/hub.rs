//! A hub's way in: enrol by code, re-enrol by certificate, check in at an edge.

use serde_json::{Value, json};
use sluice_control_domain::{
    AuditEntry, ChangeSet, EnrollCode, HubRecord, HubState, StateAudience, StateChange, Typed,
};
use sluice_control_pki::{Csr, HUB_SECONDS, Leaf, Usage};
use sluice_node_identity::{
    CodeUse, Fingerprint, JoinSecret, Principal, SpiffeId, UnixTime,
    api::{CheckIn, HubStanding},
};

use crate::{Decision, Issuing, Refused};

/// Keys a hub may hold at once: the newest, and the one before until the newest has surely arrived.
const KEYS: usize = 2;

/// What a hub sends: only the key of its request counts. The names in it are ours to decide, so an enrolment and every
/// re-enrolment give the same subject and SAN (RFC 7030 §4.2.2), whatever the request says.
#[derive(Clone, Copy, Debug)]
pub struct HubRequest<'a> {
    /// The request for a certificate.
    pub csr: &'a Csr,
}

fn certify(hub: &HubRecord, csr: &Csr, issuing: &Issuing<'_>) -> Result<String, Refused> {
    let principal = Principal::Hub { tenant: hub.tenant.clone(), id: hub.id.clone() };
    issuing.issue(&Leaf {
        key: csr.spki(),
        name: Some(SpiffeId { trust_domain: issuing.trust_domain.clone(), principal }),
        hosts: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        seconds: HUB_SECONDS,
    })
}

fn audit(hub: &HubRecord, now: UnixTime, act: &str, detail: Value) -> AuditEntry {
    let name = format!("hub/{}", hub.id);
    AuditEntry { at: now, actor: name.clone(), act: act.to_owned(), subject: name, detail }
}

fn standing(hub: &HubRecord) -> StateChange {
    let standing = HubStanding { enrolled: hub.state == HubState::Enrolled, keys: hub.keys.clone() };
    StateChange {
        audience: StateAudience::Site(hub.site.clone()),
        key: format!("hub/{}", hub.id),
        // Plain data always has a JSON form; were it otherwise, `null` would admit nobody.
        value: Some(serde_json::to_value(standing).unwrap_or(Value::Null)),
    }
}

/// Judges an enrolment by code. The serial number is no part of it: an assignment is not a right.
pub fn enroll_hub(
    hub: &Typed<HubRecord>,
    code: &Typed<EnrollCode>,
    secret: &JoinSecret,
    request: &HubRequest<'_>,
    issuing: &Issuing<'_>,
) -> Decision<String> {
    let (record, now, key) = (&hub.body, issuing.now, request.csr.key());
    if record.state == HubState::Revoked || record.tenant != code.body.tenant || record.id != code.body.hub {
        return Decision::just(Err(Refused::Code));
    }
    match code.body.code.attempt(&secret.digest(), &key, now) {
        CodeUse::Refused => Decision::just(Err(Refused::Code)),
        CodeUse::Repeat => Decision::just(code.body.issued.clone().ok_or(Refused::Code)),
        CodeUse::SecondKey(_) if code.body.code.alarmed => Decision::just(Err(Refused::Code)),
        CodeUse::SecondKey(alarmed) => {
            let after = EnrollCode { code: alarmed, ..code.body.clone() };
            let entry = audit(record, now, "hub.enroll.second_key", json!({ "key": key, "alarm": true }));
            Decision::with(ChangeSet::of(&record.tenant).update(code, &after).audit(entry), Err(Refused::Code))
        }
        CodeUse::Bind(bound) => match certify(record, request.csr, issuing) {
            Err(refused) => Decision::just(Err(refused)),
            Ok(certificate) => {
                let spent = EnrollCode { code: bound, issued: Some(certificate.clone()), ..code.body.clone() };
                // A new code is a new beginning: keys of an earlier enrolment are worth nothing any more.
                let after = HubRecord {
                    state: HubState::Enrolled,
                    keys: vec![key.clone()],
                    certificate: Some(certificate.clone()),
                    ..record.clone()
                };
                let entry = audit(record, now, "hub.enroll", json!({ "key": key, "site": record.site }));
                let set = ChangeSet::of(&record.tenant)
                    .update(hub, &after)
                    .update(code, &spent)
                    .state(standing(&after))
                    .audit(entry);
                Decision::with(set, Ok(certificate))
            }
        },
    }
}

/// Judges a re-enrolment over a connection that presented a hub certificate with `presented`.
pub fn reenroll_hub(
    hub: &Typed<HubRecord>,
    presented: &Fingerprint,
    request: &HubRequest<'_>,
    issuing: &Issuing<'_>,
) -> Decision<String> {
    let record = &hub.body;
    if record.state != HubState::Enrolled || !record.keys.contains(presented) {
        return Decision::just(Err(Refused::Key));
    }
    match certify(record, request.csr, issuing) {
        Err(refused) => Decision::just(Err(refused)),
        Ok(certificate) => {
            let mut keys = vec![request.csr.key()];
            // The key it came with stays good beside the new one; one that was good before that does not.
            keys.extend((keys.first() != Some(presented)).then(|| presented.clone()));
            keys.truncate(KEYS);
            let after = HubRecord { keys, certificate: Some(certificate.clone()), ..record.clone() };
            let entry = audit(record, issuing.now, "hub.reenroll", json!({ "key": request.csr.key() }));
            let mut set = ChangeSet::of(&record.tenant).update(hub, &after).audit(entry);
            if after.keys != record.keys {
                set = set.state(standing(&after));
            }
            Decision::with(set, Ok(certificate))
        }
    }
}

/// What an edge saw, for the console; `None` when it changes nothing (older, or the hub is not enrolled).
#[must_use]
pub fn checked_in(hub: &Typed<HubRecord>, seen: &CheckIn, now: UnixTime) -> Option<ChangeSet> {
    let record = &hub.body;
    let newer = record.seen.as_ref().is_none_or(|(at, ..)| *at < seen.at);
    // An edge whose clock runs ahead must not block what comes later.
    if record.state != HubState::Enrolled || !newer || seen.at > now.plus(300) || seen.mac.len() > 17 {
        return None;
    }
    let after = HubRecord { seen: Some((seen.at, seen.address, seen.mac.clone())), ..record.clone() };
    Some(ChangeSet::of(&record.tenant).update(hub, &after))
}
