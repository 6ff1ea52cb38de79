//! The built command as control: first owner, break-glass, crash, backup and restore, what it gives up.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod real_control;

use std::{
    fs,
    io::Write,
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use real_control::{PATIENCE, World, kept_keys, said};

#[test]
fn the_first_owner_gets_in_once_and_init_never_again() {
    let world = World::owned();
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("owner.link"), mode("owner.token")), (0o600, 0o600));
    let again = world.claim("owner.link", "second.token");
    assert!(!again.status.success() && said(&again).contains("used"), "{}", said(&again));
    assert!(!world.path("second.token").exists());
    let init = world.control(&["init"]);
    assert!(!init.status.success() && said(&init).contains("not empty"), "{}", said(&init));
    world.tenant();
}

#[test]
fn refused_configurations_say_where_and_end_with_64() {
    let world = World::new();
    let good = fs::read_to_string(world.path("control.toml")).unwrap();
    for (from, to, named) in [
        ("trust_domain", "trust_domian", "`trust_domain`"),
        ("\"pages.sluice.test\"", "7", "pages"),
        ("[names]", "user = 3\n[names]", "user"),
        ("pages.sluice.test", "node.sluice.test", "different"),
    ] {
        fs::write(world.path("control.toml"), good.replace(from, to)).unwrap();
        for words in [&[][..], &["--check"], &["init"]] {
            let output = world.control(words);
            assert_eq!(output.status.code(), Some(64), "{}", said(&output));
            assert!(said(&output).contains(named), "{named}: {}", said(&output));
        }
    }
    assert!(!world.home.exists(), "a refused configuration changed something");
    fs::write(world.path("control.toml"), good).unwrap();
    let unmade = world.control(&[]);
    assert_eq!(unmade.status.code(), Some(1), "{}", said(&unmade));
    assert!(said(&unmade).contains("init"), "{}", said(&unmade));
}

#[test]
fn a_new_owner_link_comes_over_the_local_socket_only_and_is_audited() {
    let world = World::owned();
    let link = world.control(&["owner-link"]);
    assert!(link.status.success(), "{}", said(&link));
    fs::write(world.path("new.link"), &link.stdout).unwrap();
    let claimed = world.claim("new.link", "new.token");
    assert!(claimed.status.success(), "{}", said(&claimed));
    let acts = world.good(&["audit", "show"]).to_string();
    assert!(acts.contains("owner.link") && acts.contains("control.init"), "{acts}");
    if geteuid().is_root() {
        let config = world.path("control.toml");
        // A stranger cannot walk to where the tests were built when that is root's home.
        let program = world.path("sluice");
        fs::copy(env!("CARGO_BIN_EXE_sluice"), &program).unwrap();
        let stranger = || {
            let mut command = Command::new(&program);
            command.args(["control", "owner-link", "--config"]).arg(&config).stdin(Stdio::null());
            command
        };
        let mut nobody = stranger();
        let refused = nobody.uid(65_534).gid(65_534).output().unwrap();
        assert!(!refused.status.success(), "a stranger got: {}", said(&refused));
        // Even with the door's mode opened by mistake, the peer's credentials decide.
        fs::set_permissions(world.home.join("control.sock"), fs::Permissions::from_mode(0o666)).unwrap();
        let mut other = stranger();
        let refused = other.uid(54_321).gid(54_321).output().unwrap();
        assert!(!refused.status.success() && !said(&refused).contains("slo1_"), "{}", said(&refused));
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let mut world = World::owned();
    world.tenant();
    let mut acknowledged = vec!["branch".to_owned()];
    for round in 0..3 {
        let pid = Pid::from_raw(world.pid().try_into().unwrap());
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(150 + 97 * round));
            kill(pid, Signal::SIGKILL).unwrap();
        });
        for number in 0.. {
            let site = format!("site-{round}-{number}");
            if !world.admin(&["site", "add", &site, "--tenant", "acme", "--name", "x"]).status.success() {
                break;
            }
            acknowledged.push(site);
        }
        killer.join().unwrap();
        world.running.take().unwrap().wait().unwrap();
        world.start();
    }
    let sites = world.good(&["site", "list", "--tenant", "acme"]).to_string();
    let lost: Vec<_> = acknowledged.iter().filter(|site| !sites.contains(&format!("\"{site}\""))).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(world.good(&["audit", "verify", "--tenant", "acme"])["intact"], true);
}

#[test]
fn control_and_wallet_are_confined_processes_of_their_own_and_end_by_sigterm() {
    let mut world = World::owned();
    let pid = world.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let wallet: u32 = children.split_whitespace().next().expect("the wallet's process").parse().unwrap();
    let status = |pid: u32, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    for process in [pid, wallet] {
        assert_eq!(status(process, "NoNewPrivs:"), "1");
        assert_eq!(status(process, "Seccomp:"), "2");
        assert_eq!(status(process, "CapEff:"), "0000000000000000");
        assert_eq!(status(process, "CapBnd:"), "0000000000000000");
    }
    assert_eq!(fs::read(format!("/proc/{wallet}/environ")).unwrap(), b"", "the wallet's environment is empty");
    if geteuid().is_root() {
        assert_ne!(status(pid, "Uid:"), "0");
        assert_ne!(status(pid, "Uid:"), status(wallet, "Uid:"));
    }
    // As a supervisor does, which tells every process of a service.
    kill(Pid::from_raw(wallet.try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(world.end(Signal::SIGTERM).success());
    assert!(!Path::new(&format!("/proc/{wallet}")).exists(), "the wallet is left over");
    assert!(!world.log().contains("ERROR"), "{}", world.log());
}

#[test]
fn the_wallet_ends_when_control_is_killed() {
    let mut world = World::owned();
    let pid = world.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let wallet: u32 = children.split_whitespace().next().unwrap().parse().unwrap();
    world.end(Signal::SIGKILL);
    let begun = Instant::now();
    // Whoever inherits it may take a moment to reap it; a zombie holds no socket and no key.
    let gone = |pid: u32| {
        fs::read_to_string(format!("/proc/{pid}/status")).map_or(true, |status| status.contains("State:\tZ"))
    };
    while !gone(wallet) {
        assert!(begun.elapsed() < PATIENCE, "the wallet outlives control");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn control_ends_when_the_wallet_is_lost() {
    let mut world = World::owned();
    let pid = world.pid();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let wallet = Pid::from_raw(children.split_whitespace().next().unwrap().parse().unwrap());
    kill(wallet, Signal::SIGKILL).unwrap();
    let mut control = world.running.take().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = control.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "control goes on without a wallet");
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(1));
    assert!(world.log().contains("lost the wallet"), "{}", world.log());
    world.start();
}

#[test]
fn random_bytes_on_the_port_change_nothing() {
    let world = World::owned();
    world.tenant();
    for seed in 0_u32..64 {
        let mut stream = TcpStream::connect(world.address).unwrap();
        let noise: Vec<u8> =
            (0..997_u32).map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13).to_le_bytes()[0]).collect();
        let start: &[u8] = if seed % 2 == 0 { &[0x16, 0x03, 0x01, 0x02, 0x00] } else { b"GET / HTTP/1.1\r\n" };
        // The other side may close at the first wrong byte.
        let _sent = stream.write_all(start).and_then(|()| stream.write_all(&noise[..(seed as usize * 13) % 997]));
    }
    assert_eq!(world.good(&["site", "list", "--tenant", "acme"])["items"].as_array().unwrap().len(), 1);
    assert!(!world.log().contains("ERROR") && !world.log().contains("panicked"), "{}", world.log());
}

#[test]
fn a_backup_restores_whole_and_raises_the_epoch() {
    let mut world = World::owned();
    world.tenant();
    world.good(&["hub", "add", "hub-1", "--tenant", "acme", "--site", "branch"]);
    let before = world.good(&["tenant", "show", "acme"]);
    let archive = world.path("backup.tar");
    let to = archive.to_str().unwrap();
    let made = world.control(&["backup", "--to", to]);
    assert!(made.status.success(), "{}", said(&made));
    assert_eq!(fs::metadata(&archive).unwrap().permissions().mode() & 0o777, 0o600);
    let again = world.control(&["backup", "--to", to]);
    assert!(!again.status.success(), "an existing file was overwritten");
    // No key, and nothing readable: neither the KEKs' bytes nor a name that only the store knows.
    let bytes = fs::read(&archive).unwrap();
    let kek = fs::read(world.home.join("keystore/kek")).unwrap();
    let wallet_kek = fs::read(world.home.join("wallet/kek")).unwrap();
    for secret in [kek.as_slice(), wallet_kek.as_slice(), b"hub-1", b"login.acme.test"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    }
    let full = world.control(&["restore", "--from", to]);
    assert!(!full.status.success() && said(&full).contains("overwrites nothing"), "{}", said(&full));
    assert!(world.end(Signal::SIGTERM).success());
    let second = world.path("second");
    kept_keys(&world.home, &second);
    world.configure(&second);
    let restored = world.control(&["restore", "--from", to]);
    assert!(restored.status.success(), "{}", said(&restored));
    world.home = second;
    world.start();
    let after = world.good(&["tenant", "show", "acme"]);
    assert!(after["policy_epoch"].as_u64() > before["policy_epoch"].as_u64(), "{after}");
    assert_eq!((&after["hub_root"], &after["login_host"]), (&before["hub_root"], &before["login_host"]));
    assert_eq!(world.good(&["hub", "list", "--tenant", "acme"])["items"][0]["id"], "hub-1");
    assert_eq!(world.good(&["audit", "verify", "--tenant", "acme"])["intact"], true);
    assert!(world.good(&["audit", "show", "--tenant", "acme"]).to_string().contains("control.restore"));
}

#[test]
fn a_damaged_backup_or_a_wrong_keystore_restores_nothing() {
    let mut world = World::owned();
    world.tenant();
    let archive = world.path("backup.tar");
    let made = world.control(&["backup", "--to", archive.to_str().unwrap()]);
    assert!(made.status.success(), "{}", said(&made));
    assert!(world.end(Signal::SIGTERM).success());
    let good = fs::read(&archive).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() - 6 * 1024;
    flipped[middle] ^= 1;
    for (name, bytes) in
        [("flipped", &flipped[..]), ("cut", &good[..good.len() / 2]), ("empty", &[][..]), ("text", b"no tar")]
    {
        let (second, bad) = (world.path(name), world.path(&format!("{name}.tar")));
        fs::write(&bad, bytes).unwrap();
        kept_keys(&world.home, &second);
        world.configure(&second);
        let refused = world.control(&["restore", "--from", bad.to_str().unwrap()]);
        assert!(!refused.status.success(), "{name}: {}", said(&refused));
        assert!(!second.join("store").exists() && !second.join(".restore").exists(), "{name} left something behind");
    }
    // The keys of another control open nothing.
    let mut other = World::new();
    other.init();
    other.start();
    assert!(other.end(Signal::SIGTERM).success());
    let second = world.path("foreign");
    kept_keys(&other.home, &second);
    world.configure(&second);
    let refused = world.control(&["restore", "--from", archive.to_str().unwrap()]);
    assert!(!refused.status.success(), "{}", said(&refused));
    assert!(!second.join("store").exists());
}
