//! The table against what the kernel would know by the actions, and against the rule in its plainest form.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::{
    tests::{hub, key, mac, seen, v4},
    *,
};

#[derive(Clone, Debug)]
enum Step {
    CheckIn { hub: u8, mac: u8, lease: u8, address: u8 },
    Standing { hub: u8, enrolled: bool },
    LeaseEnds { mac: u8, address: u8 },
    Observe { mac: u8, address: u8 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 1_u8..5;
    prop_oneof![
        // Mostly honest devices: hub n on device n at address n.
        5 => n().prop_map(|n| Step::CheckIn { hub: n, mac: n, lease: n, address: n }),
        3 => (n(), n(), n(), n()).prop_map(|(hub, mac, lease, address)| Step::CheckIn { hub, mac, lease, address }),
        2 => (n(), any::<bool>()).prop_map(|(hub, enrolled)| Step::Standing { hub, enrolled }),
        1 => (n(), n()).prop_map(|(mac, address)| Step::LeaseEnds { mac, address }),
        2 => (n(), n()).prop_map(|(mac, address)| Step::Observe { mac, address }),
        2 => (0_u64..900).prop_map(Step::Wait),
    ]
}

/// A binding somebody proved, or that follows from one: (hub, device, address).
type Binding = (u8, u8, u8);

#[derive(Default)]
struct Model {
    bindings: Vec<Binding>,
    /// Hub → last check-in.
    fresh: BTreeMap<u8, UnixTime>,
    held: Vec<(Claim, UnixTime)>,
    enrolled: BTreeSet<u8>,
}

impl Model {
    fn check_in(&mut self, (h, m, lease, a): (u8, u8, u8, u8), now: UnixTime) -> bool {
        if !self.enrolled.contains(&h) {
            return false;
        }
        let held = |claim: &Claim| self.held.iter().any(|(other, _)| other == claim);
        let mine = [Claim::Hub(hub(h)), Claim::Mac(mac(m)), Claim::Address(v4(a))];
        if m == lease && mine.iter().any(held) {
            return false;
        }
        let touches = |b: &Binding| b.0 == h || b.1 == m || b.1 == lease || b.2 == a;
        let clash = |b: &Binding| (b.0 == h) != (b.1 == m) || (b.2 == a && b.0 != h);
        if m != lease || self.bindings.iter().any(clash) {
            let parties: BTreeSet<u8> = self.bindings.iter().filter(|b| touches(b)).map(|b| b.0).chain([h]).collect();
            let mut claims: Vec<Claim> = mine.into_iter().chain([Claim::Mac(mac(lease))]).collect();
            claims.extend(parties.iter().map(|n| Claim::Hub(hub(*n))));
            for b in self.bindings.iter().filter(|b| parties.contains(&b.0)) {
                claims.extend([Claim::Mac(mac(b.1)), Claim::Address(v4(b.2))]);
            }
            self.held.retain(|(claim, _)| !claims.contains(claim));
            self.held.extend(claims.into_iter().map(|claim| (claim, now.plus(HOLD_SECONDS))));
            self.bindings.retain(|b| !parties.contains(&b.0));
            return false;
        }
        self.bindings.retain(|b| b.2 != a);
        self.bindings.push((h, m, a));
        self.fresh.insert(h, now);
        true
    }

    fn observe(&mut self, m: u8, a: u8) {
        let held = self.held.iter().any(|(claim, _)| *claim == Claim::Address(v4(a)));
        let owner = self.bindings.iter().find(|b| b.1 == m).map(|b| b.0);
        if let (Some(h), false) = (owner, held || self.bindings.iter().any(|b| b.2 == a)) {
            self.bindings.push((h, m, a));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn the_kernel_admits_exactly_what_the_rule_says(steps in prop::collection::vec(step(), 1..120)) {
        let mut staging = Staging::default();
        let mut model = Model { enrolled: (1..5).collect(), ..Model::default() };
        let mut kernel = BTreeSet::new();
        let mut now = UnixTime(1_000_000);
        for step in steps {
            if let Step::Wait(seconds) = step { now = now.plus(seconds); }
            let mut actions = staging.tick(now);
            model.held.retain(|(_, until)| *until > now);
            let Model { bindings, fresh, .. } = &mut model;
            bindings.retain(|b| fresh.get(&b.0).is_some_and(|at| now.since(*at) <= MAX_AGE_SECONDS));
            let feed = |model: &Model, n: u8| HubStanding { enrolled: model.enrolled.contains(&n), keys: vec![key(n)] };
            match step {
                Step::Wait(_) => {}
                Step::CheckIn { hub: h, mac: m, lease, address } => {
                    let who = CheckedIn { lease: Some(mac(lease)), ..seen(h, m, v4(address)) };
                    let (verdict, more) = staging.check_in(&who, Some(&feed(&model, h)), false, now);
                    actions.extend(more);
                    prop_assert_eq!(verdict.is_ok(), model.check_in((h, m, lease, address), now));
                }
                Step::Standing { hub: h, enrolled } => {
                    if enrolled { model.enrolled.insert(h); } else { model.enrolled.remove(&h); }
                    model.bindings.retain(|b| model.enrolled.contains(&b.0));
                    actions.extend(staging.review(|id| (1..5).find(|n| hub(*n) == *id).map(|n| feed(&model, n))));
                }
                Step::LeaseEnds { mac: m, address } => {
                    model.bindings.retain(|b| (b.1, b.2) != (m, address));
                    actions.extend(staging.lease_ended(mac(m), v4(address)));
                }
                Step::Observe { mac: m, address } => {
                    model.observe(m, address);
                    actions.extend(staging.observe(mac(m), v4(address), now));
                }
            }
            for action in actions {
                match action {
                    Action::Admit { mac, address } => { kernel.insert((mac, address)); }
                    Action::Restage { mac, address } => { prop_assert!(kernel.remove(&(mac, address))); }
                }
            }
            let expected: BTreeSet<(Mac, IpAddr)> = model.bindings.iter().map(|b| (mac(b.1), v4(b.2))).collect();
            prop_assert_eq!(&kernel, &expected);
            for (m, a) in (1..5).flat_map(|m| (1..5).map(move |a| (mac(m), v4(a)))) {
                prop_assert_eq!(staging.is_admitted(m, a), expected.contains(&(m, a)));
            }
        }
    }
}
