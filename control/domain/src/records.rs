//! Every record's body.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sluice_connector_wire::{AllowRule, ClassPair, Ports, Target, WeeklyWindow};
use sluice_discovery_rules::HubClass;
use sluice_gateway_access::Upstream;
use sluice_node_identity::{
    AppId, Binding, CodeBinding, Fingerprint, HubId, IntegrationId, NodeId, ResourceId, Role, SiteId, TenantId,
    UnixTime, UserId,
};
use sluice_qos_plan::QosPolicy;

use crate::{Kind, PLATFORM, Record, policy::PolicyHolding};

macro_rules! record {
    ($type:ty, $kind:ident, |$r:ident| $tenant:expr, $id:expr $(, [$($name:literal => $value:expr),* $(,)?])?) => {
        impl Record for $type {
            const KIND: Kind = Kind::$kind;
            fn tenant(&self) -> &str { let $r = self; let _ = $r; $tenant }
            fn id(&self) -> &str { let $r = self; $id }
            $(fn index(&self) -> Vec<(&'static str, String)> { let $r = self; vec![$(($name, $value.to_string())),*] })?
        }
    };
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Name.
    pub id: TenantId,
    /// For people.
    pub display_name: String,
    /// Host on which its users log in (at its gateways).
    pub login_host: String,
    /// Host of its EST endpoint; tells the tenant apart. Spliced by gateways and edges.
    pub est_host: String,
    /// Host of its edges' check-in doors, answered by the edges' own DNS.
    pub checkin_host: String,
    /// Host on which its users find their feed (an app on its gateways).
    pub feed_host: String,
    /// Hub root certificate, PEM. Its private key is in the keystore.
    pub hub_root: String,
    /// Public JWK of the policy key. Its private half is in the keystore, or with the customer.
    pub policy_key: Value,
    /// Who holds the private half, and what keys there were before.
    #[serde(default)]
    pub policy: PolicyHolding,
    /// Raised by a restore; orders allow-lists.
    pub policy_epoch: u64,
    /// How hubs are recognised.
    pub classes: Vec<HubClass>,
    /// Which traffic edges favour.
    pub qos: QosPolicy,
    /// When it was made.
    pub created: UnixTime,
}
record!(Tenant, Tenant, |r| PLATFORM, r.id.as_str(), ["est_host" => r.est_host, "feed_host" => r.feed_host]);

/// A place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: SiteId,
    /// For people.
    pub display_name: String,
    /// IANA name, e.g. `Europe/Berlin`.
    pub time_zone: String,
}
record!(Site, Site, |r| r.tenant.as_str(), r.id.as_str());

/// A gateway, edge or connector, from the moment its join code is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: NodeId,
    /// What it does.
    pub role: Role,
    /// Where.
    pub site: SiteId,
    /// Its one-time right to join.
    pub code: CodeBinding,
    /// Present once it has joined.
    pub binding: Option<Binding>,
    /// Version and hash of the document compiled last.
    pub config: Option<(u64, Fingerprint)>,
    /// Version the node refused, and why.
    pub refused: Option<(u64, String)>,
    /// Gateways: where agents, hubs and users reach it from outside.
    pub addresses: Vec<IpAddr>,
    /// Gateways: host name for its tunnels; also an app host's fallback.
    pub host: Option<String>,
    /// When it was made.
    pub created: UnixTime,
}
record!(NodeRecord, Node, |r| r.tenant.as_str(), r.id.as_str(), ["code" => r.code.digest]);

/// What a gateway told about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Which node.
    pub id: NodeId,
    /// Its public keys.
    pub keys: sluice_node_identity::api::GatewayKeys,
}
record!(GatewayRecord, Gateway, |r| r.tenant.as_str(), r.id.as_str());

/// Where a hub is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HubState {
    /// Assigned, not yet seen.
    Expected,
    /// Holds a certificate.
    Enrolled,
    /// Its certificate is worthless.
    Revoked,
}

/// A device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: HubId,
    /// Where it belongs.
    pub site: SiteId,
    /// Maker's serial number: an assignment, never a right.
    pub serial: Option<String>,
    /// Where it is in its life.
    pub state: HubState,
    /// Fingerprints of its certificates' public keys, newest first, at most 2.
    pub keys: Vec<Fingerprint>,
    /// Newest certificate, PEM.
    pub certificate: Option<String>,
    /// Last check-in: when, from where, MAC.
    pub seen: Option<(UnixTime, IpAddr, String)>,
    /// When it was made.
    pub created: UnixTime,
}
record!(HubRecord, Hub, |r| r.tenant.as_str(), r.id.as_str(), ["site" => r.site, "state" => match r.state {
    HubState::Expected => "expected", HubState::Enrolled => "enrolled", HubState::Revoked => "revoked" }]);

/// A hub's one-time right to enrol (its name is the EST user name, the secret the password).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrollCode {
    /// Whose.
    pub tenant: TenantId,
    /// Which hub.
    pub hub: HubId,
    /// The right.
    pub code: CodeBinding,
    /// The chain issued for the first key, PEM, to be given again to the same key.
    pub issued: Option<String>,
}
record!(EnrollCode, EnrollCode, |r| r.tenant.as_str(), r.hub.as_str());

/// What a user may do in the admin API and console.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserRole {
    /// Uses apps and the feed.
    User,
    /// All integration configuration and cache content, no stored credential.
    FullAdministrator,
}

/// An account of the local directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Login name.
    pub id: UserId,
    /// Mail address, lower case; what viewer rules compare.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// argon2id, PHC string.
    pub password_hash: String,
    /// Groups, sorted.
    pub groups: Vec<String>,
    /// Role.
    pub role: UserRole,
    /// Nothing is granted to a disabled account.
    pub disabled: bool,
    /// When it was made.
    pub created: UnixTime,
}
record!(UserRecord, User, |r| r.tenant.as_str(), r.id.as_str(), ["email" => r.email]);

/// What a user opens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: AppId,
    /// For people.
    pub display_name: String,
    /// Its host name.
    pub host: String,
    /// Where it is.
    pub place: AppPlace,
    /// Groups that may open it.
    pub groups: Vec<String>,
    /// See [`sluice_gateway_access::App::user_header`].
    pub user_header: Option<String>,
}
record!(AppRecord, App, |r| r.tenant.as_str(), r.id.as_str(), ["host" => r.host]);

/// Where an app is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppPlace {
    /// The gateway dials it.
    Direct(Upstream),
    /// Behind connectors.
    Resource {
        /// Which.
        resource: ResourceId,
        /// `Host` header it expects.
        host_header: Option<String>,
    },
}

/// Protocol + host + port at a site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRecord {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: ResourceId,
    /// Where its connectors stand.
    pub site: SiteId,
    /// What is dialled.
    pub target: Target,
    /// Own networks the target may lie in ([`AllowRule::networks`]).
    pub networks: Vec<ipnetwork::IpNetwork>,
    /// Users reach it through a gateway (direct streams).
    pub for_users: bool,
    /// Control reaches it (sealed streams).
    pub for_control: bool,
    /// Traffic of what users do there.
    #[serde(default)]
    pub class: ClassPair,
    /// Hosts that connectors may dial for it ([`AllowRule::host`]); the target's alone without it.
    #[serde(default)]
    pub hosts: Option<String>,
    /// Ports that connectors may dial for it; the target's alone without it.
    #[serde(default)]
    pub ports: Option<Ports>,
    /// Hours (UTC) at which it may be reached; always when there are none.
    #[serde(default)]
    pub times: Vec<WeeklyWindow>,
}
record!(ResourceRecord, Resource, |r| r.tenant.as_str(), r.id.as_str(), ["site" => r.site]);

impl ResourceRecord {
    /// The allow-list rule for this resource.
    #[must_use]
    pub fn rule(&self, gateways: &[NodeId]) -> AllowRule {
        let users = gateways.iter().filter(|_| self.for_users).map(ToString::to_string);
        let control = self.for_control.then(|| "control".to_owned());
        let rule = AllowRule::new(self.id.clone(), &self.target, users.chain(control).collect(), self.networks.clone());
        AllowRule {
            host: self.hosts.clone().unwrap_or(rule.host),
            ports: self.ports.unwrap_or(rule.ports),
            times: self.times.clone(),
            ..rule
        }
    }
}

/// How to talk to one system of record; the declarative text is `control/sync`'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integration {
    /// Whose.
    pub tenant: TenantId,
    /// Name.
    pub id: IntegrationId,
    /// The declaration, TOML, validated on the way in.
    pub declaration: String,
    /// How the last full sync ended: when, rows, error.
    pub last_sync: Option<(UnixTime, u64, Option<String>)>,
}
record!(Integration, Integration, |r| r.tenant.as_str(), r.id.as_str());

/// Where a card is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CardState {
    /// In the feed.
    Open,
    /// Acted on, or the condition ended.
    Closed,
}

/// A notification in a user's feed. The body is sealed with the tenant's key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CardRecord {
    /// Whose.
    pub tenant: TenantId,
    /// H(tenant, rule, row, transition, user).
    pub id: String,
    /// Whose feed.
    pub user: UserId,
    /// From where.
    pub integration: IntegrationId,
    /// Event rule.
    pub rule: String,
    /// Table and primary key of the row, sealed with the body.
    pub sealed: String,
    /// HMAC of (integration, table, primary key) under the tenant's key: finds a row's cards.
    pub row: String,
    /// Where it is in its life.
    pub state: CardState,
    /// Higher first.
    pub score: i64,
    /// When it was made.
    pub created: UnixTime,
    /// When and why it was closed.
    pub closed: Option<(UnixTime, String)>,
}
record!(CardRecord, Card, |r| r.tenant.as_str(), &r.id, ["user" => r.user, "row" => r.row, "open" => match r.state {
    CardState::Open => r.user.as_str(), CardState::Closed => "" }]);

/// A scoped, expiring token of the admin API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// Public part.
    pub id: String,
    /// Digest of the secret part.
    pub digest: Fingerprint,
    /// `None`: the platform owner's; otherwise good in this tenant only.
    pub tenant: Option<TenantId>,
    /// For people.
    pub label: String,
    /// After this it is worthless.
    pub expires: UnixTime,
    /// May also read the tenant's cache (never a stored credential).
    pub full_administrator: bool,
}
record!(ApiToken, ApiToken, |r| PLATFORM, &r.id, ["tenant" => r.tenant.as_ref().map_or(PLATFORM, TenantId::as_str)]);

/// The one link by which the first owner gets in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnerLink {
    /// Digest of its secret.
    pub digest: Fingerprint,
    /// 10 minutes after it was made.
    pub valid_until: UnixTime,
    /// An owner exists from this moment on.
    pub used: Option<UnixTime>,
}
record!(OwnerLink, OwnerLink, |_r| PLATFORM, "owner");
