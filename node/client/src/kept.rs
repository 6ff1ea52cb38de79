//! What a node keeps in its state directory, for commands that run beside it. No key leaves it here.

use std::path::Path;

use anyhow::Context;
use sluice_node_identity::{ConfigEnvelope, api::Joined};

use crate::{disk::StateDir, follow, identity::Identity};

/// Who a node is and what it was told last.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What control said when it joined; `chain` is the certificate in use.
    pub joined: Joined,
    /// The last good document.
    pub document: Option<ConfigEnvelope>,
}

/// Reads the state directory of a node, whether it runs or not. Changes nothing.
///
/// # Errors
/// When no node has joined there, or a file cannot be read.
pub fn kept(state_dir: &Path) -> anyhow::Result<Kept> {
    let disk = StateDir::existing(state_dir);
    let identity: Option<Identity> = disk.read(Identity::FILE)?;
    let identity = identity.with_context(|| format!("no node has joined in {}", state_dir.display()))?;
    Ok(Kept { joined: identity.joined.clone(), document: disk.read(follow::DOCUMENT)? })
}
