//! What nodes tell control: keys, tunnels, check-ins, refused documents; and the edge's hub-facing certificate.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use sluice_connector_wire::VerifyingKey;
use sluice_control_domain::{
    AuditEntry, ChangeSet, Commit, GatewayRecord, HubRecord, Kind, Load, NodeRecord, PLATFORM, RecordKey, Stored,
    Tenant,
};
use sluice_control_enroll::checked_in;
use sluice_control_pki::{Csr, Leaf, NODE_SECONDS, Usage};
use sluice_node_identity::{
    Role,
    api::{Chain, CheckIns, GatewayKeys, HubFacingRequest, LiveTunnels, Refusal as RefusalReport},
    is_plain,
};

use super::{NodeApi, TRIES, body::Body, busy, peer::Node, refusal::Refusal};
use crate::{keys, tunnels::TUNNELS_PER_GATEWAY};

/// Most check-ins of one call.
const MAX_CHECK_INS: usize = 256;
/// Longest reason kept for a refused document, characters.
const MAX_REASON: usize = 500;
/// Most gateways of a tenant that are compared for keys.
const MAX_GATEWAYS: u32 = 1_000;
/// A tunnel's session is 128 bits in base64url.
const SID: usize = 22;

fn audit(api: &NodeApi, node: &Node, act: &str, detail: serde_json::Value) -> AuditEntry {
    let name = format!("node/{}", node.id);
    AuditEntry { at: api.now(), actor: name.clone(), act: act.to_owned(), subject: name, detail }
}

pub(super) async fn keys(
    State(api): State<NodeApi>,
    node: Node,
    Body(keys): Body<GatewayKeys>,
) -> Result<StatusCode, Refusal> {
    node.must_be(Role::Gateway)?;
    let read = |jwk| VerifyingKey::from_jwk(jwk).map_err(|error| Refusal::invalid(error.to_string()));
    let (caller, assertion) = (read(&keys.caller)?, read(&keys.assertion)?);
    if !matches!((&caller, &assertion), (VerifyingKey::Ed25519(_), VerifyingKey::P256(_))) {
        return Err(Refusal::invalid("caller must be an Ed25519 key and assertion a P-256 key"));
    }
    // Stored as read: members that we do not know would only be dead weight.
    let keys = GatewayKeys { caller: caller.to_jwk(), assertion: assertion.to_jwk() };
    for _ in 0..TRIES {
        if foreign(&api, &node, &keys).await? {
            return Err(Refusal::invalid("this key is in use elsewhere; make a key of your own"));
        }
        let before = api.one::<GatewayRecord>(node.tenant.as_str(), node.id.as_str()).await?;
        let after = GatewayRecord { tenant: node.tenant.clone(), id: node.id.clone(), keys: keys.clone() };
        let set = match &before {
            Some(before) if before.body == after => return Ok(StatusCode::NO_CONTENT),
            Some(before) => ChangeSet::of(&node.tenant).update(before, &after),
            None => ChangeSet::of(&node.tenant).create(&after),
        };
        let set = set.audit(audit(&api, &node, "node.keys", json!({ "caller": caller.thumbprint() })));
        if api.commit(Some(set)).await? == Commit::Done {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(busy())
}

/// Whether another gateway of the tenant has registered one of these keys.
async fn foreign(api: &NodeApi, node: &Node, keys: &GatewayKeys) -> Result<bool, Refusal> {
    let tenant = node.tenant.to_string();
    let scan = Load::Scan { kind: Kind::Gateway, tenant, after: None, limit: MAX_GATEWAYS };
    for stored in api.store().load(scan).await? {
        let other = Stored::typed::<GatewayRecord>(stored)?.body;
        let same = other.keys.caller == keys.caller || other.keys.assertion == keys.assertion;
        if other.id != node.id && same {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) async fn tunnels(
    State(api): State<NodeApi>,
    node: Node,
    Body(LiveTunnels { tunnels }): Body<LiveTunnels>,
) -> Result<StatusCode, Refusal> {
    node.must_be(Role::Gateway)?;
    let odd =
        |sid: &str| sid.len() != SID || !sid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if tunnels.len() > TUNNELS_PER_GATEWAY || tunnels.iter().any(|tunnel| odd(&tunnel.sid)) {
        return Err(Refusal::invalid(format!("at most {TUNNELS_PER_GATEWAY} tunnels, each with a 128-bit sid")));
    }
    api.parts.tunnels.report(&node.tenant, &node.id, tunnels, api.now());
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn check_ins(
    State(api): State<NodeApi>,
    node: Node,
    Body(CheckIns { seen }): Body<CheckIns>,
) -> Result<StatusCode, Refusal> {
    node.must_be(Role::Edge)?;
    if seen.len() > MAX_CHECK_INS {
        return Err(Refusal::invalid(format!("at most {MAX_CHECK_INS} check-ins a call")));
    }
    let mut newest = std::collections::BTreeMap::new();
    for one in seen {
        newest.insert(one.hub.to_string(), one);
    }
    let key = |id: &String| RecordKey { kind: Kind::Hub, tenant: node.tenant.to_string(), id: id.clone() };
    for _ in 0..TRIES {
        let mut all = ChangeSet::of(&node.tenant);
        for stored in api.store().load(Load::Keys(newest.keys().map(key).collect())).await? {
            let hub = Stored::typed::<HubRecord>(stored)?;
            // An edge speaks for the hubs of its own site only.
            let ours = newest.get(hub.body.id.as_str()).filter(|_| hub.body.site == node.site);
            if let Some(set) = ours.and_then(|seen| checked_in(&hub, seen, api.now())) {
                all.expected.extend(set.expected);
                all.writes.extend(set.writes);
            }
        }
        if all.writes.is_empty() || api.commit(Some(all)).await? == Commit::Done {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(busy())
}

pub(super) async fn refusals(
    State(api): State<NodeApi>,
    node: Node,
    Body(report): Body<RefusalReport>,
) -> Result<StatusCode, Refusal> {
    let reason: String = report.reason.chars().filter(|c| is_plain(*c)).take(MAX_REASON).collect();
    let refused = (!reason.is_empty()).then_some((report.version, reason));
    if refused.is_some() {
        tracing::warn!(tenant = %node.tenant, node = %node.id, version = report.version, "a node refused its document");
    }
    for _ in 0..TRIES {
        let record = node.record(&api).await?;
        // What is taken back is that refusal, not a later one.
        let stands = |(version, _): &(u64, String)| refused.is_none() && *version != report.version;
        if record.body.refused == refused || record.body.refused.as_ref().is_some_and(stands) {
            return Ok(StatusCode::NO_CONTENT);
        }
        let after = NodeRecord { refused: refused.clone(), ..record.body.clone() };
        if api.commit(Some(ChangeSet::of(&node.tenant).update(&record, &after))).await? == Commit::Done {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
    Err(busy())
}

pub(super) async fn hub_facing(
    State(api): State<NodeApi>,
    node: Node,
    Body(request): Body<HubFacingRequest>,
) -> Result<Json<Chain>, Refusal> {
    node.must_be(Role::Edge)?;
    let csr = Csr::from_pem(&request.csr).map_err(|error| Refusal::invalid(error.to_string()))?;
    let tenant = api.one::<Tenant>(PLATFORM, node.tenant.as_str()).await?;
    let tenant = tenant.ok_or_else(|| Refusal::failed("a node's tenant is gone"))?.body;
    let root = api.parts.keys.hub_root(&tenant)?;
    let leaf = Leaf {
        key: csr.spki(),
        name: None,
        hosts: vec![tenant.checkin_host.clone()],
        addresses: Vec::new(),
        usage: Usage::Server,
        seconds: NODE_SECONDS,
    };
    let issued = root.issue(&leaf, api.now(), &keys::serial()?).map_err(Refusal::failed)?;
    let entry = audit(&api, &node, "node.hub_facing", json!({ "host": tenant.checkin_host, "key": csr.key() }));
    api.commit(Some(ChangeSet::of(&node.tenant).audit(entry))).await?;
    Ok(Json(Chain { chain: format!("{}{}", issued.pem, root.pem()) }))
}
