//! Seccomp: which system calls. Everything a network daemon has no business with fails with EPERM.

use std::collections::BTreeMap;

use anyhow::Context;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    sock_filter,
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

/// `clone` with any of these makes a namespace, in which a nobody has every capability; `unshare` is in the rules too.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

pub(super) fn restrict(profile: &Profile) -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    if profile.run.is_empty() {
        rules.extend(START.iter().map(|call| (*call, Vec::new())));
    }
    rules.insert(libc::SYS_unshare, Vec::new());
    rules.insert(libc::SYS_socket, vec![foreign_socket(profile)?]);
    rules.insert(libc::SYS_clone, NAMESPACES.into_iter().map(namespace).collect::<anyhow::Result<_>>()?);
    seccompiler::apply_filter_all_threads(&foreign_numbers())?;
    // What `clone3` is asked for lies in memory, out of a filter's sight. Without it the library uses `clone`.
    refuse([(libc::SYS_clone3, Vec::new())].into(), libc::ENOSYS)?;
    refuse(rules, libc::EPERM)
}

fn refuse(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> anyhow::Result<()> {
    let arch = std::env::consts::ARCH.try_into().context("seccomp filters are not written for this processor")?;
    let action = SeccompAction::Errno(u32::try_from(errno)?);
    let program: BpfProgram = SeccompFilter::new(rules, SeccompAction::Allow, action, arch)?.try_into()?;
    seccompiler::apply_filter_all_threads(&program)?;
    Ok(())
}

/// Refuses the numbers of the x32 ABI, by which every call above has a second name on x86-64 (seccomp(2), "Caveats").
fn foreign_numbers() -> BpfProgram {
    const LOAD_WORD: u16 = 0x20;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    const SAY_EPERM: u32 = 0x0005_0000 | libc::EPERM.unsigned_abs();
    const ALLOW: u32 = 0x7fff_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    // The call's number stands at offset 0 of what a filter sees.
    vec![
        step(LOAD_WORD, 0, 0, 0),
        step(IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, SAY_EPERM),
        step(RETURN, 0, 0, ALLOW),
    ]
}

/// Matches `clone(2)` with `flag`.
fn namespace(flag: libc::c_int) -> anyhow::Result<SeccompRule> {
    let flag = u64::from(flag.cast_unsigned());
    let set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
    Ok(SeccompRule::new(vec![set])?)
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
