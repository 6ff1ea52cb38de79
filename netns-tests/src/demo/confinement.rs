//! What each running process has given up, as the kernel tells it (proc_pid_status(5)).

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};

use super::{report::Evidence, roles::Roles};

/// CAP_NET_ADMIN alone.
const NET_ADMIN: u64 = 1 << 12;

/// Nobody can gain rights, everybody is under seccomp and without capabilities; only the edge's kernel writer keeps
/// CAP_NET_ADMIN, and only it is still root. Control and its wallet are two users.
pub(super) fn seen(roles: &Roles, evidence: &mut Evidence) -> Result<()> {
    let processes = roles.processes()?;
    ensure!(
        processes.len() == 6,
        "control with its wallet, gateway, connector, edge with its wire side: {processes:?}"
    );
    let mut users = BTreeSet::new();
    for (name, pid) in &processes {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("{name} has ended"))?;
        let field = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.map(str::trim).with_context(|| format!("the kernel says nothing of {key}"))
        };
        ensure!(field("NoNewPrivs")? == "1", "{name} may gain rights by exec");
        ensure!(field("Seccomp")? == "2", "{name} runs without a seccomp filter");
        let kernel_writer = name == "edge";
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let held = u64::from_str_radix(field(set)?, 16)?;
            let may = if kernel_writer { NET_ADMIN } else { 0 };
            ensure!(held & !may == 0, "{name} holds capabilities {held:x} ({set})");
        }
        let user: u32 = field("Uid")?.split_whitespace().next().context("no user")?.parse()?;
        ensure!(kernel_writer || user != 0, "{name} is root");
        if name.starts_with("control") {
            users.insert(user);
        }
    }
    ensure!(users.len() == 2, "control and its wallet are one user");
    evidence.saw("6 processes: no_new_privs, seccomp, no capability but the kernel writer's CAP_NET_ADMIN, no root but the kernel writer");
    Ok(())
}
