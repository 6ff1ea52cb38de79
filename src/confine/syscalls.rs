//! Seccomp: which system calls. Everything a network daemon has no business with fails with EPERM.

use std::collections::BTreeMap;

use anyhow::Context;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::Profile;

/// Never, in any role: tracing others, mounting, namespaces, modules, keys, raw clocks, BPF, io_uring.
const NEVER: [libc::c_long; 40] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// Also never, but kept apart: roles without children may start nothing.
const START: [libc::c_long; 2] = [libc::SYS_execve, libc::SYS_execveat];

pub(super) fn restrict(profile: &Profile) -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    if profile.run.is_empty() {
        rules.extend(START.iter().map(|call| (*call, Vec::new())));
    }
    rules.insert(libc::SYS_unshare, Vec::new());
    rules.insert(libc::SYS_socket, vec![foreign_socket(profile)?]);
    let arch = std::env::consts::ARCH.try_into().context("seccomp filters are not written for this processor")?;
    let errno = u32::try_from(libc::EPERM)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// Matches `socket(2)` for any family but those the role uses.
fn foreign_socket(profile: &Profile) -> anyhow::Result<SeccompRule> {
    let netlink = profile.netlink.then_some(libc::AF_NETLINK);
    let families = [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX].into_iter().chain(netlink);
    let conditions = families
        .map(|family| {
            let family = u64::try_from(family)?;
            Ok(SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)?)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(SeccompRule::new(conditions)?)
}
