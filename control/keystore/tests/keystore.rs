//! The keystore against a real directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use proptest::prelude::*;
use sluice_control_keystore::{Keystore, KeystoreError};

fn fresh() -> (tempfile::TempDir, Keystore) {
    let dir = tempfile::tempdir().unwrap();
    let keystore = Keystore::create(&dir.path().join("ks")).unwrap();
    (dir, keystore)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn secrets_survive_reopening_and_files_are_private() {
    let (dir, keystore) = fresh();
    keystore.put("tenant/acme/data", b"one").unwrap();
    keystore.put("tenant/acme/data", b"two").unwrap();
    let ks = dir.path().join("ks");
    assert_eq!(Keystore::open(&ks).unwrap().secret("tenant/acme/data").unwrap().as_slice(), b"two");
    assert_eq!(mode(&ks), 0o700);
    for entry in fs::read_dir(&ks).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    assert!(matches!(keystore.secret("tenant/globex/data"), Err(KeystoreError::Missing(_))));
    assert!(!keystore.contains("tenant/globex/data").unwrap());
    let sealed = fs::read(ks.join("tenant.acme.data.sealed")).unwrap();
    assert!(!sealed.windows(3).any(|w| w == b"two"));
}

#[test]
fn a_second_create_is_refused_and_changes_nothing() {
    let (dir, _keystore) = fresh();
    let ks = dir.path().join("ks");
    let kek = fs::read(ks.join("kek")).unwrap();
    assert!(matches!(Keystore::create(&ks), Err(KeystoreError::Exists(_))));
    assert_eq!(fs::read(ks.join("kek")).unwrap(), kek);
    assert!(matches!(Keystore::open(dir.path()), Err(KeystoreError::NotFound(_))));
}

#[test]
fn wrong_key_exposed_key_and_swapped_files_are_told_apart() {
    let (dir, keystore) = fresh();
    let ks = dir.path().join("ks");
    keystore.put("ca/node-root", b"root").unwrap();
    keystore.put("caller/control", b"caller").unwrap();
    fs::copy(ks.join("ca.node-root.sealed"), ks.join("caller.control.sealed")).unwrap();
    assert!(matches!(keystore.secret("caller/control"), Err(KeystoreError::Damaged(_))));

    fs::set_permissions(ks.join("kek"), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Keystore::open(&ks), Err(KeystoreError::Exposed(_))));
    fs::set_permissions(ks.join("kek"), fs::Permissions::from_mode(0o600)).unwrap();
    for bad in [vec![7; 32], vec![7; 31], vec![7; 33], Vec::new()] {
        fs::write(ks.join("kek"), bad).unwrap();
        assert!(matches!(Keystore::open(&ks), Err(KeystoreError::WrongKey)));
    }
}

#[test]
fn derived_keys_differ_by_secret_and_purpose() {
    let (_dir, keystore) = fresh();
    keystore.put("tenant/a/data", &[1; 32]).unwrap();
    keystore.put("tenant/b/data", &[2; 32]).unwrap();
    let a = keystore.derive("tenant/a/data", "cards").unwrap();
    assert_eq!(*a, *keystore.derive("tenant/a/data", "cards").unwrap());
    assert_ne!(*a, *keystore.derive("tenant/a/data", "audit").unwrap());
    assert_ne!(*a, *keystore.derive("tenant/b/data", "cards").unwrap());
}

#[test]
fn names_cannot_leave_the_directory() {
    let (_dir, keystore) = fresh();
    for name in ["", "..", "../kek", "a//b", "/a", "a/", "A", "a.b", "a/../b", "a\0b"] {
        assert!(matches!(keystore.put(name, b"x"), Err(KeystoreError::BadName)), "{name:?}");
    }
    assert!(matches!(keystore.put("a", b""), Err(KeystoreError::Length)));
    assert!(matches!(keystore.put("a", &vec![0; 64 * 1024 + 1]), Err(KeystoreError::Length)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_change_to_a_sealed_file_is_noticed(secret in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<bool>()) {
        let (dir, keystore) = fresh();
        keystore.put("x", &secret).unwrap();
        let path = dir.path().join("ks/x.sealed");
        let mut file = fs::read(&path).unwrap();
        let at = at.index(file.len());
        if cut { file.truncate(at) } else { file[at] ^= flip }
        fs::write(&path, file).unwrap();
        prop_assert!(matches!(keystore.secret("x"), Err(KeystoreError::Damaged(_))));
    }

    #[test]
    fn what_goes_in_comes_out(secret in prop::collection::vec(any::<u8>(), 1..5000)) {
        let (_dir, keystore) = fresh();
        keystore.put("x", &secret).unwrap();
        let out = keystore.secret("x").unwrap();
        prop_assert_eq!(out.as_slice(), secret.as_slice());
    }
}
