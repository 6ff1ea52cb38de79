//! What every node runs: joining, renewal, and the watches on its document and state.

use std::{net::SocketAddr, path::PathBuf};

/// Where a node keeps its identity and how it reaches control.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory (0700) for identity, key and last good document.
    pub state_dir: PathBuf,
    /// File with the join code; only read until the node has joined.
    pub join_code_file: Option<PathBuf>,
    /// Dial this instead of resolving the host of control's URL.
    pub control_address: Option<SocketAddr>,
}
