//! Exceptions, and who signs what connectors may do.

use serde::{Deserialize, Serialize};
use sluice_control_domain::ExceptionRecord;
use sluice_node_identity::{NodeId, ResourceId, SiteId, UnixTime};
use utoipa::ToSchema;

/// `POST …/exceptions`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddException {
    /// Whose connectors.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// `tcp:host:port` or `udp:host:port`.
    pub target: String,
    /// `control`, or names of gateways.
    pub callers: Vec<String>,
    /// Seconds it lasts, 60 to 86,400.
    pub seconds: u64,
    /// Why, for people and the audit.
    pub why: String,
    /// An existing resource at the site that it widens; without one it is a resource of its own, named by its id.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub resource: Option<ResourceId>,
    /// Own networks the target may lie in; those of the widened resource when there are none.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<ipnetwork::IpNetwork>,
}

/// An exception.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExceptionView {
    /// Name; unless `resource` is another, apps and integrations may use it as a resource's.
    #[schema(value_type = String)]
    pub id: ResourceId,
    /// Whose connectors.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// As which resource it is asked for.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// What may be dialled.
    pub target: String,
    /// Own networks the target may lie in.
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<ipnetwork::IpNetwork>,
    /// Who may ask.
    pub callers: Vec<String>,
    /// When it was made.
    #[schema(value_type = u64)]
    pub made: UnixTime,
    /// The second from which it holds no longer.
    #[schema(value_type = u64)]
    pub until: UnixTime,
    /// The same for people.
    pub ends: String,
    /// Why.
    pub why: String,
    /// Who made it.
    pub by: String,
    /// In the answer to making it: what it waits for, if the customer holds the policy key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

/// A removal that connectors hear of only later.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Waits {
    /// What it waits for.
    pub waits: String,
}

impl From<ExceptionRecord> for ExceptionView {
    fn from(record: ExceptionRecord) -> Self {
        let ExceptionRecord { id, site, resource, target, networks, callers, made, until, why, by, .. } = record;
        let (target, ends) = (target.to_string(), sluice_connector_wire::when(until));
        Self { id, site, resource, target, networks, callers, made, until, ends, why, by, waits: None }
    }
}

/// Who holds the policy key, and how the connectors' lists stand.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// `control` or `customer`.
    pub held_by: String,
    /// RFC 7638 thumbprint of the present policy key.
    pub thumbprint: String,
    /// The present policy key, public JWK.
    #[schema(value_type = Object)]
    pub policy_key: serde_json::Value,
    /// Policy keys there were before.
    pub replaced: usize,
    /// Compact JWS's, oldest first: each key signed by the one before it. Public; whoever adopted a key keeps the last.
    pub succession: Vec<String>,
    /// One per living connector.
    pub lists: Vec<ListView>,
}

/// A connector's list.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    /// Whose.
    #[schema(value_type = String)]
    pub connector: NodeId,
    /// `good`, `soon` (ends within two days), `ended`, `none`, or `refused` (by the connector; `words` say why).
    pub state: String,
    /// Its version; higher is newer.
    pub version: Option<u64>,
    /// Its end.
    #[schema(value_type = Option<u64>)]
    pub not_after: Option<UnixTime>,
    /// A newer one waits for the customer's signature.
    pub waits: bool,
    /// How it stands and what to do.
    pub words: String,
}

/// `POST …/policy/adopt`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptPolicyKey {
    /// The customer's public key (JWK, P-256).
    #[schema(value_type = Object)]
    pub policy_key: serde_json::Value,
    /// Proof that he holds it: compact JWS by that key over the tenant's name.
    pub proof: String,
    /// The new key signed by the present one. Needed when the customer holds that one; otherwise control signs.
    #[serde(default)]
    pub succession: Option<String>,
}

/// A list that waits for the customer's signature.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingList {
    /// Whose.
    #[schema(value_type = String)]
    pub connector: NodeId,
    /// SHA-256 of `payload`, hexadecimal.
    pub digest: String,
    /// The exact text to be signed.
    pub payload: String,
    /// Its end.
    #[schema(value_type = u64)]
    pub not_after: UnixTime,
    /// What it changes against `signed`, as control says; `sluice admin policy sign` finds out itself.
    pub changes: Vec<String>,
    /// The list the connector has: `{"jws", "policy_key", "succession"}`.
    #[schema(value_type = Option<Object>)]
    pub signed: Option<sluice_connector_wire::SignedAllowList>,
}

/// Lists that wait.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PendingLists {
    /// In order of their connectors.
    pub items: Vec<PendingList>,
}

/// `POST …/policy/lists/{connector}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSignedList {
    /// Compact JWS (ES256) over exactly the bytes of `payload`.
    pub jws: String,
}
