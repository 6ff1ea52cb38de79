//! What a node keeps in its state directory, for commands that run beside it. No key leaves it here.

use std::path::Path;

use anyhow::Context;
use sluice_node_identity::{ConfigEnvelope, Fingerprint, api::Joined};

use crate::{Settings, disk::StateDir, follow, identity::Identity, join};

/// Who a node is and what it was told last.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Control's node API, `https://host[:port]`.
    pub url: String,
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
    let identity = identity.with_context(|| {
        format!(
            "no node has joined in {}: start it with a join code first (sluice admin node add), or name the state \
             directory that it uses",
            state_dir.display()
        )
    })?;
    Ok(Kept { url: identity.url.clone(), joined: identity.joined.clone(), document: disk.read(follow::DOCUMENT)? })
}

/// Where a node that has not joined yet would join. The code's secret stays out of it.
#[derive(Clone, Debug)]
pub struct JoinPlan {
    /// Control's node API, `https://host[:port]`.
    pub url: String,
    /// Fingerprint of the node root's key.
    pub root_pin: Fingerprint,
}

/// Reads the join code; `None` when there is none.
///
/// # Errors
/// The file cannot be read, is not kept secret, or holds something else.
pub fn join_plan(settings: &Settings) -> anyhow::Result<Option<JoinPlan>> {
    let code = join::code(settings)?;
    Ok(code.map(|code| JoinPlan { url: code.url.clone(), root_pin: code.root_pin.clone() }))
}
