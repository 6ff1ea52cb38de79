//! User, groups, capabilities, no_new_privs.

use anyhow::{Context, anyhow};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::prctl,
    unistd::{self, Gid, Uid},
};

/// An unprivileged user to become.
#[derive(Clone, Debug)]
pub(crate) struct User {
    uid: Uid,
    gid: Gid,
}

impl User {
    /// Looks a user up by name.
    ///
    /// # Errors
    /// When there is no such user, or it is root.
    pub(crate) fn named(name: &str) -> anyhow::Result<Self> {
        let user = unistd::User::from_name(name)
            .with_context(|| format!("cannot look up user \"{name}\""))?
            .ok_or_else(|| anyhow!("there is no user \"{name}\"; create it or name another in the configuration"))?;
        anyhow::ensure!(!user.uid.is_root(), "user \"{name}\" is root; name an unprivileged one");
        Ok(Self { uid: user.uid, gid: user.gid })
    }

    /// Makes a folder (and what is in it at its first level) this user's, when we are root.
    pub(crate) fn own(&self, folder: &std::path::Path) -> anyhow::Result<()> {
        if !Uid::effective().is_root() {
            return Ok(());
        }
        let chown = |path: &std::path::Path| {
            unistd::chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("cannot give {} to the unprivileged user", path.display()))
        };
        chown(folder)?;
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            chown(&entry?.path())?;
        }
        Ok(())
    }
}

/// Becomes `user` (when root), keeping exactly `keep` of the capabilities held now.
pub(super) fn drop_to(user: Option<&User>, keep: &[Capability]) -> anyhow::Result<()> {
    // Dying with a core dump would write secrets to disk.
    prctl::set_dumpable(false).context("cannot forbid core dumps")?;
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = keep.iter().copied().filter(|cap| held.contains(cap)).collect();
    for cap in caps::all() {
        if !kept.contains(&cap)
            && caps::has_cap(None, CapSet::Bounding, cap)?
            && held.contains(&Capability::CAP_SETPCAP)
        {
            caps::drop(None, CapSet::Bounding, cap)?;
        }
    }
    if let Some(user) = user.filter(|_| Uid::effective().is_root()) {
        caps::securebits::set_keepcaps(true)?;
        unistd::setgroups(&[user.gid]).context("cannot leave root's groups")?;
        unistd::setgid(user.gid).context("cannot change group")?;
        unistd::setuid(user.uid).context("cannot change user")?;
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &kept)?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)?;
    for cap in &kept {
        caps::raise(None, CapSet::Ambient, *cap)?;
    }
    prctl::set_no_new_privs().context("cannot set no_new_privs")
}
