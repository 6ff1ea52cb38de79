//! Nodes and hubs.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sluice_control_domain::{HubRecord, HubState, NodeRecord};
use sluice_node_identity::{HubId, Lock, NodeId, Role, SiteId, UnixTime};
use utoipa::ToSchema;

use super::SecretText;

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
