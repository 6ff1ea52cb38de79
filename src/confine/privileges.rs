//! User, groups, capabilities, no_new_privs.

use std::path::Path;

use anyhow::{Context, anyhow};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    fcntl::{AtFlags, OFlag, open},
    sys::{
        prctl,
        stat::{Mode, SFlag, fstat},
    },
    unistd::{self, Gid, Uid, fchownat},
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

    /// Makes a folder (and the files at its first level) this user's, when we are root.
    ///
    /// Whoever held the folder before may have put links there: they are never followed, so that nothing outside it
    /// changes hands.
    ///
    /// # Errors
    /// When the folder cannot be read or given away, or holds a link.
    pub(crate) fn own(&self, folder: &Path) -> anyhow::Result<()> {
        if !Uid::effective().is_root() {
            return Ok(());
        }
        // An administrator may have put the folder elsewhere by a link of his own; inside it nobody may.
        let folder = &folder.canonicalize().with_context(|| format!("cannot find {}", folder.display()))?;
        self.take(folder)?;
        for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            self.take(&entry?.path())?;
        }
        Ok(())
    }

    fn take(&self, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot give {} to the unprivileged user", path.display());
        // Opened once, then judged and changed by that handle: the name may come to mean something else meanwhile.
        let handle =
            open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).with_context(cannot)?;
        let found = fstat(&handle).with_context(cannot)?;
        let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
        let plain = kind == SFlag::S_IFDIR || (kind == SFlag::S_IFREG && found.st_nlink == 1);
        // A stray socket or pipe is nobody's secret and stays whose it is.
        if kind == SFlag::S_IFLNK || (kind == SFlag::S_IFREG && !plain) {
            anyhow::bail!("{} is a link; sluice makes none there, so remove it and look who did", path.display());
        }
        if plain {
            let (uid, gid) = (Some(self.uid), Some(self.gid));
            fchownat(&handle, "", uid, gid, AtFlags::AT_EMPTY_PATH).with_context(cannot)?;
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
