//! A policy key in the customer's hands, and a control that was killed or restored meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod real_control;

use std::{fs, path::Path};

use nix::sys::signal::Signal;
use real_control::{World, kept_keys, said};

const SEALED: &str = "keystore/tenant.acme.policy.sealed";

fn adopted(world: &World, key: &Path) {
    world.good(&["policy", "key", "new", "--out", key.to_str().unwrap()]);
    world.good(&["policy", "adopt", "--tenant", "acme", "--key", key.to_str().unwrap()]);
}

#[test]
fn c5_a_control_that_ended_before_it_forgot_the_policy_key_forgets_it_when_it_starts() {
    let mut world = World::owned();
    world.tenant();
    let former = fs::read(world.home.join(SEALED)).unwrap();
    adopted(&world, &world.path("policy.pem"));
    assert!(!world.home.join(SEALED).exists());
    world.end(Signal::SIGKILL);
    // As if it had been killed a moment earlier.
    fs::write(world.home.join(SEALED), former).unwrap();
    world.start();
    assert!(!world.home.join(SEALED).exists(), "control has kept the key");
    assert!(world.log().contains("removed a policy key"), "{}", world.log());
    assert_eq!(world.good(&["policy", "show", "--tenant", "acme"])["held_by"], "customer");
}

#[test]
fn c5_a_control_restored_from_before_the_handing_over_is_given_the_key_again() {
    let mut world = World::owned();
    world.tenant();
    let (archive, key) = (world.path("backup.tar"), world.path("policy.pem"));
    let archive = archive.to_str().unwrap();
    assert!(world.control(&["backup", "--to", archive]).status.success());
    adopted(&world, &key);
    let thumbprint = world.good(&["policy", "show", "--tenant", "acme"])["thumbprint"].clone();
    assert!(world.end(Signal::SIGTERM).success());
    let second = world.path("second");
    kept_keys(&world.home, &second);
    world.configure(&second);
    let restored = world.control(&["restore", "--from", archive]);
    assert!(restored.status.success(), "{}", said(&restored));
    world.home = second;
    world.start();
    let adopt = ["policy", "adopt", "--tenant", "acme", "--key", key.to_str().unwrap()];
    let refused = world.admin(&adopt);
    assert!(!refused.status.success() && said(&refused).contains("--succession"), "{}", said(&refused));
    let step = world.path("policy.pem.succession");
    let held = world.good(&[&adopt[..], &["--succession", step.to_str().unwrap()]].concat());
    assert_eq!((&held["held_by"], &held["thumbprint"]), (&"customer".into(), &thumbprint));
}
