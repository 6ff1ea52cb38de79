//! Compiles each node's document from what control knows.
//!
//! Two steps: [`content`] says what a node should know; [`revise`] makes a new version of it only when it differs
//! from what was compiled last, or when a connector's signed list has lived half its life.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_connector_wire::{
    AllowList, AllowRule, CONTROL, Caller, CallerKind, ClassPair, ConnectorDocument, GatewayEndpoint, PolicyKey,
    SignError, Target, VerifyingKey, sign_allow_list,
};
use sluice_discovery_rules::{EdgeDocument, HubService, StagingDestination};
use sluice_gateway_access::{App, GatewayDocument, Relay, Secret, Splice, Upstream};
use sluice_node_identity::{
    ConfigEnvelope, Fingerprint, NodeId, Principal, ResourceId, Role, SiteId, SpiffeId, TenantId, TrustDomain, UnixTime,
};

use crate::{
    AppPlace, AppRecord, ChangeSet, ExceptionRecord, GatewayRecord, Kind, NodeRecord, Record, ResourceRecord, Tenant,
    Typed, policy,
};

/// Id of the implicit app that is the users' feed.
pub const FEED_APP: &str = "feed";
/// Group that every account is in and nobody is put into: gateways hear of it with each login.
pub const EVERYONE: &str = "everyone";
/// Seconds a session lives: a working day.
pub const SESSION_SECONDS: u64 = 8 * 3600;
/// Seconds an allow-list is good for; signed again when half of them are over.
pub const ALLOW_LIST_SECONDS: u64 = 7 * 24 * 3600;
/// Port on which gateways are reached from outside.
pub const GATEWAY_PORT: u16 = 443;

/// What a tenant's documents are made of.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Whose.
    pub tenant: Tenant,
    /// All nodes.
    pub nodes: Vec<NodeRecord>,
    /// What gateways told about themselves.
    pub gateways: Vec<GatewayRecord>,
    /// What users open.
    pub apps: Vec<AppRecord>,
    /// What connectors dial.
    pub resources: Vec<ResourceRecord>,
    /// What they may dial for a while.
    pub exceptions: Vec<ExceptionRecord>,
}

/// Control's own names, as documents tell them.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Authority part of all names.
    pub trust_domain: TrustDomain,
    /// Host of the node API.
    pub node_host: String,
    /// Host of the console and admin API.
    pub console_host: String,
    /// Host of the users' pages.
    pub pages_host: String,
    /// `host:port` at which gateways reach control.
    pub address: String,
    /// Control's public key for stream tokens, JWK.
    pub caller: Value,
}

/// A compiled document as stored: everything but a gateway's session key, which no database holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentRecord {
    /// Whose.
    pub tenant: TenantId,
    /// For which node.
    pub node: NodeId,
    /// Fingerprint of the content it was made from.
    pub content: Fingerprint,
    /// When it was made (and its list signed).
    pub made: UnixTime,
    /// What the node is given.
    pub envelope: ConfigEnvelope,
}

impl Record for DocumentRecord {
    const KIND: Kind = Kind::Document;

    fn tenant(&self) -> &str {
        self.tenant.as_str()
    }

    fn id(&self) -> &str {
        self.node.as_str()
    }
}

/// What a node should know, before version, times and signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Content {
    /// A gateway's document; its session key is still empty.
    Gateway(GatewayDocument),
    /// An edge's document.
    Edge(EdgeDocument),
    /// A connector's document and the claims of its list that do not depend on when it is signed.
    Connector {
        /// Where its tunnels go.
        gateways: Vec<GatewayEndpoint>,
        /// Raised by a restore.
        epoch: u64,
        /// The key that signs.
        policy_key: Value,
        /// What leads to it.
        succession: Vec<String>,
        /// Who may ask.
        callers: Vec<Caller>,
        /// For what.
        rules: Vec<AllowRule>,
    },
}

impl Content {
    /// Tells contents apart.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        // Plain data always has a JSON form.
        Fingerprint::of(&serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Joined and not locked: others may rely on it.
fn lives(node: &NodeRecord) -> bool {
    node.binding.as_ref().is_some_and(|binding| binding.lock.is_none())
}

impl Fleet {
    fn living(&self, role: Role) -> impl Iterator<Item = &NodeRecord> {
        self.nodes.iter().filter(move |node| node.role == role && lives(node))
    }

    fn connectors(&self, site: &SiteId) -> Vec<NodeId> {
        self.living(Role::Connector).filter(|node| node.site == *site).map(|node| node.id.clone()).collect()
    }
}

/// What `node` should know now.
#[must_use]
pub fn content(fleet: &Fleet, node: &NodeRecord, around: &Surroundings, now: UnixTime) -> Content {
    match node.role {
        Role::Gateway => Content::Gateway(gateway(fleet, node, around, now)),
        Role::Edge => Content::Edge(edge(fleet, node)),
        Role::Connector => connector(fleet, node, &around.caller, now),
    }
}

fn gateway(fleet: &Fleet, node: &NodeRecord, around: &Surroundings, now: UnixTime) -> GatewayDocument {
    let tenant = &fleet.tenant;
    let splice = |name: &String| Splice { server_name: name.clone(), to: around.address.clone(), proxy_protocol: true };
    let control = SpiffeId { trust_domain: around.trust_domain.clone(), principal: Principal::Control };
    let feed = FEED_APP.parse().ok().map(|id| App {
        id,
        name: "Feed".to_owned(),
        host: tenant.feed_host.clone(),
        upstream: Upstream::Control { address: around.address.clone(), server_name: around.pages_host.clone() },
        groups: vec![EVERYONE.to_owned()],
        user_header: None,
    });
    GatewayDocument {
        tenant: tenant.id.clone(),
        login_host: tenant.login_host.clone(),
        session_seconds: SESSION_SECONDS,
        session_key: Secret(String::new()),
        splices: [&around.node_host, &tenant.est_host, &around.console_host].into_iter().map(splice).collect(),
        apps: feed.into_iter().chain(fleet.apps.iter().filter_map(|app| published(fleet, node, app, now))).collect(),
        relay: Relay { callers: vec![control.to_string()] },
    }
}

/// Where `gateway` may ask for the resource `id`: a resource for users, one that an exception lends it, or an
/// exception of that name.
fn for_gateway<'a>(
    fleet: &'a Fleet,
    gateway: &NodeId,
    id: &ResourceId,
    now: UnixTime,
) -> Option<(&'a SiteId, &'a Target, ClassPair)> {
    let caller = gateway.as_str();
    if let Some(resource) = fleet.resources.iter().find(|found| found.id == *id) {
        let lent = || fleet.exceptions.iter().any(|one| one.opens(id, &resource.target, caller, now));
        return (resource.for_users || lent()).then_some((&resource.site, &resource.target, resource.class));
    }
    let mut own = fleet.exceptions.iter().filter(|one| one.id == *id && one.resource == *id);
    own.find(|one| one.lets(caller) && one.holds(now)).map(|one| (&one.site, &one.target, ClassPair::default()))
}

/// An app as a gateway sees it; `None` while nothing can reach it.
fn published(fleet: &Fleet, gateway: &NodeRecord, app: &AppRecord, now: UnixTime) -> Option<App> {
    let upstream = match &app.place {
        AppPlace::Direct(upstream) => upstream.clone(),
        AppPlace::Resource { resource, host_header } => {
            let (site, target, pair) = for_gateway(fleet, &gateway.id, resource, now)?;
            let connectors = fleet.connectors(site);
            if connectors.is_empty() {
                return None;
            }
            Upstream::Resource {
                resource: resource.clone(),
                connectors,
                target: target.to_string(),
                host_header: host_header.clone(),
                pair,
            }
        }
    };
    Some(App {
        id: app.id.clone(),
        name: app.display_name.clone(),
        host: app.host.clone(),
        upstream,
        groups: app.groups.clone(),
        user_header: app.user_header.clone(),
    })
}

fn edge(fleet: &Fleet, node: &NodeRecord) -> EdgeDocument {
    let tenant = &fleet.tenant;
    let addresses: BTreeSet<_> = fleet.living(Role::Gateway).flat_map(|gateway| gateway.addresses.clone()).collect();
    let pinhole = |address| StagingDestination { address, port: GATEWAY_PORT };
    EdgeDocument {
        tenant: tenant.id.clone(),
        site: node.site.clone(),
        classes: tenant.classes.clone(),
        service: HubService {
            discovery_url: format!("https://{}", tenant.est_host),
            est_host: tenant.est_host.clone(),
            est_addresses: addresses.iter().copied().collect(),
            checkin_host: tenant.checkin_host.clone(),
        },
        staging: addresses.into_iter().map(pinhole).collect(),
        qos: tenant.qos.clone(),
    }
}

/// What a connector should know now; `control` is control's public key for stream tokens (JWK).
#[must_use]
pub fn connector(fleet: &Fleet, node: &NodeRecord, control: &Value, now: UnixTime) -> Content {
    let endpoint = |gateway: &NodeRecord| {
        let address = gateway.addresses.first().map(ToString::to_string);
        Some(GatewayEndpoint { id: gateway.id.clone(), host: gateway.host.clone().or(address)?, port: GATEWAY_PORT })
    };
    let mut callers: Vec<Caller> = caller(CONTROL, CallerKind::Control, control).into_iter().collect();
    let mut known = Vec::new();
    for gateway in fleet.living(Role::Gateway) {
        let told = fleet.gateways.iter().find(|told| told.id == gateway.id);
        let Some(found) = told.and_then(|told| caller(gateway.id.as_str(), CallerKind::Gateway, &told.keys.caller))
        else {
            continue;
        };
        // A connector refuses a list in which two callers share a key; such a gateway only loses its own place.
        if callers.iter().all(|other| other.kid != found.kid && other.id != found.id) {
            known.push(gateway.id.clone());
            callers.push(found);
        }
    }
    let here = fleet.resources.iter().filter(|resource| resource.site == node.site);
    let besides = fleet.exceptions.iter().filter(|one| one.site == node.site && one.holds(now));
    Content::Connector {
        gateways: fleet.living(Role::Gateway).filter_map(endpoint).collect(),
        epoch: fleet.tenant.policy_epoch,
        policy_key: fleet.tenant.policy_key.clone(),
        succession: fleet.tenant.policy.succession.clone(),
        callers,
        rules: here.map(|resource| resource.rule(&known)).chain(besides.map(|one| one.rule(&known))).collect(),
    }
}

fn caller(id: &str, kind: CallerKind, jwk: &Value) -> Option<Caller> {
    let key = VerifyingKey::from_jwk(jwk).ok()?;
    let fits = match kind {
        CallerKind::Control => matches!(key, VerifyingKey::Rsa { .. }),
        CallerKind::Gateway => matches!(key, VerifyingKey::Ed25519(_)),
    };
    let (kid, alg) = (key.thumbprint(), key.algorithm().as_str().to_owned());
    fits.then(|| Caller { id: id.to_owned(), kind, kid, alg, jwk: key.to_jwk() })
}

/// The next version of a node's document, or `None` when the one `before` still stands.
///
/// Versions are at least the seconds of the clock: after a restore of control they go on where no node has been.
/// `seen` is the version the node says it has; a higher one than ours means that ours was lost. Without `policy` the
/// customer holds the policy key: connectors then keep the list he signed last, and have no document before the first.
///
/// # Errors
/// [`SignError`] when a connector's list cannot be signed.
pub fn revise(
    node: &Typed<NodeRecord>,
    before: Option<&Typed<DocumentRecord>>,
    content: Content,
    seen: u64,
    policy: Option<&PolicyKey>,
    now: UnixTime,
) -> Result<Option<(ChangeSet, DocumentRecord)>, SignError> {
    let fingerprint = content.fingerprint();
    let old = before.map_or(0, |before| before.body.envelope.version);
    // A node cannot honestly have a version from the future.
    let seen = if seen <= now.0.saturating_add(24 * 3600) { seen } else { 0 };
    let policy = match (policy, &content) {
        (None, Content::Connector { .. }) => {
            let made = policy::follow(&node.body, before, &content, seen, now)?;
            return Ok(made.map(|made| (stored(node, before, &made), made)));
        }
        (policy, _) => policy,
    };
    let stands = before.is_some_and(|before| {
        let list_is_young = now.since(before.body.made) < ALLOW_LIST_SECONDS / 2;
        before.body.content == fingerprint
            && seen <= old
            && (list_is_young || !matches!(content, Content::Connector { .. }))
    });
    if stands {
        return Ok(None);
    }
    let version = old.max(seen).saturating_add(1).max(now.0);
    let record = &node.body;
    let (schema, document) = body(record, content, version, policy, now)?;
    let envelope = ConfigEnvelope { version, schema, role: record.role, document };
    let made = DocumentRecord {
        tenant: record.tenant.clone(),
        node: record.id.clone(),
        content: fingerprint,
        made: now,
        envelope,
    };
    Ok(Some((stored(node, before, &made), made)))
}

fn stored(node: &Typed<NodeRecord>, before: Option<&Typed<DocumentRecord>>, made: &DocumentRecord) -> ChangeSet {
    let config = Some((made.envelope.version, made.content.clone()));
    let after = NodeRecord { config, refused: None, ..node.body.clone() };
    let set = ChangeSet::of(&node.body.tenant).update(node, &after);
    match before {
        Some(before) => set.update(before, made),
        None => set.create(made),
    }
}

fn body(
    node: &NodeRecord,
    content: Content,
    version: u64,
    policy: Option<&PolicyKey>,
    now: UnixTime,
) -> Result<(u32, Value), SignError> {
    let json = |value: serde_json::Result<Value>| value.map_err(|_| SignError::Failed);
    Ok(match content {
        Content::Gateway(document) => (sluice_gateway_access::SCHEMA, json(serde_json::to_value(document))?),
        Content::Edge(document) => (sluice_discovery_rules::SCHEMA, json(serde_json::to_value(document))?),
        Content::Connector { gateways, epoch, succession, callers, rules, .. } => {
            let policy = policy.ok_or(SignError::Failed)?;
            let list = AllowList {
                tenant: node.tenant.clone(),
                connector: node.id.clone(),
                epoch,
                version,
                not_after: now.plus(ALLOW_LIST_SECONDS),
                callers,
                rules,
            };
            let allow_list = sign_allow_list(&list, policy, succession)?;
            let document = ConnectorDocument { gateways, allow_list };
            (sluice_connector_wire::SCHEMA, json(serde_json::to_value(document))?)
        }
    })
}

/// Puts a gateway's session key (base64url, 32 bytes) into its document, on its way out.
pub fn with_session_key(envelope: &mut ConfigEnvelope, key: String) {
    if let Some(field) = envelope.document.get_mut("session_key") {
        *field = Value::String(key);
    }
}
