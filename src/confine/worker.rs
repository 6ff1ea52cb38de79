//! A worker: one socket, memory, a clock, randomness, and nothing else.

use std::{collections::BTreeMap, fs::File};

use anyhow::Context;
use nix::{
    errno::Errno,
    libc,
    sys::{
        prctl,
        socket::{AddressFamily, SockFlag, SockType, socket},
    },
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// What a worker's own code and the C library below it need.
const ALLOWED: [libc::c_long; 23] = [
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_read,
    libc::SYS_recvfrom,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sendto,
    libc::SYS_sigaltstack,
    libc::SYS_write,
];
/// Allowed as long as nothing becomes executable: their third argument says what memory may do.
const MAPPING: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Gives everything else up, for good.
///
/// # Errors
/// When it cannot be put in force: the worker must not read anything foreign then.
pub(crate) fn worker() -> anyhow::Result<()> {
    prctl::set_dumpable(false).context("cannot forbid core dumps")?;
    prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).context("cannot ask to end with the parent")?;
    prctl::set_no_new_privs().context("cannot set no_new_privs")?;
    allow_only().context("cannot restrict system calls by seccomp")?;
    match File::open("/dev/null") {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        other => anyhow::bail!("files can still be opened: {other:?}"),
    }
    match socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None) {
        Err(Errno::EPERM) => Ok(()),
        other => anyhow::bail!("sockets can still be opened: {other:?}"),
    }
}

fn allow_only() -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in MAPPING {
        let data = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(executable), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![data])?]);
    }
    // An abort signals its own thread; other processes of the same user are none of a worker's business.
    let own = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, std::process::id().into())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    let arch = std::env::consts::ARCH.try_into().context("seccomp filters are not written for this processor")?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    // Numbers of a foreign ABI are not in the list either, so they are refused with the rest.
    let program: BpfProgram = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()?;
    Ok(seccompiler::apply_filter_all_threads(&program)?)
}
