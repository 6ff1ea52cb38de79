//! The walls of the floor plan, checked on the real dependency graph.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{fs, path::Path, process::Command};

/// Crates without sockets, files, clocks or randomness of their own.
const PURE: [&str; 15] = [
    "connector/webproxy",
    "connector/wire",
    "control/domain",
    "control/enroll",
    "control/feed",
    "control/pki",
    "control/sync",
    "control/wallet",
    "discovery/rules",
    "gateway/access",
    "node/hello",
    "node/identity",
    "node/places",
    "node/reach",
    "qos/plan",
];

/// What would let I/O into them.
const SHELL_ONLY: [&str; 7] = ["tokio", "mio", "socket2", "rusqlite", "hyper", "async-std", "smol"];

/// Longest source file.
const LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Names of everything `folder`'s crate depends on outside its tests, itself included.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = root().join(folder).join("Cargo.toml");
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "-e", "normal", "--prefix", "none", "--format", "{p}"])
        .arg("--manifest-path")
        .arg(&manifest)
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{folder}: {}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn pure_crates_depend_on_nothing_that_does_io() {
    for folder in PURE {
        let found = dependencies(folder);
        assert!(!found.is_empty(), "{folder} has an empty tree");
        let bad: Vec<_> = found.iter().filter(|name| SHELL_ONLY.contains(&name.as_str())).collect();
        assert!(bad.is_empty(), "pure crate {folder} depends on {bad:?}");
    }
}

#[test]
fn the_check_sees_a_shell_for_what_it_is() {
    assert!(dependencies("gateway/proxy").iter().any(|name| name == "tokio"));
}

/// A lower floor never depends on a higher one, and a pure crate never on one of our shells.
#[test]
fn no_arrow_runs_up() {
    let floor = |name: &str| {
        let floors = ["sluice-node-", "sluice-connector-", "sluice-discovery-", "sluice-qos-", "sluice-gateway-"];
        match floors.iter().position(|prefix| name.starts_with(prefix)) {
            Some(0) => Some(0),
            Some(4) => Some(2),
            Some(_) => Some(1),
            None => name.starts_with("sluice-control-").then_some(3),
        }
    };
    let is_pure = |name: &str| PURE.iter().any(|pure| name == format!("sluice-{}", pure.replace('/', "-")));
    for folder in PURE {
        let own = format!("sluice-{}", folder.replace('/', "-"));
        for name in dependencies(folder).iter().filter(|name| name.starts_with("sluice-")) {
            assert!(floor(name) <= floor(&own), "{own} depends on {name}, a floor above it");
            assert!(is_pure(name), "pure crate {own} depends on the shell {name}");
        }
    }
}

#[test]
fn every_pure_crate_bans_the_clock_by_lint() {
    for folder in PURE {
        let file = root().join(folder).join("clippy.toml");
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for call in ["std::time::Instant::now", "std::time::SystemTime::now", "std::fs::read"] {
            assert!(text.contains(call), "{} does not ban {call}", file.display());
        }
    }
}

#[test]
fn no_source_file_is_longer_than_500_lines() {
    let listed = Command::new("git").args(["ls-files", "*.rs"]).current_dir(root()).output().unwrap();
    assert!(listed.status.success(), "git ls-files failed");
    for name in String::from_utf8(listed.stdout).unwrap().lines() {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        let lines = text.lines().count();
        assert!(lines <= LINES, "{name} has {lines} lines, more than {LINES}");
    }
}
