//! Landlock: which files.

use std::path::{Path, PathBuf};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus,
};

use super::Profile;

/// What name resolution and certificate verification read in any role.
const RESOLVER: [&str; 8] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ssl/certs",
    "/usr/share/ca-certificates",
    "/usr/lib/ssl",
];

/// Libraries and devices a running (or started) program needs.
const RUNTIME: [&str; 6] = ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache", "/dev/urandom", "/dev/null"];

/// The newest access rights we know; older kernels enforce what they know.
const NEWEST: ABI = ABI::V5;

pub(super) fn restrict(profile: &Profile) -> anyhow::Result<()> {
    let all = AccessFs::from_all(NEWEST);
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // A role keeps files and folders. A link or a device could make the next start, as root, touch something else.
    let never = AccessFs::Execute
        | AccessFs::MakeSym
        | AccessFs::MakeChar
        | AccessFs::MakeBlock
        | AccessFs::MakeFifo
        | AccessFs::MakeSock;
    let mut rules = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    let proc_self = [PathBuf::from("/proc/self"), PathBuf::from("/proc/net"), PathBuf::from("/proc/sys/net")];
    let always = RESOLVER.iter().chain(&RUNTIME).map(PathBuf::from).chain(proc_self);
    for path in always.filter(|path| path.exists()) {
        rules = allow(rules, &path, read | write_to(&path))?;
    }
    for path in &profile.read {
        rules = allow(rules, path, read)?;
    }
    for path in &profile.write {
        rules = allow(rules, path, all & !never)?;
    }
    for path in &profile.run {
        rules = allow(rules, path, read | AccessFs::Execute)?;
    }
    if !profile.run.is_empty() {
        for path in RUNTIME.iter().map(Path::new).filter(|path| path.is_dir()) {
            rules = allow(rules, path, read | AccessFs::Execute)?;
        }
    }
    let status = rules.restrict_self()?;
    anyhow::ensure!(status.ruleset != RulesetStatus::NotEnforced, "this kernel does not enforce Landlock");
    Ok(())
}

/// `/dev/null` is the one place outside its folders that a role writes to.
fn write_to(path: &Path) -> BitFlags<AccessFs> {
    if path == Path::new("/dev/null") { AccessFs::WriteFile.into() } else { BitFlags::empty() }
}

fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> anyhow::Result<RulesetCreated> {
    let target = PathFd::new(path).with_context(|| format!("cannot open {}", path.display()))?;
    // Folder rights on a plain file would be refused as inconsistent.
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    Ok(rules.add_rule(PathBeneath::new(target, access))?)
}
