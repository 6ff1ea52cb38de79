//! Lists that connectors would refuse are seen before they are made.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod desk;

use desk::{NOW, fleet, node, policy};
use sluice_connector_wire::{AllowListKeeper, MAX_CALLERS, MAX_LIST_BYTES, MAX_RULES, sign_allow_list};
use sluice_control_domain::{
    capacity::TooMuch,
    compile::{ALLOW_LIST_SECONDS, Content, Fleet, connector},
};
use sluice_node_identity::Role;

fn with_resources(count: usize, host: &str) -> Fleet {
    let mut fleet = fleet(&policy());
    let one = fleet.resources[0].clone();
    let made = |number: usize| {
        let id = format!("r-{number}").parse().unwrap();
        sluice_control_domain::ResourceRecord { id, hosts: Some(host.to_owned()), ..one.clone() }
    };
    fleet.resources = (0..count).map(made).collect();
    fleet
}

#[test]
fn c5_as_many_rules_as_connectors_take_and_no_more() {
    assert_eq!(with_resources(MAX_RULES, "*.internal").fits(NOW), Ok(()));
    let over = with_resources(MAX_RULES + 1, "*.internal").fits(NOW);
    assert!(matches!(over, Err(TooMuch::Rules { rules, .. }) if rules == MAX_RULES + 1), "{over:?}");
}

#[test]
fn c5_as_many_bytes_as_connectors_take_and_no_more() {
    let host = format!("{}.internal", ["a".repeat(60).as_str(); 3].join("."));
    let mut most = None;
    for count in (500..MAX_RULES).step_by(500) {
        let fleet = with_resources(count, &host);
        match fleet.fits(NOW) {
            Ok(()) => most = Some(fleet),
            Err(TooMuch::Bytes { bytes, .. }) => {
                assert!(bytes > MAX_LIST_BYTES);
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    // What fits is taken by a connector.
    let most = most.unwrap();
    let key = policy();
    let node = node("dc-1", Role::Connector, "dc-1");
    let Content::Connector { epoch, callers, rules, .. } = connector(&most, &node, &desk::around().caller, NOW) else {
        panic!("a connector's content");
    };
    let list = sluice_connector_wire::AllowList {
        tenant: node.tenant.clone(),
        connector: node.id.clone(),
        epoch,
        version: 1,
        not_after: NOW.plus(ALLOW_LIST_SECONDS),
        callers,
        rules,
    };
    let signed = sign_allow_list(&list, &key, Vec::new()).unwrap();
    assert!(signed.jws.len() > MAX_LIST_BYTES * 3 / 4, "{} bytes: near the limit", signed.jws.len());
    AllowListKeeper::new(node.tenant, node.id, key.thumbprint(), None).offer(&signed, NOW).unwrap();
}

#[test]
fn c5_gateways_count_from_the_moment_they_are_added() {
    let mut fleet = fleet(&policy());
    let waiting = |number: usize| {
        let mut gateway = node(&format!("gw-{number}"), Role::Gateway, "dmz-1");
        gateway.binding = None;
        gateway
    };
    fleet.nodes = (0..MAX_CALLERS - 1).map(waiting).collect();
    assert_eq!(fleet.fits(NOW), Ok(()));
    fleet.nodes.push(waiting(MAX_CALLERS));
    assert_eq!(fleet.fits(NOW), Err(TooMuch::Gateways));
}
