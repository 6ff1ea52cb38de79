//! The wallet's process, and control's side of it.

use std::path::Path;

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use sluice_control_wallet_daemon::{Account, WalletClients, inherited, run as serve, spawn};

use super::home::Home;
use crate::{
    config::control::ControlConfig,
    confine::{self, Profile},
};

/// `sluice control wallet`: serves the sockets that control handed over; no network, no file but its own.
pub(super) fn run(dir: &Path) -> anyhow::Result<()> {
    // A supervisor tells all processes to stop at once; control still needs the wallet for what it finishes, and ends
    // it by closing the sockets.
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGTERM);
    ignored.add(Signal::SIGINT);
    ignored.thread_block().context("cannot block signals")?;
    let sockets = inherited()?;
    let write = vec![dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?];
    confine::apply(&Profile { role: "wallet", write, ..Profile::default() })?;
    serve(dir, sockets)
}

/// Starts the wallet's process.
pub(super) fn start(config: &ControlConfig, home: &Home) -> anyhow::Result<WalletClients> {
    let root = nix::unistd::geteuid().is_root();
    let account = match config.wallet.user.as_deref().filter(|_| root) {
        Some(name) => Some(account(name)?),
        None => None,
    };
    // Not by its path: the wallet's account may not be able to walk there.
    spawn(Path::new("/proc/self/exe"), &home.wallet(), account)
}

fn account(name: &str) -> anyhow::Result<Account> {
    let user = nix::unistd::User::from_name(name)
        .with_context(|| format!("cannot look up user \"{name}\""))?
        .with_context(|| format!("there is no user \"{name}\"; create it or name another as wallet.user"))?;
    Ok(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
}
