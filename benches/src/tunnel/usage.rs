//! What processes used of the machine, by the kernel's own accounts.

use std::{collections::BTreeSet, fs};

/// Clock ticks of `/proc` per second; the same on every Linux that Rust runs on.
const TICKS: f64 = 100.0;
const KIB: f64 = 1024.0;

/// The processes and all their descendants.
#[must_use]
pub(crate) fn family(roots: &[u32]) -> Vec<u32> {
    let mut all: BTreeSet<u32> = roots.iter().copied().collect();
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, field(pid, 1)?)))
        .collect();
    loop {
        let before = all.len();
        all.extend(parents.iter().filter(|(_, parent)| all.contains(parent)).map(|(pid, _)| *pid).collect::<Vec<_>>());
        if all.len() == before {
            return all.into_iter().collect();
        }
    }
}

/// Processor seconds, user and system, that the processes have used since they began.
#[must_use]
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| Some(f64::from(field(*pid, 11)?) + f64::from(field(*pid, 12)?));
    pids.iter().filter_map(ticks).sum::<f64>() / TICKS
}

/// Resident memory in bytes.
#[must_use]
pub(crate) fn resident(pids: &[u32]) -> f64 {
    let of = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    };
    pids.iter().filter_map(of).sum::<f64>() * KIB
}

/// A number of `/proc/<pid>/stat`, counted from the process state (0) as the name before it may hold spaces.
fn field(pid: u32, at: usize) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{
        process::{Command, Stdio},
        time::{Duration, Instant},
    };

    use super::{cpu_seconds, family, resident};

    #[test]
    fn work_and_memory_of_this_process_are_seen() {
        let me = [std::process::id()];
        let before = cpu_seconds(&me);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) && cpu_seconds(&me) - before < 0.05 {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
        assert!(cpu_seconds(&me) - before >= 0.05);
        assert!(resident(&me) > 1e6);
    }

    #[test]
    fn children_belong_to_the_family() {
        let mut child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
        let all = family(&[std::process::id()]);
        assert!(all.contains(&child.id()) && all.contains(&std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
