//! Rules one by one: ports, networks, hours, exceptions, what is refused and how it is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use serde_json::json;
use sluice_connector_wire::{
    AllowList, AllowRule, Caller, ConnectorDocument, Day, Decision, Exception, ListRefused, MAX_EXCEPTION, Ports,
    Presented, Question, Refusal, RuleFault, StreamClaims, StreamKind, Target, Verdict, WeeklyWindow, explain,
    list_changes, sign_allow_list, sign_stream_token,
};
use sluice_node_identity::UnixTime;
use world::{GATEWAY, NOW, World, ask, at};

/// Friday 2027-01-15 08:00:00 UTC.
const FRIDAY: u64 = NOW;

fn rule(resource: &str, target: &str) -> AllowRule {
    let target: Target = target.parse().unwrap();
    AllowRule::new(resource.parse().unwrap(), &target, vec![GATEWAY.to_owned()], Vec::new())
}

#[test]
fn c5_ports_networks_and_transport_are_as_the_rule_says() {
    let ranged = AllowRule { ports: Ports { from: 1433, to: 1434 }, ..rule("sql", "tcp:sql.dc.test:1433") };
    let network = AllowRule { host: "10.1.0.0/16".into(), ports: "3389".parse().unwrap(), ..rule("rdp", "tcp:x:3389") };
    let wide6 = AllowRule { host: "2001:db8:7::/48".into(), ..rule("six", "tcp:x:22") };
    let (mut world, _) = at(vec![ranged, network, wide6, rule("ntp", "udp:ntp.dc.test:123")]);
    for (resource, target) in [
        ("sql", "tcp:sql.dc.test:1433"),
        ("sql", "tcp:sql.dc.test:1434"),
        ("rdp", "tcp:10.1.255.7:3389"),
        ("six", "tcp:[2001:db8:7::1]:22"),
        ("ntp", "udp:ntp.dc.test:123"),
    ] {
        ask(&mut world, resource, target, NOW).expect(target);
    }
    for (resource, target) in [
        ("sql", "tcp:sql.dc.test:1432"),
        ("sql", "tcp:sql.dc.test:1435"),
        ("sql", "udp:sql.dc.test:1434"),
        ("rdp", "tcp:10.2.0.1:3389"),
        ("rdp", "tcp:[::ffff:10.1.0.1]:3389"),
        ("rdp", "tcp:ten-one.dc.test:3389"),
        ("six", "tcp:[2001:db8:8::1]:22"),
        ("ntp", "tcp:ntp.dc.test:123"),
        ("sql", "udp:ntp.dc.test:123"),
    ] {
        assert_eq!(ask(&mut world, resource, target, NOW).unwrap_err(), Refusal::NotAllowed, "{target}");
    }
    // A network that is the target need not be named a second time for the dial guard.
    let granted = ask(&mut world, "rdp", "tcp:10.1.0.9:3389", NOW).unwrap();
    assert_eq!(granted.networks(), ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(granted.rule(), "rdp");
}

#[test]
fn c5_hours_open_and_close_a_rule_and_tell_when() {
    let office: WeeklyWindow = "mon-fri 06:00-18:00".parse().unwrap();
    let (mut world, _) = at(vec![AllowRule { times: vec![office], ..rule("desk", "tcp:desk.dc.test:443") }]);
    let granted = ask(&mut world, "desk", "tcp:desk.dc.test:443", FRIDAY).unwrap();
    let closing = UnixTime(FRIDAY + 10 * 3600);
    assert_eq!(world.keeper.list().unwrap().next_change(&granted, UnixTime(FRIDAY)), Some(closing));
    assert!(world.keeper.list().unwrap().still_allows(&granted, UnixTime(closing.0 - 1)).is_some());
    assert_eq!(world.keeper.list().unwrap().still_allows(&granted, closing), None);
    assert_eq!(ask(&mut world, "desk", "tcp:desk.dc.test:443", closing.0).unwrap_err(), Refusal::NotAllowed);
    // Monday six o'clock, not a second before.
    let monday = closing.0 + 60 * 3600;
    ask(&mut world, "desk", "tcp:desk.dc.test:443", monday - 1).unwrap_err();
    ask(&mut world, "desk", "tcp:desk.dc.test:443", monday).unwrap();
}

#[test]
fn g7_an_exception_ends_at_its_second_also_for_what_runs_and_needs_no_new_list() {
    let until = UnixTime(NOW + 3600);
    let exception = Some(Exception { made: UnixTime(NOW), until });
    let one = AllowRule { name: "exception/x1".into(), exception, ..rule("roundup", "tcp:roundup.dc.test:22") };
    let (mut world, _) = at(vec![rule("roundup", "tcp:roundup.dc.test:8080"), one]);
    let always = ask(&mut world, "roundup", "tcp:roundup.dc.test:8080", NOW).unwrap();
    let granted = ask(&mut world, "roundup", "tcp:roundup.dc.test:22", NOW).unwrap();
    assert_eq!((always.rule(), granted.rule()), ("roundup", "exception/x1"));
    assert_eq!(world.keeper.list().unwrap().next_change(&granted, UnixTime(NOW)), Some(until));
    assert_eq!(world.keeper.list().unwrap().next_change(&always, UnixTime(NOW)), None);
    assert!(world.keeper.list().unwrap().still_allows(&granted, UnixTime(until.0 - 1)).is_some());
    assert_eq!(world.keeper.list().unwrap().still_allows(&granted, until), None);
    assert!(world.keeper.list().unwrap().still_allows(&always, until).is_some());
    assert_eq!(ask(&mut world, "roundup", "tcp:roundup.dc.test:22", until.0).unwrap_err(), Refusal::NotAllowed);
}

#[test]
fn g7_the_agent_refuses_a_list_with_an_exception_of_more_than_a_day_whoever_signed_it() {
    let offer = |made: u64, until: u64| {
        let mut world = World::new();
        let exception = Some(Exception { made: UnixTime(made), until: UnixTime(until) });
        let list = AllowList {
            version: 2,
            rules: vec![AllowRule { exception, ..rule("r", "tcp:r.dc.test:22") }],
            ..world.list.clone()
        };
        let refused = world.offer(&list).err()?;
        assert_eq!(world.keeper.list().unwrap().list(), &world.list, "a refused list changes nothing");
        let ListRefused::BadRule { rule, fault } = refused else { panic!("{refused}") };
        assert_eq!(rule, "r");
        Some(fault)
    };
    assert_eq!(offer(NOW, NOW + MAX_EXCEPTION), None);
    assert_eq!(offer(NOW, NOW + MAX_EXCEPTION + 1), Some(RuleFault::Exception(MAX_EXCEPTION + 1)));
    assert_eq!(offer(NOW, NOW), Some(RuleFault::Exception(0)));
    assert_eq!(offer(NOW + 300, NOW + 400), None);
    let future = offer(NOW + 301, NOW + 400).unwrap();
    assert_eq!(future, RuleFault::Future(301));
    assert!(future.to_string().contains("301 s") && future.to_string().contains("this connector's clock"), "{future}");
    // One that is over is no fault: it is what a connector finds on its disk after a long sleep.
    assert_eq!(offer(NOW - 2 * MAX_EXCEPTION, NOW - MAX_EXCEPTION), None);
}

#[test]
fn c5_rules_with_ports_hours_or_names_nobody_could_mean_refuse_the_whole_list() {
    let good = rule("r", "tcp:r.dc.test:22");
    let window = |days: &[Day], from, to| WeeklyWindow { days: days.to_vec(), from, to };
    let times = |windows: Vec<WeeklyWindow>| AllowRule { times: windows, ..good.clone() };
    let host = |host: &str| AllowRule { host: host.into(), ..good.clone() };
    let name = |name: &str| AllowRule { name: name.into(), ..good.clone() };
    let within = |network: &str| AllowRule { networks: vec![network.parse().unwrap()], ..good.clone() };
    let cases = [
        (AllowRule { ports: 0.into(), ..good.clone() }, RuleFault::Ports),
        (AllowRule { ports: Ports { from: 2, to: 1 }, ..good.clone() }, RuleFault::Ports),
        (within("0.0.0.0/0"), RuleFault::Network),
        (within("::/0"), RuleFault::Network),
        (within("10.1.2.3/16"), RuleFault::Network),
        (host("10.0.0.0/0"), RuleFault::Host),
        (host("0.0.0.0/0"), RuleFault::Host),
        (host("10.1.2.3/16"), RuleFault::Host),
        (host("10.1.0.0/33"), RuleFault::Host),
        (host("10.1.0.0/255.255.0.0"), RuleFault::Host),
        (host("web.test/24"), RuleFault::Host),
        (times(vec![window(&[], 0, 60)]), RuleFault::Times),
        (times(vec![window(&[Day::Tue, Day::Mon], 0, 60)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon, Day::Mon], 0, 60)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon], 60, 60)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon], 60, 1441)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon], 1440, 60)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon], 60, 0)]), RuleFault::Times),
        (times(vec![window(&[Day::Mon], 0, 1); 33]), RuleFault::Times),
        (name("a b"), RuleFault::Name),
        (name("evil\n"), RuleFault::Name),
        (name(&"x".repeat(129)), RuleFault::Name),
    ];
    for (bad, fault) in cases {
        let mut world = World::new();
        let list = AllowList { version: 2, rules: vec![bad.clone()], ..world.list.clone() };
        let refused = world.offer(&list);
        assert!(
            matches!(&refused, Err(ListRefused::BadRule { fault: found, .. }) if *found == fault),
            "{bad:?} {refused:?}"
        );
    }
    let mut world = World::new();
    let twice = AllowList { version: 2, rules: vec![name("one"), name("one")], ..world.list.clone() };
    assert!(matches!(world.offer(&twice), Err(ListRefused::BadRule { fault: RuleFault::Name, .. })));
    world.offer(&AllowList { rules: vec![name("one"), name("two"), good.clone(), good], ..twice }).unwrap();
}

#[test]
fn c4_c5_a_list_refused_for_a_wrong_clock_names_the_skew_and_whose_clock() {
    let world = World::new();
    let signed = sign_allow_list(&world.list, &world.policy, Vec::new()).unwrap();
    let behind = world.fresh_keeper(None).offer(&signed, UnixTime(NOW - 700)).unwrap_err();
    assert_eq!(behind, ListRefused::TooLong(700));
    let ahead = world.fresh_keeper(None).offer(&signed, UnixTime(world.list.not_after.0 + 700)).unwrap_err();
    for said in [behind, ahead].map(|refused| refused.to_string()) {
        assert!(said.contains("700 s") && said.contains("this connector's clock"), "{said}");
    }
    // Five minutes either way are no reason to lose a list; tokens say so at once.
    world.fresh_keeper(None).offer(&signed, UnixTime(NOW - 300)).unwrap();
    let mut world = World::new();
    let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
    let presented = Presented {
        kind: StreamKind::Direct,
        caller: GATEWAY,
        sid: &world.sid.clone(),
        cnf: &world.gateway_cnf.clone(),
    };
    let behind = world.keeper.admit(&token, &presented, UnixTime(NOW - 300)).unwrap_err().to_string();
    assert!(behind.contains("300 s") && behind.contains("the connector's clock: that one is behind"), "{behind}");
    let ahead = world.keeper.admit(&token, &presented, UnixTime(NOW + 330)).unwrap_err().to_string();
    assert!(ahead.contains("300 s") && ahead.contains("the connector's clock: that one is ahead"), "{ahead}");
}

fn question(target: &str) -> Question<'static> {
    let target = Box::leak(Box::new(target.parse::<Target>().unwrap()));
    Question { caller: GATEWAY, resource: None, target }
}

#[test]
fn c5_explain_gives_every_rules_verdict_and_what_decides() {
    let closed = AllowRule { times: vec!["sat 00:00-24:00".parse().unwrap()], ..rule("shut", "tcp:web.dc.test:443") };
    let over = Exception { made: UnixTime(NOW - 100), until: UnixTime(NOW - 50) };
    let rules = vec![
        rule("host", "tcp:other.dc.test:443"),
        rule("udp", "udp:web.dc.test:443"),
        rule("port", "tcp:web.dc.test:444"),
        AllowRule { callers: vec!["dmz-2".into()], ..rule("caller", "tcp:web.dc.test:443") },
        closed,
        AllowRule { name: "exception/x".into(), exception: Some(over), ..rule("gone", "tcp:web.dc.test:443") },
    ];
    let (_, mut list) = at(rules);
    let asked = question("tcp:web.dc.test:443");
    let said = explain(&list, &asked, UnixTime(NOW));
    let verdicts: Vec<Verdict> = said.rules.iter().map(|judged| judged.verdict).collect();
    let opens = UnixTime(NOW + 16 * 3600);
    assert_eq!(
        verdicts,
        [
            Verdict::OtherHost,
            Verdict::OtherProtocol,
            Verdict::OtherPort,
            Verdict::OtherCaller,
            Verdict::Closed { opens },
            Verdict::Over { since: over.until },
        ]
    );
    assert_eq!(said.decision, Decision::NoRule);
    assert!(said.decision.to_string().contains("denied by default"), "{}", said.decision);
    assert!(said.rules[4].verdict.to_string().contains("2027-01-16 00:00:00Z"), "{}", said.rules[4].verdict);
    list.rules.push(rule("web", "tcp:web.dc.test:443"));
    let said = explain(&list, &asked, UnixTime(NOW));
    assert!(said.allowed() && said.decision.to_string().starts_with("allowed by rule web"), "{}", said.decision);
    let stranger = Question { caller: "dmz-9", ..asked };
    assert_eq!(explain(&list, &stranger, UnixTime(NOW)).decision, Decision::UnknownCaller);
    let late = explain(&list, &asked, list.not_after.plus(9));
    assert_eq!(late.decision, Decision::ListEnded { ago: 9 });
}

#[test]
fn c5_what_a_list_changes_is_said_line_by_line() {
    let world = World::new();
    let mut after = world.list.clone();
    after.rules[0].ports = Ports { from: 8080, to: 8090 };
    after.callers.retain(|caller: &Caller| caller.id != "dmz-2");
    let said = list_changes(Some(&world.list), &after);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("- caller dmz-2 with the EdDSA key "), "{said:?}");
    assert_eq!(said[1], "- rule roundup: tcp roundup.dc.test port 8080 for dmz-1, control; in 10.9.0.0/16");
    assert_eq!(said[2], "+ rule roundup: tcp roundup.dc.test port 8080-8090 for dmz-1, control; in 10.9.0.0/16");
    assert!(list_changes(Some(&world.list), &world.list).is_empty());
    let new = list_changes(None, &world.list);
    assert_eq!(new.len(), world.list.rules.len() + world.list.callers.len());
    assert!(new.iter().all(|line| line.starts_with('+')));
}

/// Documents as they are written today, and as they were before ports, hours and exceptions: both must be read for
/// ever.
#[test]
fn c5_documents_of_schema_1_are_read_as_they_were_written() {
    let first: ConnectorDocument = serde_json::from_str(include_str!("fixtures/connector-1.json")).unwrap();
    assert_eq!(first.gateways[0].port, 443);
    let rule: AllowRule = serde_json::from_value(json!({
        "resource": "roundup", "protocol": "tcp", "host": "roundup.dc.test", "port": 8080,
        "callers": ["dmz-1"], "networks": ["10.9.0.0/16"]
    }))
    .unwrap();
    assert_eq!((rule.ports, rule.name(), rule.exception), (8080.into(), "roundup", None));
    let full: AllowRule = serde_json::from_str(include_str!("fixtures/rule-1.json")).unwrap();
    assert_eq!(full.ports, Ports { from: 1433, to: 1434 });
    assert_eq!(full.times[0].to_string(), "mon-fri 22:00-04:00");
    assert_eq!(full.exception.unwrap().until, UnixTime(1_800_003_600));
    let written: serde_json::Value = serde_json::to_value(&full).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(include_str!("fixtures/rule-1.json")).unwrap());
    assert!(serde_json::from_value::<AllowRule>(json!({ "port": 1, "ports": 2 })).is_err());
}

#[test]
fn c5_a_refusal_for_the_log_says_who_asked_for_what_and_which_rule_came_nearest() {
    let over = Exception { made: UnixTime(NOW - 100), until: UnixTime(NOW - 40) };
    let gone = AllowRule { name: "exception/x1".into(), exception: Some(over), ..rule("gone", "tcp:web.dc.test:443") };
    let (mut world, _) = at(vec![gone, rule("roundup", "tcp:roundup.dc.test:8080")]);
    for (resource, target, decided) in [
        ("gone", "tcp:web.dc.test:443", "exception/x1 was an exception and ended"),
        ("gone", "tcp:web.dc.test:80", "none: denied by default"),
        ("roundup", "tcp:roundup.dc.test:22", "none: denied by default"),
    ] {
        world.serial = world.serial.wrapping_add(1);
        let claims = StreamClaims { res: resource.parse().unwrap(), tgt: target.parse().unwrap(), ..world.claims() };
        let token = sign_stream_token(&claims, &world.gateway).unwrap();
        let presented =
            Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &world.sid, cnf: &world.gateway_cnf };
        let now = UnixTime(NOW);
        let examined = world.keeper.examiner().unwrap().examine(&token, &presented, now).unwrap();
        let denied = world.keeper.spend(examined, now).unwrap().grant_or_tell(now).unwrap_err();
        assert_eq!((&denied.refusal, &denied.claims), (&Refusal::NotAllowed, &claims));
        assert!(denied.rule.starts_with(decided), "{}", denied.rule);
        // The caller is told the same in each case.
        assert!(!denied.refusal.to_string().contains("exception"));
    }
}
