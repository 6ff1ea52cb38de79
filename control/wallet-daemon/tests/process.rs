//! The wallet as a process: grants, durability, keys and their absence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    fs,
    io::{Read, Write},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use sluice_control_wallet::{Credential, Grant, Owner};
use sluice_control_wallet_daemon::{Account, Client, WalletClients, WalletError, backup, inherited, run, spawn};
use sluice_node_identity::{IntegrationId, TenantId, UserId};
use tempfile::TempDir;

/// What the script of [`program`] runs: the wallet's process.
#[test]
#[ignore = "not a test: the process that the tests start"]
fn wallet_process() {
    run(Path::new(&std::env::var("WALLET_DIR").unwrap()), inherited().unwrap()).unwrap();
}

/// A program that understands `control wallet --dir DIR`, and nothing of sluice but the wallet.
fn program(dir: &Path) -> PathBuf {
    let path = dir.join("program");
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\n[ \"$1 $2 $3\" = \"control wallet --dir\" ] || exit 64\n\
         WALLET_DIR=\"$4\" exec {} --ignored --exact wallet_process\n",
        this.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn start(dir: &TempDir) -> WalletClients {
    spawn(&program(dir.path()), &dir.path().join("wallet"), None).unwrap()
}

fn names() -> (TenantId, IntegrationId, UserId) {
    ("acme".parse().unwrap(), "roundup".parse().unwrap(), "bob".parse().unwrap())
}

fn login(password: &str) -> Credential {
    Credential::new("bob", password).unwrap()
}

#[test]
fn w3_each_socket_has_its_grant_and_no_more() {
    let dir = TempDir::new().unwrap();
    let wallet = start(&dir);
    let (tenant, integration, user) = names();
    let owner = Owner::User(user.clone());
    wallet.admin.write(&tenant, &integration, &owner, login("bobpw")).unwrap();
    wallet.admin.write(&tenant, &integration, &Owner::Service, login("servicepw")).unwrap();
    let read = wallet.actions.read_user(&tenant, &integration, &user).unwrap().unwrap();
    assert_eq!(read.expose_password(), "bobpw");
    let read = wallet.sync.read_service(&tenant, &integration).unwrap().unwrap();
    assert_eq!(read.expose_password(), "servicepw");
    assert!(matches!(wallet.admin.read_user(&tenant, &integration, &user), Err(WalletError::NotGranted)), "M11");
    assert!(matches!(wallet.admin.read_service(&tenant, &integration), Err(WalletError::NotGranted)), "M11");
    assert!(matches!(wallet.sync.read_user(&tenant, &integration, &user), Err(WalletError::NotGranted)));
    assert!(matches!(wallet.actions.read_service(&tenant, &integration), Err(WalletError::NotGranted)));
    assert!(matches!(wallet.sync.delete(&tenant, &integration, &owner), Err(WalletError::NotGranted)));
    assert!(matches!(wallet.actions.exists(&tenant, &integration, &owner), Err(WalletError::NotGranted)));
    let other: TenantId = "other".parse().unwrap();
    assert!(wallet.actions.read_user(&other, &integration, &user).unwrap().is_none(), "W2");
    assert!(wallet.actions.read_user(&tenant, &integration, &"alice".parse().unwrap()).unwrap().is_none());
    wallet.admin.delete(&tenant, &integration, &owner).unwrap();
    assert!(!wallet.admin.exists(&tenant, &integration, &owner).unwrap());
    wallet.end().unwrap();
}

#[test]
fn w1_what_was_acknowledged_survives_kill_9() {
    let dir = TempDir::new().unwrap();
    let (tenant, integration, user) = names();
    for round in 0..5 {
        let wallet = start(&dir);
        for write in 0..=round {
            let password = format!("{round}-{write}");
            wallet.admin.write(&tenant, &integration, &Owner::User(user.clone()), login(&password)).unwrap();
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(wallet.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        assert!(wallet.end().is_err());
        let wallet = start(&dir);
        let read = wallet.actions.read_user(&tenant, &integration, &user).unwrap().unwrap();
        assert_eq!(read.expose_password(), format!("{round}-{round}"));
        wallet.end().unwrap();
    }
}

#[test]
fn w2_a_stolen_database_tells_nothing_and_opens_under_no_other_key() {
    let dir = TempDir::new().unwrap();
    let (tenant, integration, user) = names();
    let wallet = start(&dir);
    wallet.admin.write(&tenant, &integration, &Owner::User(user.clone()), login("hunter2")).unwrap();
    let copy = dir.path().join("copy.db");
    backup(&dir.path().join("wallet"), &copy).unwrap();
    assert!(backup(&dir.path().join("wallet"), &copy).is_err(), "a backup overwrites nothing");
    wallet.end().unwrap();
    let bytes = fs::read(&copy).unwrap();
    for secret in ["hunter2", "bob", "roundup"] {
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    let thief = TempDir::new().unwrap();
    let theirs = start(&thief);
    theirs.admin.write(&tenant, &integration, &Owner::Service, login("x")).unwrap();
    theirs.end().unwrap();
    fs::copy(&copy, thief.path().join("wallet/wallet.db")).unwrap();
    let theirs = start(&thief);
    assert!(theirs.actions.read_user(&tenant, &integration, &user).unwrap().is_none());
    theirs.end().unwrap();
}

#[test]
fn a_missing_or_open_key_file_stops_the_start() {
    let dir = TempDir::new().unwrap();
    start(&dir).end().unwrap();
    let kek = dir.path().join("wallet/kek");
    fs::set_permissions(&kek, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(spawn(&program(dir.path()), &dir.path().join("wallet"), None).is_err());
    fs::remove_file(&kek).unwrap();
    assert!(spawn(&program(dir.path()), &dir.path().join("wallet"), None).is_err(), "no new key over old records");
    assert!(!kek.exists());
}

#[test]
fn w3_the_wallet_runs_under_its_own_account() {
    let dir = TempDir::new_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let this = std::env::current_exe().unwrap();
    let copy = dir.path().join("test");
    fs::copy(&this, &copy).unwrap();
    let script = program(dir.path());
    let text = fs::read_to_string(&script).unwrap().replace(&this.display().to_string(), &copy.display().to_string());
    fs::write(&script, text).unwrap();
    let account = Account { uid: 65_534, gid: 65_534 };
    let wallet = spawn(&script, &dir.path().join("wallet"), Some(account)).expect("needs root, like the gate");
    let status = fs::read_to_string(format!("/proc/{}/status", wallet.id())).unwrap();
    assert!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
    assert!(status.contains("\nGroups:\t \n"), "no group of control's is left: {status}");
    let (tenant, integration, user) = names();
    wallet.admin.write(&tenant, &integration, &Owner::User(user), login("pw")).unwrap();
    assert_eq!(fs::metadata(dir.path().join("wallet/wallet.db")).unwrap().permissions().mode() & 0o7077, 0);
    wallet.end().unwrap();
}

/// A wallet in this process: its clients' raw sockets.
fn served(dir: &TempDir) -> (UnixStream, UnixStream, thread::JoinHandle<anyhow::Result<()>>) {
    let (admin, a) = UnixStream::pair().unwrap();
    let (sync, s) = UnixStream::pair().unwrap();
    let path = dir.path().join("wallet");
    let fds = vec![(OwnedFd::from(a), Grant::Admin), (OwnedFd::from(s), Grant::Sync)];
    (admin, sync, thread::spawn(move || run(&path, fds)))
}

#[test]
fn broken_frames_end_one_socket_and_not_the_wallet() {
    let dir = TempDir::new().unwrap();
    let (mut admin, sync, server) = served(&dir);
    admin.write_all(&[0xff; 64]).unwrap();
    let mut rest = Vec::new();
    assert_eq!(admin.read_to_end(&mut rest).unwrap_or(0), 0, "nothing is answered");
    let sync = Client::new(sync).unwrap();
    let (tenant, integration, _) = names();
    assert!(sync.read_service(&tenant, &integration).unwrap().is_none());
    drop(sync);
    server.join().unwrap().unwrap();
}

#[test]
fn a_client_that_lost_its_place_is_never_used_again() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let client = Client::new(ours).unwrap();
    theirs.write_all(b"\0\0\0\x02??").unwrap();
    let (tenant, integration, _) = names();
    assert!(matches!(client.read_service(&tenant, &integration), Err(WalletError::Gone)));
    drop(theirs.write_all(b"\0\0\0\x13{\"answer\":\"absent\"}"));
    assert!(matches!(client.read_service(&tenant, &integration), Err(WalletError::Gone)));
}
