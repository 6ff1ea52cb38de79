//! Exceptions on connectors' lists and in gateways' documents, for as long as they hold and no longer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod desk;

use desk::{Desk, NOW, around, fleet, policy};
use sluice_connector_wire::{AllowListKeeper, AllowRule, ConnectorDocument, MAX_EXCEPTION, Ports};
use sluice_control_domain::{
    AppPlace, ExceptionRecord,
    compile::{Content, Fleet, content},
    reachable,
};
use sluice_gateway_access::Upstream;
use sluice_node_identity::UnixTime;

fn exception(id: &str, resource: &str, target: &str, callers: &[&str], seconds: u64) -> ExceptionRecord {
    ExceptionRecord {
        tenant: "acme".parse().unwrap(),
        id: id.parse().unwrap(),
        site: "dc-1".parse().unwrap(),
        resource: resource.parse().unwrap(),
        target: target.parse().unwrap(),
        networks: vec![],
        callers: callers.iter().map(|id| (*id).to_owned()).collect(),
        made: NOW,
        until: NOW.plus(seconds),
        why: "repair".into(),
        by: "token/0".into(),
    }
}

fn rules(fleet: &Fleet, now: UnixTime) -> Vec<AllowRule> {
    match content(fleet, &fleet.nodes[2], &around(), now) {
        Content::Connector { rules, .. } => rules,
        other => panic!("{other:?}"),
    }
}

fn places(fleet: &Fleet, now: UnixTime) -> Vec<(String, String)> {
    let Content::Gateway(document) = content(fleet, &fleet.nodes[0], &around(), now) else { panic!() };
    let place = |app: sluice_gateway_access::App| match app.upstream {
        Upstream::Resource { resource, target, .. } => Some((resource.to_string(), target)),
        _ => None,
    };
    document.apps.into_iter().filter_map(place).collect()
}

#[test]
fn c5_a_resources_rule_says_hosts_ports_and_hours() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    let resource = &mut fleet.resources[0];
    resource.hosts = Some("*.internal".into());
    resource.ports = Some(Ports { from: 8917, to: 8920 });
    resource.times = vec!["mon-fri 06:00-18:00".parse().unwrap()];
    let rule = rules(&fleet, NOW).remove(0);
    assert_eq!((rule.host.as_str(), rule.ports.to), ("*.internal", 8920));
    assert_eq!((rule.times.len(), rule.exception, rule.name()), (1, None, "tracker"));
}

#[test]
fn g7_an_exception_stands_on_the_list_while_it_holds_and_the_next_list_is_without_it() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    let anchor = policy.thumbprint();
    fleet.exceptions.push(exception("x-1", "x-1", "tcp:pump.internal:22", &["control", "gw-9"], 3600));
    let elsewhere = ExceptionRecord { site: "dc-2".parse().unwrap(), ..fleet.exceptions[0].clone() };
    fleet.exceptions.push(elsewhere);
    let with = rules(&fleet, NOW);
    assert_eq!(with.len(), 2);
    assert_eq!((with[1].name(), with[1].callers.as_slice()), ("exception/x-1", ["control".to_owned()].as_slice()));
    assert_eq!(with[1].exception.unwrap().until, NOW.plus(3600));

    let mut desk = Desk::new(policy, fleet.nodes[2].clone());
    let mut keeper = AllowListKeeper::new(fleet.tenant.id.clone(), "dc-1".parse().unwrap(), anchor, None);
    let mut offer = |desk: &mut Desk, now: UnixTime| {
        let made = desk.revise(&fleet, 0, now)?;
        let document: ConnectorDocument = serde_json::from_value(made.envelope.document).unwrap();
        keeper.offer(&document.allow_list, now).expect("the connector takes it");
        Some(keeper.current().unwrap().list().rules.len())
    };
    assert_eq!(offer(&mut desk, NOW), Some(2));
    assert_eq!(offer(&mut desk, NOW.plus(3599)), None);
    // Nobody deleted the record, and still the list is written without it.
    assert_eq!(offer(&mut desk, NOW.plus(3600)), Some(1));
}

#[test]
fn g7_an_exception_lends_a_resource_or_is_one_of_its_own() {
    let policy = policy();
    let mut fleet = fleet(&policy);
    fleet.resources[0].for_users = false;
    assert!(places(&fleet, NOW).is_empty());
    // The resource's own target, for the gateway: its app is published meanwhile.
    fleet.exceptions = vec![exception("x-1", "tracker", "tcp:tracker.internal:8917", &["gw-1"], 60)];
    let tracker = ("tracker".to_owned(), "tcp:tracker.internal:8917".to_owned());
    assert_eq!(places(&fleet, NOW), [tracker]);
    assert!(places(&fleet, NOW.plus(60)).is_empty());
    // Another target does not make the resource's own one reachable; another gateway does not get it.
    fleet.exceptions = vec![exception("x-1", "tracker", "tcp:tracker.internal:22", &["gw-1"], 60)];
    assert!(places(&fleet, NOW).is_empty());
    fleet.exceptions = vec![exception("x-1", "tracker", "tcp:tracker.internal:8917", &["gw-2"], 60)];
    assert!(places(&fleet, NOW).is_empty());
    // An app that names the exception itself.
    fleet.apps[0].place = AppPlace::Resource { resource: "x-7".parse().unwrap(), host_header: None };
    fleet.exceptions = vec![exception("x-7", "x-7", "tcp:pump.internal:80", &["gw-1"], 60)];
    assert_eq!(places(&fleet, NOW), [("x-7".to_owned(), "tcp:pump.internal:80".to_owned())]);
    assert!(places(&fleet, NOW.plus(60)).is_empty());
}

#[test]
fn g7_control_itself_may_ask_only_while_an_exception_lends_it() {
    let policy = policy();
    let mut resource = fleet(&policy).resources.remove(0);
    resource.for_control = false;
    let (id, own) = (resource.id.clone(), "x-1".parse().unwrap());
    let lent = [exception("x-0", "tracker", "tcp:tracker.internal:8917", &["control"], 60)];
    let alone = [exception("x-1", "x-1", "tcp:pump.internal:22", &["control"], 60)];
    assert_eq!(reachable(&id, Some(&resource), &[], NOW), None);
    assert_eq!(reachable(&id, Some(&resource), &lent, NOW).unwrap().1, resource.target);
    assert_eq!(reachable(&id, Some(&resource), &lent, NOW.plus(60)), None);
    assert_eq!(reachable(&own, None, &alone, NOW).unwrap().1.to_string(), "tcp:pump.internal:22");
    assert_eq!(reachable(&own, None, &alone, NOW.plus(60)), None);
    assert_eq!(reachable(&id, None, &lent, NOW), None, "one that widens is no resource of its own");
    let users = [exception("x-1", "x-1", "tcp:pump.internal:22", &["gw-1"], MAX_EXCEPTION)];
    assert_eq!(reachable(&own, None, &users, NOW), None);
}
