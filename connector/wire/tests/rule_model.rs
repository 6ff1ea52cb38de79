//! Rules against a model that knows nothing of how they are judged: hosts, ports, hours, exceptions, order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use proptest::prelude::*;
use sluice_connector_wire::{
    AllowRule, Day, Decision, Exception, Hours, Ports, Protocol, Question, Refusal, Verdict, WeeklyWindow, explain,
    hours,
};
use sluice_node_identity::UnixTime;
use world::{DAY, GATEWAY, NOW, ask, at};

const WEEK: u64 = 7 * DAY;

/// Whether the minute `minute` of the week (0: Monday 00:00) lies in a window, by walking through it.
fn in_window(window: &WeeklyWindow, minute: u64) -> bool {
    window.days.iter().any(|day| {
        let mut at = (*day as u64) * 1440 + u64::from(window.from);
        loop {
            if at % (7 * 1440) == minute {
                return true;
            }
            at += 1;
            if at % 1440 == u64::from(window.to) % 1440 {
                return false;
            }
        }
    })
}

fn model_open(windows: &[WeeklyWindow], now: u64) -> bool {
    // 1970-01-05 was the first Monday.
    let minute = ((now + 3 * DAY) / 60) % (7 * 1440);
    windows.is_empty() || windows.iter().any(|window| in_window(window, minute))
}

fn windows() -> impl Strategy<Value = Vec<WeeklyWindow>> {
    let days = proptest::sample::subsequence(
        vec![Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun],
        1..=7,
    );
    // Round hours, so that windows often touch.
    let hour = (0_u16..24, prop_oneof![Just(0), Just(0), Just(0), 0_u16..60]).prop_map(|(h, m)| h * 60 + m);
    let window = (days, hour.clone(), hour)
        .prop_map(|(days, from, to)| WeeklyWindow { days, from, to: if to == 0 { 1440 } else { to } })
        .prop_filter("sound", WeeklyWindow::is_sound);
    proptest::collection::vec(window, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn c5_windows_agree_with_a_walk_through_the_week(windows in windows(), now in 0_u64..2_000_000_000) {
        match hours(&windows, UnixTime(now)) {
            Hours::Always => prop_assert!((0..WEEK / 60).all(|minute| model_open(&windows, now + minute * 60))),
            Hours::Until(end) => {
                prop_assert!(now < end.0 && !model_open(&windows, end.0));
                prop_assert!((now..end.0).step_by(60).chain([end.0 - 1]).all(|at| model_open(&windows, at)));
            }
            Hours::Closed { opens } => {
                prop_assert!(now < opens.0 && model_open(&windows, opens.0));
                prop_assert!((now..opens.0).step_by(60).chain([opens.0 - 1]).all(|at| !model_open(&windows, at)));
            }
        }
        for window in &windows {
            prop_assert_eq!(&window.to_string().parse::<WeeklyWindow>().unwrap(), window);
        }
    }

    #[test]
    fn c5_no_clock_makes_windows_panic_or_hang(windows in windows(), now in any::<u64>()) {
        let _hours = hours(&windows, UnixTime(now));
    }

    #[test]
    fn random_text_is_a_window_or_ports_only_as_it_is_written_back(text in "[a-z0-9,:. -]{0,24}|(mon|fri|sun)[,-](tue|sat) [0-2][0-9]:[0-5]0-[0-2][0-9]:[0-5]0") {
        if let Ok(window) = text.parse::<WeeklyWindow>() {
            prop_assert!(window.is_sound());
            prop_assert_eq!(window.to_string().parse::<WeeklyWindow>(), Ok(window));
        }
        if let Ok(ports) = text.parse::<Ports>() {
            prop_assert!(ports.is_sound());
            prop_assert_eq!(ports.to_string().parse::<Ports>(), Ok(ports));
        }
    }
}

/// One of few hosts, ports, callers and hours, so that rules and questions often meet.
#[derive(Clone, Debug)]
struct Drawn {
    resource: usize,
    udp: bool,
    host: usize,
    ports: (u16, u16),
    callers: Vec<usize>,
    times: Vec<WeeklyWindow>,
    /// Seconds from NOW at which an exception ends.
    ends: Option<u64>,
}

const RESOURCES: [&str; 2] = ["one", "two"];
const CALLERS: [&str; 3] = [GATEWAY, "dmz-2", "control"];
const PATTERNS: [&str; 6] = ["a.test", "*.test", "*.b.test", "10.1.0.0/24", "10.1.0.7", "2001:db8::/64"];
const HOSTS: [&str; 6] = ["a.test", "x.b.test", "b.test", "10.1.0.7", "10.1.1.7", "[2001:db8::1]"];
/// Which host each pattern covers, written down by hand.
const COVERS: [[bool; 6]; 6] = [
    [true, false, false, false, false, false],
    [true, true, true, false, false, false],
    [false, true, false, false, false, false],
    [false, false, false, true, false, false],
    [false, false, false, true, false, false],
    [false, false, false, false, false, true],
];

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        0..2_usize,
        any::<bool>(),
        0..6_usize,
        (1_u16..5, 0_u16..3).prop_map(|(from, more)| (from, from + more)),
        proptest::sample::subsequence(vec![0, 1, 2], 0..=3),
        prop_oneof![Just(Vec::new()), windows()],
        proptest::option::of(1_u64..2 * DAY / 2),
    )
        .prop_map(|(resource, udp, host, ports, callers, times, ends)| Drawn {
            resource,
            udp,
            host,
            ports,
            callers,
            times,
            ends,
        })
}

impl Drawn {
    fn rule(&self, number: usize) -> AllowRule {
        AllowRule {
            name: format!("rule/{number}"),
            resource: RESOURCES[self.resource].parse().unwrap(),
            protocol: if self.udp { Protocol::Udp } else { Protocol::Tcp },
            host: PATTERNS[self.host].to_owned(),
            ports: Ports { from: self.ports.0, to: self.ports.1 },
            callers: self.callers.iter().map(|caller| CALLERS[*caller].to_owned()).collect(),
            networks: vec![format!("172.16.{number}.0/24").parse().unwrap()],
            times: self.times.clone(),
            exception: self.ends.map(|ends| Exception { made: UnixTime(NOW), until: UnixTime(NOW + ends) }),
        }
    }

    fn passes(&self, asked: &(usize, bool, usize, u16), caller: usize, later: u64) -> bool {
        let (resource, udp, host, port) = *asked;
        self.resource == resource
            && self.udp == udp
            && COVERS[self.host][host]
            && (self.ports.0..=self.ports.1).contains(&port)
            && self.callers.contains(&caller)
            && model_open(&self.times, NOW + later)
            && self.ends.is_none_or(|ends| later < ends)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Gatekeeper, explanation and model agree, in whatever order the rules stand.
    #[test]
    fn c5_g7_rules_agree_with_the_model_whatever_their_order(
        drawn in proptest::collection::vec(drawn(), 0..6),
        asked in (0..2_usize, any::<bool>(), 0..6_usize, 1_u16..6),
        caller in 0..2_usize,
        later in prop_oneof![0_u64..2 * DAY, 0_u64..6 * DAY],
        turned in any::<bool>(),
        like in proptest::option::weighted(0.8, any::<prop::sample::Index>()),
    ) {
        // Mostly a question that some rule is about.
        let asked = match like.filter(|_| !drawn.is_empty()).map(|like| &drawn[like.index(drawn.len())]) {
            Some(Drawn { resource, udp, host, ports, .. }) => {
                (*resource, *udp, COVERS[*host].iter().rposition(|covers| *covers).unwrap(), ports.1)
            }
            None => asked,
        };
        let mut rules: Vec<AllowRule> = drawn.iter().enumerate().map(|(n, drawn)| drawn.rule(n)).collect();
        if turned { rules.reverse() }
        let (mut world, list) = at(rules);
        let passing: Vec<usize> =
            (0..drawn.len()).filter(|n| drawn[*n].passes(&asked, caller, later)).collect();
        let target = format!("{}:{}:{}", if asked.1 { "udp" } else { "tcp" }, HOSTS[asked.2], asked.3);
        let resource = RESOURCES[asked.0].parse().unwrap();
        let now = UnixTime(NOW + later);
        let said = explain(
            &list,
            &Question { caller: CALLERS[caller], resource: Some(&resource), target: &target.parse().unwrap() },
            now,
        );
        let deciding = passing.iter().max_by_key(|n| if turned { **n as i64 } else { -(**n as i64) });
        match &said.decision {
            Decision::Allowed { rule, .. } => prop_assert_eq!(rule, &format!("rule/{}", deciding.unwrap())),
            other => prop_assert!(passing.is_empty() && *other == Decision::NoRule),
        }
        let allowing = said.rules.iter().filter(|judged| matches!(judged.verdict, Verdict::Allows { .. })).count();
        prop_assert_eq!(allowing, passing.len());
        if caller > 0 {
            return Ok(());
        }
        match ask(&mut world, RESOURCES[asked.0], &target, now.0) {
            Err(refused) => prop_assert!(passing.is_empty() && refused == Refusal::NotAllowed),
            Ok(granted) => {
                prop_assert_eq!(granted.rule(), &format!("rule/{}", deciding.unwrap()));
                let mut still: Vec<bool> = Vec::new();
                // At no moment before the one that was foretold does anything get less.
                let change = world.keeper.list().unwrap().next_change(&granted, now).map_or(now.0 + WEEK, |at| at.0);
                for at in (now.0..change).step_by(3600).chain([change - 1]) {
                    let lost = passing.iter().any(|n| !drawn[*n].passes(&asked, caller, at - NOW));
                    still.push(!lost && world.keeper.list().unwrap().still_allows(&granted, UnixTime(at)).is_some());
                }
                prop_assert!(still.iter().all(|still| *still));
                if world.keeper.list().unwrap().next_change(&granted, now).is_some() {
                    prop_assert!(passing.iter().any(|n| !drawn[*n].passes(&asked, caller, change - NOW)));
                }
            }
        }
    }
}
