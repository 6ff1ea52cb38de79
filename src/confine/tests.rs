#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
//! Each test runs again as a process of its own, because confinement cannot be undone.

use std::{
    env, fs,
    net::{TcpListener, UdpSocket},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
};

use caps::{CapSet, Capability};
use nix::{errno::Errno, libc};

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
    assert!(std::os::unix::fs::symlink("/etc/shadow", own.path().join("link")).is_err(), "no links are made");
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

/// What the kernel says to a raw call.
#[expect(unsafe_code, reason = "calls that no library offers are what is tested")]
fn raw(number: libc::c_long, first: libc::c_int) -> Errno {
    // SAFETY: null pointers and plain numbers only; a child that is made by mistake ends at once.
    let answer = unsafe { libc::syscall(number, first, 0, 0, 0, 0) };
    if answer == 0 && number == libc::SYS_clone {
        std::process::exit(0);
    }
    if answer == -1 { Errno::last() } else { Errno::UnknownErrno }
}

#[test]
fn a_confined_role_makes_no_namespace_by_any_name_of_the_call() {
    if !alone("a_confined_role_makes_no_namespace_by_any_name_of_the_call") {
        return;
    }
    put_in_force(&Profile { role: "test", ..Profile::default() }).unwrap();
    assert_eq!(raw(libc::SYS_unshare, libc::CLONE_NEWUSER), Errno::EPERM);
    assert_eq!(raw(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD), Errno::EPERM);
    assert_eq!(raw(libc::SYS_clone3, 0), Errno::ENOSYS);
    // x32: the same calls under other numbers.
    assert_eq!(raw(0x4000_0000 | libc::SYS_getpid, 0), Errno::EPERM);
    std::thread::spawn(|| 7).join().expect("threads are still made");
}

#[test]
fn a_worker_signals_nobody_but_itself() {
    if !alone("a_worker_signals_nobody_but_itself") {
        return;
    }
    let (own, other) = (nix::unistd::getpid().as_raw(), nix::unistd::getppid().as_raw());
    super::worker().unwrap();
    assert_eq!(raw(libc::SYS_tgkill, other), Errno::EPERM);
    // Let through: there is no thread of number 0.
    assert_eq!(raw(libc::SYS_tgkill, own), Errno::EINVAL);
    assert_eq!(raw(libc::SYS_kill, own), Errno::EPERM);
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
fn a_link_in_a_roles_folder_gives_nothing_away() {
    assert!(nix::unistd::Uid::effective().is_root(), "the gate runs as root");
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("shadow");
    fs::write(&secret, "s").unwrap();
    type Link = fn(&Path, &Path) -> std::io::Result<()>;
    let links: [Link; 2] = [|to, at| std::os::unix::fs::symlink(to, at), |to, at| fs::hard_link(to, at)];
    for link in links {
        let own = tempfile::tempdir().unwrap();
        link(&secret, &own.path().join("state.json")).unwrap();
        assert!(User::named("nobody").unwrap().own(own.path()).is_err());
        assert_eq!(fs::metadata(&secret).unwrap().uid(), 0, "still root's");
    }
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
