//! `sluice edge` as it runs: two processes, and what is left when either of them ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use sluice_netns_tests::topology::{Ns, Topology};
use sluice_node_identity::{Fingerprint, JoinCode, JoinSecret};

const DEADLINE: Duration = Duration::from_secs(30);

struct Edge {
    parent: Child,
    ns: Ns,
    folder: tempfile::TempDir,
    _topology: Topology,
}

impl Edge {
    /// Starts it with a join code of a control that cannot be reached, and waits until both sides are confined.
    fn start() -> Self {
        let mut topology = Topology::new().unwrap();
        let (ns, world) = (topology.namespace("edge").unwrap(), topology.namespace("world").unwrap());
        topology.link((&ns, "lan0"), (&world, "hub0")).unwrap();
        topology.link((&ns, "wan0"), (&world, "line0")).unwrap();
        ns.address("lan0", "10.77.0.1/24").unwrap();
        ns.address("lan0", "2001:db8:77::1/64").unwrap();
        let folder = tempfile::tempdir().unwrap();
        // The wire side is another user and must get there.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        config(folder.path(), "");
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let parent = ns
            .command(env!("CARGO_BIN_EXE_sluice"))
            .args(["edge", "--config"])
            .arg(folder.path().join("edge.toml"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let edge = Self { parent, ns, folder, _topology: topology };
        wait_for("both sides to be confined", &edge, |edge| edge.log().matches("confined: ").count() == 2);
        edge
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn wire_side(&self) -> Option<u32> {
        let id = self.parent.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().next().map(|child| child.parse().unwrap())
    }

    fn status(&self, pid: u32, key: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap().to_owned();
        line.trim().to_owned()
    }

    fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.parent.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "the edge does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ruleset(&self) -> String {
        let output = self.ns.command("nft").args(["list", "table", "inet", "sluice"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        // Already gone in most tests; the wire side goes with it.
        let _gone = self.parent.kill();
        let _status = self.parent.wait();
    }
}

fn config(folder: &Path, more: &str) {
    let code = JoinCode {
        url: "https://node.sluice.test:8443".into(),
        root_pin: Fingerprint::of(b"nobody"),
        policy_thumbprint: "nobody".into(),
        secret: JoinSecret::new([7; 16]),
    };
    let file = folder.join("join.code");
    fs::write(&file, code.to_string()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "state_dir = '{0}/state'\n[control]\njoin_code_file = '{0}/join.code'\naddress = '192.0.2.1:8443'\n\
         [lan]\ninterface = 'lan0'\nprefixes = ['10.77.0.1/24', '2001:db8:77::1/64']\n\
         pool_first = '10.77.0.50'\npool_last = '10.77.0.99'\n{more}\
         [wan]\ninterface = 'wan0'\nup_kbit = 20000\ndown_kbit = 20000\n",
        folder.display()
    );
    fs::write(folder.join("edge.toml"), text).unwrap();
}

fn wait_for(what: &str, edge: &Edge, done: impl Fn(&Edge) -> bool) {
    let began = Instant::now();
    while !done(edge) {
        assert!(began.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}\n{}", edge.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

fn is_running(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn the_side_that_talks_to_the_network_has_no_rights_and_the_other_few() {
    let mut edge = Edge::start();
    let (parent, child) = (edge.parent.id(), edge.wire_side().unwrap());
    assert_eq!(edge.status(child, "CapEff"), "0000000000000000");
    assert_eq!(edge.status(child, "CapPrm"), "0000000000000000");
    assert!(!edge.status(child, "Uid").split_whitespace().any(|uid| uid == "0"));
    assert_eq!(edge.status(parent, "CapEff"), format!("{:016x}", 1_u64 << 12), "CAP_NET_ADMIN alone");
    for pid in [parent, child] {
        assert_eq!(edge.status(pid, "NoNewPrivs"), "1");
        assert_eq!(edge.status(pid, "Seccomp"), "2");
    }
    let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap();
    assert!(!line.contains("slj1_"), "no secret in argv: {line}");
    assert!(edge.ruleset().contains("admitted4"), "deny-all is in force before the network is heard");
    kill("-TERM", parent);
    assert!(edge.ended().success(), "{}", edge.log());
    assert!(!is_running(child));
    assert!(edge.ruleset().contains("admitted4"), "deny-all stays");
    assert!(!edge.log().contains("ERROR"), "{}", edge.log());
}

#[test]
fn when_the_wire_side_dies_the_edge_ends_with_an_error() {
    let mut edge = Edge::start();
    kill("-KILL", edge.wire_side().unwrap());
    assert_eq!(edge.ended().code(), Some(1), "{}", edge.log());
    assert!(edge.log().contains("everybody is staged"), "{}", edge.log());
}

#[test]
fn when_the_kernel_writer_dies_the_wire_side_ends() {
    let edge = Edge::start();
    let child = edge.wire_side().unwrap();
    kill("-KILL", edge.parent.id());
    wait_for("the wire side to end", &edge, |_| !is_running(child));
}

#[test]
fn a_wrong_configuration_is_refused_before_anything_happens() {
    let folder = tempfile::tempdir().unwrap();
    for (more, named) in [
        ("lease_second = 5\n", "lease_seconds"),
        ("lease_seconds = 'long'\n", "lease_seconds"),
        ("resolver = '10.77.0.1:53'\n", "lan.resolver"),
    ] {
        config(folder.path(), more);
        for check in [&["--check"][..], &[]] {
            let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
            sluice.args(["edge", "--config"]).arg(folder.path().join("edge.toml")).args(check);
            let output = sluice.output().unwrap();
            assert_eq!(output.status.code(), Some(64));
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(error.contains(named), "{error} should name {named}");
        }
    }
    config(folder.path(), "");
    let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
    let output = sluice.args(["edge", "--check", "--config"]).arg(folder.path().join("edge.toml")).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("lease_seconds = 3600") && !text.contains("slj1_"), "{text}");
}

#[test]
fn the_wire_side_cannot_be_started_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "");
    let mut sluice = Command::new(env!("CARGO_BIN_EXE_sluice"));
    sluice.args(["edge", "--wire-side", "--config"]).arg(folder.path().join("edge.toml")).stdin(Stdio::null());
    let output = sluice.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("only for the edge itself"));
}
