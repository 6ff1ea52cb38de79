//! Network namespaces, the links between them, and their removal.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::process::{output, succeed};

/// Where `ip netns` keeps its handles.
const HANDLES: &str = "/run/netns";
/// Where `ip netns exec` finds the files it mounts over `/etc`.
const ETC: &str = "/etc/netns";
/// First letters of every namespace made here; the owner's process id in hex and a dash follow.
const MARK: &str = "slu";

/// Topologies of one process are told apart by a number.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A set of namespaces that goes away with this value.
#[derive(Debug)]
pub struct Topology {
    prefix: String,
    namespaces: Vec<Ns>,
}

/// One network namespace. Cheap to clone; the [`Topology`] removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ns {
    name: Arc<str>,
}

impl Topology {
    /// Removes what dead owners left behind and starts an empty topology.
    ///
    /// # Errors
    /// Not root, or `ip` is missing.
    pub fn new() -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces need root; run this as root");
        }
        remove_leftovers()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { prefix: format!("{MARK}{:x}-{number}", std::process::id()), namespaces: Vec::new() })
    }

    /// Makes a namespace with loopback up, forwarding off and its own `/etc/hosts` and `/etc/resolv.conf`.
    ///
    /// # Errors
    /// The name is taken or the kernel refuses.
    pub fn namespace(&mut self, short: &str) -> Result<Ns> {
        let ns = Ns { name: format!("{}{short}", self.prefix).into() };
        // Before the first `ip netns exec`: without these, stock DHCP scripts rewrite the machine's own files.
        let etc = ns.etc();
        fs::create_dir_all(&etc).with_context(|| format!("cannot create {}", etc.display()))?;
        fs::write(etc.join("resolv.conf"), "")?;
        fs::write(etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
        self.namespaces.push(ns.clone());
        succeed(Command::new("ip").args(["netns", "add", ns.name()]))?;
        ns.ip(&["link", "set", "lo", "up"])?;
        // Duplicate address detection would keep every address unusable for a second.
        ns.sysctl("net.ipv6.conf.all.accept_dad", "0")?;
        ns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        Ok(ns)
    }

    /// Connects two namespaces by a cable; both ends are up.
    ///
    /// # Errors
    /// A device name is taken.
    pub fn link(&self, (a, a_dev): (&Ns, &str), (b, b_dev): (&Ns, &str)) -> Result<()> {
        succeed(Command::new("ip").args([
            "link",
            "add",
            "name",
            a_dev,
            "netns",
            a.name(),
            "type",
            "veth",
            "peer",
            "name",
            b_dev,
            "netns",
            b.name(),
        ]))?;
        a.ip(&["link", "set", a_dev, "up"])?;
        b.ip(&["link", "set", b_dev, "up"])
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for ns in self.namespaces.drain(..) {
            if let Err(error) = remove(ns.name()) {
                report(&format!("cannot remove namespace {}: {error:#}", ns.name()));
            }
        }
    }
}

impl Ns {
    /// Full name, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Folder whose files `ip netns exec` mounts over `/etc`.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        Path::new(ETC).join(self.name())
    }

    /// A command that will run inside, and be killed when the thread that starts it ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", self.name()]).arg(program);
        command
    }

    /// Runs `ip` inside.
    ///
    /// # Errors
    /// Whatever `ip` says.
    pub fn ip(&self, args: &[&str]) -> Result<()> {
        succeed(Command::new("ip").args(["-n", self.name()]).args(args))
    }

    /// Gives a device an address, `10.0.0.1/24` or `2001:db8::1/64`.
    ///
    /// # Errors
    /// Whatever `ip` says.
    pub fn address(&self, device: &str, cidr: &str) -> Result<()> {
        let nodad: &[&str] = if cidr.contains(':') { &["nodad"] } else { &[] };
        self.ip(&[&["addr", "add", cidr, "dev", device], nodad].concat())
    }

    /// Sends `destination` (`default` or a prefix) by way of `via`.
    ///
    /// # Errors
    /// Whatever `ip` says.
    pub fn route(&self, destination: &str, via: &str) -> Result<()> {
        let family = if via.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", destination, "via", via])
    }

    /// Turns the namespace into a router for both families.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net.ipv4.ip_forward", "1")?;
        self.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Sets one kernel parameter of the namespace.
    ///
    /// # Errors
    /// Unknown parameter or value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = value.to_owned();
        self.enter(move || fs::write(&path, value).with_context(|| format!("cannot set {path}")))?
    }

    /// A plain first-in-first-out line: `rate_kbit` and a buffer of `buffer` bytes.
    ///
    /// # Errors
    /// Whatever `tc` says.
    pub fn line(&self, device: &str, rate_kbit: u32, buffer: u32) -> Result<()> {
        let (rate, limit) = (format!("{rate_kbit}kbit"), buffer.to_string());
        succeed(Command::new("tc").args([
            "-n",
            self.name(),
            "qdisc",
            "replace",
            "dev",
            device,
            "root",
            "tbf",
            "rate",
            &rate,
            "burst",
            "5000",
            "limit",
            &limit,
        ]))
    }

    /// Loads an nftables ruleset inside.
    ///
    /// # Errors
    /// Whatever `nft` says.
    pub fn nft(&self, ruleset: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(file.path(), ruleset)?;
        succeed(self.command("nft").arg("-f").arg(file.path()))
    }

    /// Appends names to the namespace's `/etc/hosts`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn hosts(&self, entries: &[(IpAddr, &str)]) -> Result<()> {
        let path = self.etc().join("hosts");
        let mut text = fs::read_to_string(&path)?;
        for (address, names) in entries {
            text.push_str(&format!("{address} {names}\n"));
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Runs `work` on a thread that sees only this namespace's network.
    ///
    /// # Errors
    /// The namespace is gone, or `work` panicked.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let handle = self.spawn(work)?;
        handle.join().map_err(|_| anyhow::anyhow!("the work inside {} panicked", self.name()))?
    }

    /// As [`Self::enter`], without waiting.
    ///
    /// # Errors
    /// No thread to be had.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let path = Path::new(HANDLES).join(self.name());
        let run = move || {
            let handle = fs::File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(handle, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            Ok(work())
        };
        thread::Builder::new().name(self.name().to_owned()).spawn(run).context("cannot start a thread")
    }
}

/// Ends what still runs inside, then deletes the namespace and its files.
fn remove(name: &str) -> Result<()> {
    let pids = output(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        // Gone already is as good as killed.
        let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let deleted = succeed(Command::new("ip").args(["netns", "del", name]));
    match fs::remove_dir_all(Path::new(ETC).join(name)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => deleted,
    }
}

fn remove_leftovers() -> Result<()> {
    for entry in [HANDLES, ETC].into_iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(owner) = owner_of(&name) else { continue };
        if Path::new("/proc").join(owner.to_string()).exists() {
            continue;
        }
        if let Err(error) = remove(&name) {
            // The second listing repeats names whose handle the first one removed.
            let handle = Path::new(HANDLES).join(&name);
            if handle.exists() {
                return Err(error.context(format!("cannot remove the left-over namespace {name}")));
            }
        }
    }
    Ok(())
}

/// Process id in a namespace's name, when it is one of ours.
fn owner_of(name: &str) -> Option<u32> {
    let (owner, _) = name.strip_prefix(MARK)?.split_once('-')?;
    u32::from_str_radix(owner, 16).ok()
}

#[expect(clippy::print_stderr, reason = "a test harness talks to its terminal")]
pub(crate) fn report(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::owner_of;

    #[test]
    fn only_our_names_have_an_owner() {
        assert_eq!(owner_of("slu1f-hub"), Some(0x1f));
        for foreign in ["hub", "slu", "slu-hub", "sluzz-hub", "srv1f-hub"] {
            assert_eq!(owner_of(foreign), None, "{foreign}");
        }
    }
}
