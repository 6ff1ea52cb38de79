//! What gateway, connector and edge share when they start and stop.

use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_node_client::{Node, Ready};
use sluice_node_identity::{Principal, Role, SpiffeId, api::Joined};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use crate::confine::{self, Profile, User};

/// Gives up everything but the state directory and the network, for good. Call it after binding, before any thread.
pub(crate) fn confine(role: &'static str, state_dir: &Path, user: &str) -> anyhow::Result<()> {
    confine_with(role, state_dir, user, &[])
}

/// As [`confine`], keeping some more paths; whether `user` may read and write them is the file system's business.
pub(crate) fn confine_with(role: &'static str, state_dir: &Path, user: &str, also: &[PathBuf]) -> anyhow::Result<()> {
    open_files()?;
    let user = User::named(user)?;
    user.own(state_dir)?;
    let mut write = vec![state_dir.canonicalize().context("the state directory has gone")?];
    write.extend_from_slice(also);
    confine::apply(&Profile { role, write, user: Some(user), ..Profile::default() })
}

/// Asks for as many open files as the system allows, and gives their number. The usual limit of 1,024 is less than a
/// few strangers' connections; whoever accepts those must stay below what this gives.
pub(crate) fn open_files() -> anyhow::Result<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("cannot read the limit on open files")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit on open files")?;
    }
    Ok(usize::try_from(hard).unwrap_or(usize::MAX))
}

/// The runtime all of a role's work is done on.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}

/// Becomes true on SIGTERM or SIGINT. Needs a runtime.
pub(crate) fn shutdown() -> anyhow::Result<watch::Receiver<bool>> {
    let (stop, stopped) = watch::channel(false);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop: ending what runs");
        stop.send_replace(true);
        // Whoever looks later must still see it.
        std::future::pending::<()>().await;
    });
    Ok(stopped)
}

/// Joins or loads the identity; `None` when told to stop meanwhile.
pub(crate) async fn start(ready: Ready, role: Role, stop: &watch::Receiver<bool>) -> anyhow::Result<Option<Node>> {
    let mut stop = stop.clone();
    tokio::select! {
        node = Node::start(ready, role) => node.map(Some),
        _ = stop.wait_for(|stop| *stop) => Ok(None),
    }
}

/// The name in a node's certificate.
pub(crate) fn spiffe(name: &Joined) -> SpiffeId {
    SpiffeId {
        trust_domain: name.trust_domain.clone(),
        principal: Principal::Node { tenant: name.tenant.clone(), role: name.role, id: name.id.clone() },
    }
}
