//! How a node finds control: the `[control]` table of gateway, edge and connector.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The `[control]` table; `state_dir` stands beside it at the top of each node's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NodeSection {
    /// File (mode 0600) with the join code that `sluice admin node add` printed. Only read until the node has joined.
    pub(crate) join_code_file: Option<PathBuf>,
    /// Dial this `ip:port` instead of resolving the host in the join code. What is verified stays the same.
    pub(crate) address: Option<SocketAddr>,
    /// Seconds of control's silence after which nothing new is granted: session, ticket, enrolment, stream of a
    /// connector.
    pub(crate) max_stale_seconds: u64,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self { join_code_file: None, address: None, max_stale_seconds: MAX_STALE_SECONDS }
    }
}

impl NodeSection {
    /// Settings of the node client that keeps its identity in `state_dir`.
    pub(crate) fn settings(&self, state_dir: &Path) -> sluice_node_client::Settings {
        sluice_node_client::Settings {
            state_dir: state_dir.to_owned(),
            join_code_file: self.join_code_file.clone(),
            control_address: self.address,
            token: None,
        }
    }
}

/// Whom a node becomes when started as root and not told otherwise.
pub(super) fn default_user() -> String {
    "nobody".to_owned()
}

/// Most seconds that a bound on waiting may have: a day. (Far longer ones could not even be added to a clock.)
pub(super) const LONGEST_SECONDS: u64 = 24 * 3600;
/// A day.
const MAX_STALE_SECONDS: u64 = 24 * 3600;
