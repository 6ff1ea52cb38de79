//! A node's life against a reference model: random joins, renewals, re-joins and appearances of five keys.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::LazyLock;

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, RsaKeySize};
use sluice_control_domain::{ChangeSet, NodeRecord, Record, Stored, Typed, Write};
use sluice_control_enroll::{Decision, Issuing, NodeRequest, Presence, Refused, join, present, rejoin, renew};
use sluice_control_pki::{Authority, CertFacts, Csr, NODE_SECONDS, pem_chain};
use sluice_node_identity::{Binding, CodeBinding, JoinSecret, Role, TrustDomain, UnixTime};

const T0: u64 = 1_800_000_000;
const CODE_SECONDS: u64 = 900;

struct World {
    authority: Authority,
    domain: TrustDomain,
    csrs: Vec<Csr>,
    rsa: Csr,
}

fn csr(key: &KeyPair) -> Csr {
    Csr::from_der(CertificateParams::default().serialize_request(key).unwrap().der()).unwrap()
}

static WORLD: LazyLock<World> = LazyLock::new(|| World {
    authority: Authority::create("root", &KeyPair::generate().unwrap().serialize_der(), UnixTime(T0), &[1; 16])
        .unwrap(),
    domain: "sluice.test".parse().unwrap(),
    csrs: (0..5).map(|_| csr(&KeyPair::generate().unwrap())).collect(),
    rsa: csr(&KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072).unwrap()),
});

fn secret() -> JoinSecret {
    JoinSecret::new([9; 16])
}

fn fresh(role: Role) -> Typed<NodeRecord> {
    let code = CodeBinding {
        digest: secret().digest(),
        valid_until: UnixTime(T0 + CODE_SECONDS),
        bound: None,
        alarmed: false,
    };
    let body = NodeRecord {
        tenant: "acme".parse().unwrap(),
        id: "n1".parse().unwrap(),
        role,
        site: "branch-1".parse().unwrap(),
        code,
        binding: None,
        config: None,
        refused: None,
        addresses: vec![],
        host: None,
        created: UnixTime(T0),
    };
    Typed { version: 1, body }
}

fn issuing(now: u64) -> Issuing<'static> {
    Issuing { authority: &WORLD.authority, trust_domain: &WORLD.domain, now: UnixTime(now), serial: [3; 16] }
}

/// Commits as a store would: exactly one record, at the version it was loaded with.
fn commit(node: &mut Typed<NodeRecord>, changes: Option<ChangeSet>) -> Vec<String> {
    let Some(set) = changes else { return vec![] };
    assert_eq!(set.expected, [(node.body.key(), node.version)]);
    let [Write::Put { key, body, .. }] = set.writes.as_slice() else { panic!("one write") };
    let stored = Stored { key: key.clone(), version: node.version + 1, body: body.clone() };
    *node = stored.typed().unwrap();
    assert!(!set.audit.is_empty(), "a change without an audit entry");
    set.audit.into_iter().map(|entry| entry.act).collect()
}

fn decide(node: &mut Typed<NodeRecord>, decision: Decision<String>) -> Result<String, Refused> {
    commit(node, decision.changes);
    decision.answer
}

fn try_join(node: &mut Typed<NodeRecord>, key: usize, role: Role, now: u64) -> Result<String, Refused> {
    let request = NodeRequest { csr: &WORLD.csrs[key], role };
    let decision = join(node, &secret(), &request, &issuing(now));
    decide(node, decision)
}

#[derive(Clone, Debug)]
enum Step {
    Join { key: usize, right_role: bool },
    Renew { key: usize, to: usize },
    Rejoin { key: usize },
    Present { key: usize },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..5_usize, prop::bool::weighted(0.8)).prop_map(|(key, right_role)| Step::Join { key, right_role }),
        (0..5_usize, 0..5_usize).prop_map(|(key, to)| Step::Renew { key, to }),
        (0..5_usize).prop_map(|key| Step::Rejoin { key }),
        (0..5_usize).prop_map(|key| Step::Present { key }),
        prop_oneof![0..600_u64, 40_000..90_000_u64, 500_000..700_000_u64].prop_map(Step::Wait),
    ]
}

/// The contract in its own words.
#[derive(Default)]
struct Model {
    taken: Option<(usize, u64)>,
    /// Used keys, oldest first; the last one is current.
    used: Vec<usize>,
    pending: Option<usize>,
    rejoins: u32,
    locked: bool,
    /// When the newest certificate of each key ends.
    ends: [u64; 5],
}

impl Model {
    fn join(&mut self, key: usize, right_role: bool, now: u64) -> bool {
        match self.taken {
            _ if !right_role => false,
            None if now <= T0 + CODE_SECONDS => {
                *self = Self { taken: Some((key, now)), used: vec![key], ..Self::default() };
                self.ends[key] = now + NODE_SECONDS;
                true
            }
            None => false,
            Some((first, at)) => key == first && now - at <= 86_400 && !self.locked,
        }
    }

    fn renew(&mut self, key: usize, to: usize, now: u64) -> bool {
        let ok =
            !self.locked && self.used.last() == Some(&key) && (self.pending == Some(to) || !self.used.contains(&to));
        if ok && self.pending != Some(to) {
            self.pending = Some(to);
            self.ends[to] = now + NODE_SECONDS;
        }
        ok
    }

    fn promote(&mut self, key: usize) {
        if self.pending == Some(key) {
            self.pending = None;
            self.used.push(key);
        }
    }

    fn rejoin(&mut self, key: usize, now: u64) -> bool {
        let newest = self.used.last() == Some(&key) || self.pending == Some(key);
        let good = self.ends[key] > now + 86_400;
        let ok = !self.locked && newest && (good || self.rejoins < Binding::REJOINS);
        if ok && !good {
            self.promote(key);
            self.rejoins += 1;
            self.ends[key] = now + NODE_SECONDS;
        }
        ok
    }

    fn present(&mut self, key: usize) -> bool {
        if self.locked {
            return false;
        }
        self.promote(key);
        if self.used.last() == Some(&key) {
            return true;
        }
        self.locked = self.used.contains(&key);
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_nodes_life_follows_the_contract(steps in prop::collection::vec(step(), 1..40)) {
        let mut node = fresh(Role::Edge);
        let mut model = Model::default();
        let mut now = T0;
        for step in steps {
            let (answer, expected, key) = match step {
                Step::Wait(seconds) => { now += seconds; continue }
                Step::Join { key, right_role } => {
                    let role = if right_role { Role::Edge } else { Role::Gateway };
                    (try_join(&mut node, key, role, now), model.join(key, right_role, now), key)
                }
                Step::Renew { key, to } => {
                    let decision = renew(&node, &WORLD.csrs[key].key(), &WORLD.csrs[to], &issuing(now));
                    (decide(&mut node, decision), model.renew(key, to, now), to)
                }
                Step::Rejoin { key } => {
                    let decision = rejoin(&node, &WORLD.csrs[key], &issuing(now));
                    (decide(&mut node, decision), model.rejoin(key, now), key)
                }
                Step::Present { key } => {
                    let good = match present(&node, &WORLD.csrs[key].key(), UnixTime(now)) {
                        Presence::Good => true,
                        Presence::Refused => false,
                        Presence::Promoted(set) => { commit(&mut node, Some(set)); true }
                        Presence::Cloned(set) => {
                            prop_assert_eq!(commit(&mut node, Some(set)), ["node.cloned"]);
                            false
                        }
                    };
                    prop_assert_eq!(good, model.present(key));
                    continue
                }
            };
            prop_assert_eq!(answer.is_ok(), expected, "{:?}", answer);
            if let Ok(pem) = answer {
                let facts = CertFacts::of(&pem_chain(&pem).unwrap()[0]).unwrap();
                prop_assert_eq!(facts.key, WORLD.csrs[key].key());
                prop_assert_eq!(facts.not_after, UnixTime(model.ends[key]), "nobody gets more time than he should");
                prop_assert_eq!(facts.name.unwrap().to_string(), "spiffe://sluice.test/tenant/acme/edge/n1");
            }
        }
    }
}

#[test]
fn c4_the_same_key_gets_the_same_certificate_for_a_day() {
    let mut node = fresh(Role::Edge);
    let first = try_join(&mut node, 0, Role::Edge, T0).unwrap();
    assert_eq!(try_join(&mut node, 0, Role::Edge, T0 + 86_400).unwrap(), first);
    assert_eq!(try_join(&mut node, 0, Role::Edge, T0 + 86_401), Err(Refused::Code));
}

#[test]
fn a_second_key_is_refused_and_alarmed_exactly_once() {
    let mut node = fresh(Role::Edge);
    try_join(&mut node, 0, Role::Edge, T0).unwrap();
    let request = NodeRequest { csr: &WORLD.csrs[1], role: Role::Edge };
    let decision = join(&node, &secret(), &request, &issuing(T0 + 1));
    assert_eq!(decision.answer, Err(Refused::Code));
    assert_eq!(commit(&mut node, decision.changes), ["node.join.second_key"]);
    assert!(join(&node, &secret(), &request, &issuing(T0 + 2)).changes.is_none());
    assert!(node.body.binding.as_ref().unwrap().current.key == WORLD.csrs[0].key());
}

#[test]
fn expired_foreign_role_and_wrong_secret_change_nothing() {
    let node = fresh(Role::Edge);
    let request = |role| NodeRequest { csr: &WORLD.csrs[0], role };
    let late = join(&node, &secret(), &request(Role::Edge), &issuing(T0 + CODE_SECONDS + 1));
    let role = join(&node, &secret(), &request(Role::Gateway), &issuing(T0));
    let wrong = join(&node, &JoinSecret::new([8; 16]), &request(Role::Edge), &issuing(T0));
    for decision in [late, role, wrong] {
        assert!(decision.changes.is_none());
        assert_eq!(decision.answer, Err(Refused::Code));
    }
}

#[test]
fn c4_a_connector_holds_an_rsa_key_and_nobody_else_does() {
    let try_with = |role, csr| join(&fresh(role), &secret(), &NodeRequest { csr, role }, &issuing(T0));
    assert!(try_with(Role::Connector, &WORLD.rsa).answer.is_ok());
    for (role, csr) in [(Role::Connector, &WORLD.csrs[0]), (Role::Edge, &WORLD.rsa), (Role::Gateway, &WORLD.rsa)] {
        let decision = try_with(role, csr);
        assert_eq!(decision.answer, Err(Refused::Kind));
        assert!(decision.changes.is_none(), "the code is not spent on a key of the wrong kind");
    }
}

#[test]
fn a_rejoin_waits_for_the_certificate_to_end_and_is_repeated_when_its_answer_was_lost() {
    let mut node = fresh(Role::Edge);
    let first = try_join(&mut node, 0, Role::Edge, T0).unwrap();
    let early = rejoin(&node, &WORLD.csrs[0], &issuing(T0 + 3600));
    assert!(early.changes.is_none(), "nothing is spent");
    assert_eq!(early.answer, Ok(first.clone()), "and nothing is won");
    let slept = T0 + NODE_SECONDS + 5;
    let decision = rejoin(&node, &WORLD.csrs[0], &issuing(slept));
    let fresh_one = decide(&mut node, decision).unwrap();
    assert_ne!(fresh_one, first);
    let lost = rejoin(&node, &WORLD.csrs[0], &issuing(slept + 60));
    assert!(lost.changes.is_none());
    assert_eq!(lost.answer, Ok(fresh_one));
    assert_eq!(node.body.binding.as_ref().unwrap().rejoins_left, Binding::REJOINS - 1);
    assert_eq!(rejoin(&node, &WORLD.csrs[1], &issuing(slept)).answer, Err(Refused::Key));
}

#[test]
fn old_generation_after_new_locks_both() {
    let mut node = fresh(Role::Edge);
    try_join(&mut node, 0, Role::Edge, T0).unwrap();
    let decision = renew(&node, &WORLD.csrs[0].key(), &WORLD.csrs[1], &issuing(T0));
    decide(&mut node, decision).unwrap();
    let Presence::Good = present(&node, &WORLD.csrs[0].key(), UnixTime(T0)) else { panic!("g stays good") };
    let Presence::Promoted(set) = present(&node, &WORLD.csrs[1].key(), UnixTime(T0)) else { panic!("first use") };
    commit(&mut node, Some(set));
    let Presence::Cloned(set) = present(&node, &WORLD.csrs[0].key(), UnixTime(T0)) else { panic!("clone") };
    assert_eq!(set.state[0].key, "node/n1");
    commit(&mut node, Some(set));
    for key in [0, 1] {
        assert!(matches!(present(&node, &WORLD.csrs[key].key(), UnixTime(T0)), Presence::Refused));
    }
}
