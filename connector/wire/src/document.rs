//! The connector's document, as the config watch delivers it.

use serde::{Deserialize, Serialize};
use sluice_node_identity::NodeId;

use crate::SignedAllowList;

/// Schema of [`ConnectorDocument`] written by this release.
pub const SCHEMA: u32 = 1;

/// A connector's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectorDocument {
    /// Every gateway of the tenant; the agent keeps one tunnel to each.
    pub gateways: Vec<GatewayEndpoint>,
    /// Who may ask for what, signed by the tenant's policy key.
    pub allow_list: SignedAllowList,
}

/// Where a gateway listens for tunnels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayEndpoint {
    /// Which gateway; its certificate must name it.
    pub id: NodeId,
    /// Host name or address to dial, and to send as SNI when it is a name.
    pub host: String,
    /// TCP port, 443 unless told otherwise.
    pub port: u16,
}
