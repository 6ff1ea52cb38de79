#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
//! Each test runs again as a process of its own, because confinement cannot be undone.

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Command,
};

use caps::{CapSet, Capability};

use super::{Profile, User, apply, put_in_force};

const ALONE: &str = "SLUICE_TEST_CONFINED";

/// True in the inner run; the outer one only checks how that went.
fn alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", &format!("confine::tests::{test}"), "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its own process");
    false
}

fn status_line(name: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_confined_role_keeps_its_folder_and_its_sockets_and_nothing_else() {
    if !alone("a_confined_role_keeps_its_folder_and_its_sockets_and_nothing_else") {
        return;
    }
    let own = tempfile::tempdir().unwrap();
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("secret"), "s").unwrap();
    put_in_force(&Profile { role: "test", write: vec![own.path().to_owned()], ..Profile::default() }).unwrap();

    fs::write(own.path().join("a"), "1").unwrap();
    fs::rename(own.path().join("a"), own.path().join("b")).unwrap();
    assert_eq!(fs::read_to_string(own.path().join("b")).unwrap(), "1");
    assert!(fs::read(foreign.path().join("secret")).is_err());
    assert!(fs::write(foreign.path().join("new"), "x").is_err());
    assert!(fs::read("/etc/passwd").is_err());
    assert!(TcpListener::bind("127.0.0.1:0").is_ok());
    assert!(UdpSocket::bind("[::1]:0").is_ok());
    assert!(Command::new("/bin/true").status().is_err(), "nothing can be started");
    assert_eq!(status_line("NoNewPrivs"), "1");
    assert_eq!(status_line("Seccomp:"), "2");
    assert!(caps::read(None, CapSet::Permitted).unwrap().is_empty());
}

#[test]
fn a_role_that_runs_programs_may_run_only_those_and_keeps_only_the_named_capability() {
    if !alone("a_role_that_runs_programs_may_run_only_those_and_keeps_only_the_named_capability") {
        return;
    }
    let held = caps::has_cap(None, CapSet::Permitted, Capability::CAP_NET_ADMIN).unwrap();
    let profile = Profile {
        role: "test",
        run: vec![Path::new("/usr/bin/true").to_owned()],
        capabilities: vec![Capability::CAP_NET_ADMIN],
        ..Profile::default()
    };
    put_in_force(&profile).unwrap();
    assert!(Command::new("/usr/bin/true").status().unwrap().success());
    assert!(Command::new("/usr/bin/id").status().is_err());
    let now = caps::read(None, CapSet::Permitted).unwrap();
    assert_eq!(now.contains(&Capability::CAP_NET_ADMIN), held);
    assert!(now.len() <= 1, "{now:?}");
}

#[test]
fn root_becomes_the_named_user() {
    if !alone("root_becomes_the_named_user") {
        return;
    }
    assert!(nix::unistd::Uid::effective().is_root(), "the gate runs as root");
    let user = User::named("nobody").unwrap();
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("state"), "s").unwrap();
    user.own(own.path()).unwrap();
    let write = vec![own.path().to_owned()];
    put_in_force(&Profile { role: "test", write, user: Some(user), ..Profile::default() }).unwrap();
    assert!(!nix::unistd::Uid::effective().is_root());
    assert_eq!(fs::read_to_string(own.path().join("state")).unwrap(), "s");
    fs::write(own.path().join("state"), "t").unwrap();
    assert!(nix::unistd::setuid(0.into()).is_err());
}

#[test]
fn root_and_unknown_users_are_refused() {
    assert!(User::named("root").is_err());
    assert!(User::named("no-such-user-here").is_err());
}

#[test]
fn a_process_with_threads_is_refused() {
    let error = apply(&Profile::default()).unwrap_err().to_string();
    assert!(error.contains("before threads start"), "{error}");
}
