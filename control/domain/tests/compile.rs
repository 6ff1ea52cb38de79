//! Documents: made from the right tenant's records, versioned by content, readable by the roles that get them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod desk;

use desk::{Desk, NOW, around, fleet, node, policy};
use proptest::prelude::*;
use sluice_connector_wire::{AllowListKeeper, ConnectorDocument};
use sluice_control_domain::compile::{ALLOW_LIST_SECONDS, Content, EVERYONE, Fleet, content, with_session_key};
use sluice_discovery_rules::EdgeDocument;
use sluice_gateway_access::{GatewayDocument, Plan, Upstream};
use sluice_node_identity::{Lock, Role};

#[test]
fn every_role_can_use_its_document() {
    let policy = policy();
    let fleet = fleet(&policy);
    let mut desk = Desk::new(policy, fleet.nodes[0].clone());
    let mut envelope = desk.revise(&fleet, 0, NOW).unwrap().envelope;
    with_session_key(&mut envelope, "A".repeat(43));
    let document: GatewayDocument = serde_json::from_value(envelope.document).unwrap();
    let hosts: Vec<_> = document.apps.iter().map(|app| app.host.as_str()).collect();
    assert_eq!(hosts, ["feed.acme.test", "tracker.acme.test"]);
    assert_eq!(document.apps[0].groups, [EVERYONE], "the feed is for every account, in a group or not");
    Plan::try_from(document).expect("the gateway takes it");

    let mut desk = Desk::new(self::policy(), fleet.nodes[1].clone());
    let envelope = desk.revise(&fleet, 0, NOW).unwrap().envelope;
    let document: EdgeDocument = serde_json::from_value(envelope.document).unwrap();
    assert_eq!(document.service.discovery_url, "https://est.acme.test");
    assert_eq!((document.staging[0].address.to_string().as_str(), document.staging[0].port), ("192.0.2.1", 443));
}

#[test]
fn c5_a_list_is_signed_anew_at_half_life_and_always_goes_forward() {
    let policy = policy();
    let fleet = fleet(&policy);
    let anchor = policy.thumbprint();
    let mut desk = Desk::new(policy, fleet.nodes[2].clone());
    let mut keeper = AllowListKeeper::new(fleet.tenant.id.clone(), "dc-1".parse().unwrap(), anchor, None);
    let half = ALLOW_LIST_SECONDS / 2;
    let mut made = 0;
    for at in [0, half - 1, half, half + 5, 2 * half, 5 * half] {
        let now = NOW.plus(at);
        if let Some(record) = desk.revise(&fleet, 0, now) {
            made += 1;
            let document: ConnectorDocument = serde_json::from_value(record.envelope.document).unwrap();
            keeper.offer(&document.allow_list, now).expect("the connector takes it");
        }
    }
    assert_eq!(made, 4);
}

#[test]
fn what_is_locked_or_unreachable_is_left_out() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    let apps = |fleet: &Fleet| match content(fleet, &fleet.nodes[0], &around(), NOW) {
        Content::Gateway(document) => document.apps.len(),
        other => panic!("{other:?}"),
    };
    let list = |fleet: &Fleet| match content(fleet, &fleet.nodes[2], &around(), NOW) {
        Content::Connector { gateways, callers, rules, .. } => {
            (gateways.len(), callers.len(), rules[0].callers.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(apps(&fleet), 2);
    assert_eq!(list(&fleet), (1, 1, vec!["gw-1".to_owned(), "control".to_owned()]));
    let mut twin = fleet.gateways[0].clone();
    twin.id = "gw-2".parse().unwrap();
    fleet.gateways.push(twin);
    fleet.nodes.push(node("gw-2", Role::Gateway, "dmz-1"));
    assert_eq!(list(&fleet).1, 1, "a second gateway with the first one's key does not spoil the list");
    for at in [0, 2] {
        fleet.nodes[at].binding.as_mut().unwrap().lock = Some(Lock::Revoked { at: NOW });
    }
    assert_eq!(apps(&fleet), 1, "no connector stands at the app's site");
    fleet.gateways.truncate(1);
    assert_eq!(list(&fleet), (1, 0, vec!["control".to_owned()]), "a locked gateway may call nobody");
    fleet.resources[0].for_control = false;
    assert!(list(&fleet).2.is_empty());
}

#[test]
fn an_app_at_a_private_resource_is_not_published() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    fleet.resources[0].for_users = false;
    let Content::Gateway(document) = content(&fleet, &fleet.nodes[0], &around(), NOW) else { panic!() };
    assert!(document.apps.iter().all(|app| !matches!(app.upstream, Upstream::Resource { .. })));
}

proptest! {
    #[test]
    fn versions_rise_exactly_with_content(steps in prop::collection::vec((0..3_u8, 0..5_000_u64, any::<bool>()), 1..20)) {
        let policy = policy();
        let mut fleet = fleet(&policy);
        let mut desk = Desk::new(policy, fleet.nodes[1].clone());
        let (mut now, mut version, mut name) = (NOW, 0, None);
        for (host, wait, lost) in steps {
            now = now.plus(wait);
            fleet.tenant.checkin_host = format!("checkin-{host}.acme.test");
            // The node may know a version that a restored control has lost.
            let seen = if lost { version + 3 } else { version };
            let changed = name.replace(host) != Some(host);
            match desk.revise(&fleet, seen, now) {
                Some(made) => {
                    prop_assert!(changed || (lost && seen <= now.0 + 86_400));
                    prop_assert!(made.envelope.version > version);
                    prop_assert!(!lost || made.envelope.version > seen);
                    version = made.envelope.version;
                }
                None => prop_assert!(!changed && !lost),
            }
        }
    }
}
