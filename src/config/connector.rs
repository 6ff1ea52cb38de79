//! The connector's local file. Which gateways and which targets comes from control, signed.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NodeSection;

/// Configuration of `sluice connector`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConnectorConfig {
    /// Directory for the connector's identity, key and last good document. Made with mode 0700 when missing.
    pub(crate) state_dir: PathBuf,
    /// How to reach control.
    #[serde(default)]
    pub(crate) control: NodeSection,
}
