//! The agent on a real LAN: network namespaces, `udhcpc`, the C library's resolver and `curl`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "tests"
)]

mod noise;
mod world;

use std::time::Duration;

use sluice_discovery_rules::staging::Action;
use world::{World, wait_for};

#[test]
fn e3_a_hub_is_leased_recognised_and_led_to_its_tenant() {
    let world = World::new(1);
    let lease = world.lease(0, "SluiceHub:m7");
    assert_eq!(lease["router"], "10.77.0.1");
    assert_eq!(lease["dns"], "10.77.0.1");
    let url: String = b"https://est.acme.test".iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(lease["opt43"], format!("0115{url}"));
    assert_eq!(lease["opt143"], format!("0015{url}"));
    assert_eq!(world.resolve(0, "est.acme.test"), ["192.0.2.10", "2001:db8:1::10"]);
    assert_eq!(world.resolve(0, "checkin.acme.test"), ["10.77.0.1", "2001:db8:77::1"]);
    assert_eq!(world.resolve(0, "intranet.acme.test"), [""; 0], "staging learns no other name");
    let hint = world.curl(0, &["http://checkin.acme.test/.well-known/sluice/discovery"]);
    assert!(hint.contains("\"tenant\":\"acme\"") && hint.ends_with("200"), "{hint}");
    let other = world.lease(0, "MSFT 5.0");
    assert_eq!(other.get("opt43"), None, "not a hub: told nothing");
    assert_eq!(other["ip"], lease["ip"], "the same device, the same address");
}

#[test]
fn e7_a_check_in_admits_both_families_is_reported_and_revocation_stages_again() {
    let world = World::new(1);
    let address = world.lease(0, "SluiceHub:m7")["ip"].clone();
    let v6 = world.global_v6(0);
    let refused = world.check_in(0, "hub-1");
    assert!(refused.contains("not_enrolled") && refused.ends_with("403"), "{refused}");
    assert_eq!(world.admitted(), [""; 0]);

    world.enrol("hub-1", true);
    let answer = world.check_in(0, "hub-1");
    assert!(answer.contains("\"admitted\":true") && answer.ends_with("200"), "{answer}");
    let mac = world.mac(0);
    wait_for("both addresses", || world.admitted() == [format!("{mac} {address}"), format!("{mac} {v6}")]);
    wait_for("the report", || world.reports().iter().any(|seen| seen.hub.as_str() == "hub-1" && seen.mac == mac));

    world.enrol("hub-1", false);
    world.handle.review().unwrap();
    wait_for("staging", || world.admitted().is_empty());
    assert!(world.check_in(0, "hub-1").ends_with("403"));
    assert!(world.actions().iter().any(|action| matches!(action, Action::Restage { .. })));
}

#[test]
fn e7_a_revocation_in_the_middle_of_a_check_in_is_not_lost() {
    let world = World::new(1);
    world.lease(0, "SluiceHub:m7");
    world.enrol("hub-1", true);
    world.revoke_amid_check_in("hub-1");
    world.check_in(0, "hub-1");
    assert!(world.check_in(0, "hub-1").ends_with("403"));
    wait_for("staging", || world.admitted().is_empty());
}

#[test]
fn only_certificates_of_the_tenants_hub_root_that_name_a_hub_are_heard() {
    let world = World::new(1);
    world.lease(0, "SluiceHub:m7");
    for id in ["foreign", "other-tenant", "node", "hub-1"] {
        world.enrol(id, true);
    }
    for id in ["foreign", "other-tenant", "node"] {
        let answer = world.check_in(0, id);
        assert!(answer.ends_with("000"), "{id}: the connection must end without an answer: {answer}");
    }
    let nobody = world.curl(0, &["-X", "POST", "https://checkin.acme.test/.well-known/sluice/checkin"]);
    assert!(nobody.ends_with("401"), "{nobody}");
    let plain = world.curl(0, &["-X", "POST", "http://checkin.acme.test/.well-known/sluice/checkin"]);
    assert!(plain.ends_with("404"), "{plain}");
    assert_eq!(world.actions(), []);
}

#[test]
fn one_certificate_on_two_devices_stages_both() {
    let world = World::new(2);
    world.enrol("hub-1", true);
    world.enrol("hub-2", true);
    for n in 0..2 {
        world.lease(n, "SluiceHub:m7");
        assert!(world.check_in(n, &format!("hub-{}", n + 1)).ends_with("200"));
    }
    let answer = world.check_in(1, "hub-1");
    assert!(answer.contains("conflict") && answer.ends_with("409"), "{answer}");
    wait_for("both staged", || world.admitted().is_empty());
    for n in 0..2 {
        assert!(world.check_in(n, &format!("hub-{}", n + 1)).ends_with("409"), "held for a while");
    }
}

#[test]
fn a_lease_given_back_stages_its_device() {
    let world = World::new(1);
    world.enrol("hub-1", true);
    let address = world.lease(0, "SluiceHub:m7")["ip"].clone();
    assert!(world.check_in(0, "hub-1").ends_with("200"));
    let mac = world.mac(0);
    world.release(0, &address);
    wait_for("the IPv4 address to be staged", || !world.admitted().contains(&format!("{mac} {address}")));
}

#[test]
fn g7_names_beyond_the_lan_are_resolved_for_admitted_hubs_only() {
    let world = World::new(1);
    world.enrol("hub-1", true);
    world.lease(0, "SluiceHub:m7");
    for options in ["timeout:5", "use-vc"] {
        assert_eq!(world.resolve_by(0, "intranet.acme.test", options), [""; 0], "{options}");
        assert_eq!(world.resolve_by(0, "est.acme.test", options).len(), 2, "{options}");
    }
    assert!(world.check_in(0, "hub-1").ends_with("200"));
    for options in ["timeout:5", "use-vc"] {
        let mut found = Vec::new();
        wait_for("the resolver to be up", || {
            found = world.resolve_by(0, "intranet.acme.test", options);
            !found.is_empty()
        });
        assert_eq!(found, ["192.0.2.55"], "{options}");
    }
}

#[test]
fn noise_on_every_port_changes_nothing() {
    let world = World::new(1);
    world.enrol("hub-1", true);
    let address = world.lease(0, "SluiceHub:m7")["ip"].clone();
    world.global_v6(0);
    let sent = noise::everywhere(world.hub(0), 400);
    assert!(sent > 1000, "only {sent} got through: nothing is proved");
    assert_eq!(world.actions(), []);
    assert_eq!(world.lease(0, "SluiceHub:m7")["ip"], address);
    assert_eq!(world.resolve(0, "checkin.acme.test").len(), 2);
    let answer = world.check_in(0, "hub-1");
    assert!(answer.ends_with("200"), "{answer}");
}

#[test]
fn a_refused_document_changes_nothing() {
    let world = World::new(1);
    world.lease(0, "SluiceHub:m7");
    let mut document = world::document();
    document.service.est_host = "not a name".into();
    assert!(world.put(document).unwrap_err().contains("est_host"));
    let mut document = world::document();
    document.site = "refused-by-kernel".parse().unwrap();
    document.service.est_addresses = vec!["192.0.2.99".parse().unwrap()];
    assert_eq!(world.put(document), Err("the kernel says no".to_owned()));
    assert_eq!(world.resolve(0, "est.acme.test"), ["192.0.2.10", "2001:db8:1::10"]);
}

#[test]
fn a_kernel_writer_that_fails_ends_the_agent() {
    let mut world = World::new(1);
    world.enrol("hub-1", true);
    world.lease(0, "SluiceHub:m7");
    world.break_kernel();
    let answer = world.check_in(0, "hub-1");
    assert!(!answer.ends_with("200"), "{answer}");
    let ended = world.ended(Duration::from_secs(20));
    assert!(ended.unwrap_err().contains("kernel writer"));
}
