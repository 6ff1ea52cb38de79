//! Bodies of the admin API. `sluice admin` reads and writes the same types.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};
use sluice_control_domain::{
    AppPlace, HubRecord, HubState, NodeRecord, ResourceRecord, Site, Tenant, UserRecord, UserRole,
};
use sluice_discovery_rules::HubClass;
use sluice_node_identity::{
    AppId, HubId, IntegrationId, Lock, NodeId, ResourceId, Role, SiteId, TenantId, UnixTime, UserId,
};
use sluice_qos_plan::QosPolicy;
use utoipa::{IntoParams, ToSchema};

use super::{ApiError, MintedToken, Rights};

/// A secret in a body: never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a secret.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// Which page of a list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most 1,000; 100 unless told otherwise.
    pub limit: Option<u32>,
}

impl Paging {
    pub(crate) fn limit(&self) -> u32 {
        self.limit.unwrap_or(100).clamp(1, 1000)
    }
}

/// One page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// In order of their ids.
    pub items: Vec<T>,
    /// Ask for this `after` to get the next page; absent on the last one.
    pub next: Option<String>,
}

pub(crate) fn created<T>(body: T) -> (axum::http::StatusCode, axum::Json<T>) {
    (axum::http::StatusCode::CREATED, axum::Json(body))
}

/// `POST /api/v1/owner`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimOwner {
    /// The secret of the owner link.
    pub secret: SecretText,
    /// What to call the owner's first token.
    pub label: Option<String>,
}

/// A token, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Its public part, by which it can be revoked.
    pub id: String,
    /// What to send as `Authorization: Bearer`.
    pub token: SecretText,
    /// After this it is worthless.
    #[schema(value_type = u64)]
    pub expires: UnixTime,
}

impl NewToken {
    pub(crate) fn of(minted: MintedToken) -> Self {
        Self { id: minted.record.id, token: SecretText(minted.text), expires: minted.record.expires }
    }
}

/// `POST …/tokens`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddToken {
    /// For people.
    pub label: String,
    /// `administrator` unless told otherwise.
    pub rights: Option<Rights>,
    /// Days it is good for, 1 to 90; 30 unless told otherwise.
    pub days: Option<u32>,
}

/// A token as it is listed: never its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Public part.
    pub id: String,
    /// For people.
    pub label: String,
    /// How much it may do.
    pub rights: Rights,
    /// After this it is worthless.
    #[schema(value_type = u64)]
    pub expires: UnixTime,
}

/// `POST /api/v1/tenants`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddTenant {
    /// Name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// For people.
    pub display_name: String,
    /// Where its users log in. Its parent domain is the tenant's: all its other hosts lie below it.
    pub login_host: String,
    /// Its EST endpoint.
    pub est_host: String,
    /// Its edges' check-in doors.
    pub checkin_host: String,
    /// Where its users find their feed.
    pub feed_host: String,
}

/// A tenant.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TenantView {
    /// Name.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// For people.
    pub display_name: String,
    /// Where its users log in.
    pub login_host: String,
    /// Its EST endpoint.
    pub est_host: String,
    /// Its edges' check-in doors.
    pub checkin_host: String,
    /// Where its users find their feed.
    pub feed_host: String,
    /// Hub root certificate, PEM: what hubs trust.
    pub hub_root: String,
    /// Raised by every restore.
    pub policy_epoch: u64,
    /// How hubs are recognised.
    #[schema(value_type = Vec<Object>)]
    pub classes: Vec<HubClass>,
    /// Which traffic edges favour.
    #[schema(value_type = Object)]
    pub qos: QosPolicy,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let Tenant { id, display_name, login_host, est_host, checkin_host, feed_host, hub_root, .. } = tenant;
        let Tenant { policy_epoch, classes, qos, .. } = tenant;
        Self { id, display_name, login_host, est_host, checkin_host, feed_host, hub_root, policy_epoch, classes, qos }
    }
}

/// `PUT …/classes`: the whole list; the first match counts.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutClasses {
    /// `{"name", "vendor_class"}`, at most 100.
    #[schema(value_type = Vec<Object>)]
    pub classes: Vec<HubClass>,
}

/// `POST …/sites`, and a site.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteView {
    /// Name.
    #[schema(value_type = String)]
    pub id: SiteId,
    /// For people.
    pub display_name: String,
    /// IANA name, e.g. `Europe/Berlin`.
    pub time_zone: String,
}

impl From<Site> for SiteView {
    fn from(site: Site) -> Self {
        Self { id: site.id, display_name: site.display_name, time_zone: site.time_zone }
    }
}

/// `POST …/nodes`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddNode {
    /// Name.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// `gateway`, `edge` or `connector`.
    #[schema(value_type = String)]
    pub role: Role,
    /// Where it stands.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Gateways: host name under which connectors, edges and control reach it.
    pub host: Option<String>,
    /// Gateways: addresses of that host.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// A one-time right, shown once.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NewCode {
    /// Node or hub it is for.
    pub id: String,
    /// The code. A node's goes into its `join_code_file`; a hub's is its EST password (the user name is the hub's).
    pub code: SecretText,
    /// Good until then, or until first used.
    #[schema(value_type = u64)]
    pub valid_until: UnixTime,
}

/// A node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Name.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// What it does.
    #[schema(value_type = String)]
    pub role: Role,
    /// Where.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// `expected`, `joined`, `revoked` or `cloned`.
    pub state: String,
    /// A second key tried its join code.
    pub alarmed: bool,
    /// Generation of its key.
    pub generation: Option<u64>,
    /// Version of the document compiled for it last.
    pub config: Option<u64>,
    /// Version it refused, and why.
    pub refused: Option<String>,
    /// Gateways: its host.
    pub host: Option<String>,
    /// Gateways: its addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

impl From<NodeRecord> for NodeView {
    fn from(node: NodeRecord) -> Self {
        let state = match node.binding.as_ref().map(|binding| &binding.lock) {
            None => "expected",
            Some(None) => "joined",
            Some(Some(Lock::Clone { .. })) => "cloned",
            Some(Some(Lock::Revoked { .. })) => "revoked",
        };
        Self {
            id: node.id,
            role: node.role,
            site: node.site,
            state: state.to_owned(),
            alarmed: node.code.alarmed,
            generation: node.binding.map(|binding| binding.current.generation),
            config: node.config.map(|(version, _)| version),
            refused: node.refused.map(|(version, reason)| format!("version {version}: {reason}")),
            host: node.host,
            addresses: node.addresses,
        }
    }
}

/// `POST …/hubs`, and one row of `POST …/hubs/import`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddHub {
    /// Name.
    #[schema(value_type = String)]
    pub id: HubId,
    /// Where it belongs.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Maker's serial number: an assignment, never a right.
    pub serial: Option<String>,
    /// Days its code is good for, 1 to 90; 30 unless told otherwise.
    pub days: Option<u32>,
}

/// `POST …/hubs/import`: all rows or none.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportHubs {
    /// At most 1,000.
    pub hubs: Vec<AddHub>,
}

/// Answer to an import, in the order of the rows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportedHubs {
    /// One code per hub.
    pub codes: Vec<NewCode>,
}

/// A hub.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HubView {
    /// Name.
    #[schema(value_type = String)]
    pub id: HubId,
    /// Where it belongs.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Maker's serial number.
    pub serial: Option<String>,
    /// `expected`, `enrolled` or `revoked`.
    pub state: String,
    /// Last check-in.
    #[schema(value_type = Option<u64>)]
    pub seen: Option<UnixTime>,
    /// Where it checked in from.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// Its MAC.
    pub mac: Option<String>,
}

impl From<HubRecord> for HubView {
    fn from(hub: HubRecord) -> Self {
        let state = match hub.state {
            HubState::Expected => "expected",
            HubState::Enrolled => "enrolled",
            HubState::Revoked => "revoked",
        };
        let (seen, address, mac) = match hub.seen {
            Some((at, address, mac)) => (Some(at), Some(address), Some(mac)),
            None => (None, None, None),
        };
        Self { id: hub.id, site: hub.site, serial: hub.serial, state: state.to_owned(), seen, address, mac }
    }
}

/// `POST …/resources`, and a resource.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceView {
    /// Name.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// Where its connectors stand.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// `tcp:host:port`.
    pub target: String,
    /// Own networks the target may lie in.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<ipnetwork::IpNetwork>,
    /// Users reach it through a gateway.
    #[serde(default)]
    pub for_users: bool,
    /// Control reaches it, for integrations.
    #[serde(default)]
    pub for_control: bool,
}

impl From<ResourceRecord> for ResourceView {
    fn from(resource: ResourceRecord) -> Self {
        Self {
            id: resource.id,
            site: resource.site,
            target: resource.target.to_string(),
            networks: resource.networks,
            for_users: resource.for_users,
            for_control: resource.for_control,
        }
    }
}

/// `POST …/apps`, and an app.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppView {
    /// Name.
    #[schema(value_type = String)]
    pub id: AppId,
    /// For people.
    pub display_name: String,
    /// Its host name, below the tenant's domain.
    pub host: String,
    /// `{"resource": {"resource", "host_header"}}`, or `{"direct": {"kind": "direct", "address", …}}`.
    #[schema(value_type = Object)]
    pub place: AppPlace,
    /// Groups that may open it; empty means nobody.
    pub groups: Vec<String>,
    /// Header under which the app is told the login name.
    pub user_header: Option<String>,
}

/// `POST …/users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Login name.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Mail address; viewer rules compare it.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// At least 8 characters.
    pub password: SecretText,
    /// Groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// `user` unless told otherwise.
    #[schema(value_type = Option<String>)]
    pub role: Option<UserRole>,
}

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// Login name.
    #[schema(value_type = String)]
    pub id: UserId,
    /// Mail address.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Role.
    #[schema(value_type = String)]
    pub role: UserRole,
    /// Nothing is granted to a disabled account.
    pub disabled: bool,
}

impl From<UserRecord> for UserView {
    fn from(user: UserRecord) -> Self {
        let UserRecord { id, email, display_name, groups, role, disabled, .. } = user;
        Self { id, email, display_name, groups, role, disabled }
    }
}

/// `PUT …/integrations/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutIntegration {
    /// The declaration, TOML.
    pub declaration: String,
}

/// An integration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct IntegrationView {
    /// Name.
    #[schema(value_type = String)]
    pub id: IntegrationId,
    /// When the last full sync ended.
    #[schema(value_type = Option<u64>)]
    pub synced: Option<UnixTime>,
    /// Rows it left in the cache.
    pub rows: Option<u64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// `PUT …/credential`: a login at the system of record. It goes into the wallet; nobody can read it back.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutCredential {
    /// Login name.
    pub login: String,
    /// Password.
    pub password: SecretText,
}

/// Answer to `POST …/sync`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Synced {
    /// Rows in the cache.
    pub rows: u64,
    /// Rows that changed.
    pub changed: u64,
    /// Cards made.
    pub cards: u64,
}

/// One audit entry.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Number in its chain.
    pub seq: u64,
    /// When.
    #[schema(value_type = u64)]
    pub at: UnixTime,
    /// Who.
    pub actor: String,
    /// What.
    pub act: String,
    /// To what.
    pub subject: String,
    /// Further facts.
    pub detail: serde_json::Value,
    /// Hash of this link of the chain.
    pub hash: String,
}

/// Answer to `GET …/audit/verify`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Whether every link holds.
    pub intact: bool,
    /// Links verified.
    pub entries: u64,
    /// What is wrong.
    pub problem: Option<String>,
}

/// A text for people: 1 to 200 characters, none of them a control character.
pub(crate) fn check_label(what: &str, text: &str) -> Result<(), ApiError> {
    let sane = (1..=200).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if sane {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("{what} is 1 to 200 characters without control characters")))
    }
}

/// A host name: lower case, at least two labels.
pub(crate) fn check_host(what: &str, host: &str) -> Result<(), ApiError> {
    let label = |label: &str| {
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = label.as_bytes();
        bytes.len() <= 63
            && end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-')
    };
    let numeric = host.split('.').next_back().is_none_or(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if host.len() <= 253 && host.contains('.') && host.split('.').all(label) && !numeric {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("{what} is a lower-case host name such as desk.acme.example")))
    }
}
