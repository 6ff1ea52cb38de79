//! The gateway's document, as the config watch delivers it.

use std::fmt;

use serde::{Deserialize, Serialize};
use sluice_connector_wire::ClassPair;
use sluice_node_identity::{AppId, NodeId, ResourceId, TenantId};

/// Schema of [`GatewayDocument`] written by this release.
pub const SCHEMA: u32 = 1;

/// A gateway's whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayDocument {
    /// Whom this gateway serves.
    pub tenant: TenantId,
    /// The one host name on which users log in.
    pub login_host: String,
    /// Seconds a session lives.
    pub session_seconds: u64,
    /// base64url, 32 bytes; control derives it from the tenant's key for this gateway. Cookie keys are derived
    /// from it per day.
    pub session_key: Secret,
    /// Names that are spliced through, never terminated.
    pub splices: Vec<Splice>,
    /// What users can open.
    pub apps: Vec<App>,
    /// Who may use `sluice-relay/1`: SPIFFE IDs (control's).
    pub relay: Relay,
}

/// A text that never appears in a log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Who may open relays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// SPIFFE IDs.
    pub callers: Vec<String>,
}

/// One spliced name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splice {
    /// Server name in the ClientHello, exact, lower case.
    pub server_name: String,
    /// `host:port` to connect to.
    pub to: String,
    /// Put a PROXY v2 header in front (control's listener wants it).
    pub proxy_protocol: bool,
}

/// One app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Which.
    pub id: AppId,
    /// For people.
    pub name: String,
    /// Its own host name, exact, lower case.
    pub host: String,
    /// Where its requests go.
    pub upstream: Upstream,
    /// Groups that may open it; empty means nobody.
    pub groups: Vec<String>,
    /// Also send the login name under this header (an app that knows no JWT). Inbound spellings are removed.
    pub user_header: Option<String>,
}

/// Where an app's requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Upstream {
    /// An address the gateway itself can dial.
    Direct {
        /// `host:port`.
        address: String,
        /// TLS to the upstream, with this server name verified against the system's roots.
        tls_server_name: Option<String>,
        /// What the dial guard must let pass.
        networks: Vec<ipnetwork::IpNetwork>,
    },
    /// A resource behind connectors, by direct stream.
    Resource {
        /// Which.
        resource: ResourceId,
        /// Any of these can reach it.
        connectors: Vec<NodeId>,
        /// `tcp:host:port`.
        target: String,
        /// `Host` header the application expects; the app's own host when absent.
        host_header: Option<String>,
        /// Which of a tunnel's connections carry it. Left out of the document when `standard`, which older gateways
        /// assume.
        #[serde(default, skip_serializing_if = "is_standard")]
        pair: ClassPair,
    },
    /// Control's user pages: TLS with the gateway's own certificate.
    Control {
        /// `host:port`.
        address: String,
        /// Server name, verified against the node root.
        server_name: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
const fn is_standard(pair: &ClassPair) -> bool {
    matches!(pair, ClassPair::Standard)
}
