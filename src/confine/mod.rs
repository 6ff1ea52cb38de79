//! Giving up what a role does not need, right after binding and before any thread starts.
//!
//! Four layers, each of which holds when another fails: another user, no capabilities beyond the named, Landlock for
//! files, seccomp for system calls. Afterwards the process tries what must now be impossible and refuses to run if it
//! is not.

mod files;
mod privileges;
mod proof;
mod syscalls;
#[cfg(test)]
mod tests;
mod worker;

use std::path::PathBuf;

use anyhow::Context;
use tracing::info;

pub(crate) use privileges::User;
pub(crate) use worker::worker;

/// What a role keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    /// For the log.
    pub(crate) role: &'static str,
    /// Files and folders it reads, beyond the resolver's and the certificate store's.
    pub(crate) read: Vec<PathBuf>,
    /// Folders it writes.
    pub(crate) write: Vec<PathBuf>,
    /// Programs it runs; none: `execve` is forbidden altogether.
    pub(crate) run: Vec<PathBuf>,
    /// Capabilities it keeps.
    pub(crate) capabilities: Vec<caps::Capability>,
    /// Whether it speaks netlink (reading neighbour tables needs no capability).
    pub(crate) netlink: bool,
    /// Whom it becomes when started as root.
    pub(crate) user: Option<User>,
}

/// Gives everything else up, for good.
///
/// # Errors
/// When any layer cannot be put in force: the role must not run without it.
pub(crate) fn apply(profile: &Profile) -> anyhow::Result<()> {
    anyhow::ensure!(
        threads()? == 1,
        "privileges must be dropped before threads start; this is a defect of sluice, please report it"
    );
    put_in_force(profile)?;
    info!(role = profile.role, "confined: a forbidden open and a forbidden socket call were refused");
    Ok(())
}

/// Acts on the calling thread and those it starts later.
fn put_in_force(profile: &Profile) -> anyhow::Result<()> {
    privileges::drop_to(profile.user.as_ref(), &profile.capabilities).context("cannot give up privileges")?;
    files::restrict(profile).context("cannot restrict files by Landlock (Linux 5.13 or newer with lsm=landlock)")?;
    syscalls::restrict(profile).context("cannot restrict system calls by seccomp")?;
    proof::check().context("the restrictions do not hold")
}

fn threads() -> anyhow::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/task").context("/proc is not mounted")?.count())
}
