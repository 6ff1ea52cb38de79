//! Hubs, passwords and limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use sluice_control_domain::{
    ChangeSet, EnrollCode, HubRecord, HubState, Kind, StateAudience, Stored, Typed, UserRecord, UserRole, Write,
};
use sluice_control_enroll::{
    Factors, HubRequest, Issuing, Limit, Limiter, Refused, checked_in, enroll_hub, reenroll_hub, verified,
};
use sluice_control_pki::{Authority, CertFacts, Csr, pem_chain};
use sluice_node_identity::{
    CodeBinding, JoinSecret, TrustDomain, UnixTime,
    api::{CheckIn, HubStanding},
};

const NOW: UnixTime = UnixTime(1_800_000_000);

struct World {
    authority: Authority,
    domain: TrustDomain,
    hub: Typed<HubRecord>,
    code: Typed<EnrollCode>,
}

fn csr() -> Csr {
    let params = CertificateParams::new(vec!["other-hub.example".to_owned()]).unwrap();
    Csr::from_der(params.serialize_request(&KeyPair::generate().unwrap()).unwrap().der()).unwrap()
}

impl World {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap().serialize_der();
        let secret = JoinSecret::new([5; 16]);
        let hub = HubRecord {
            tenant: "acme".parse().unwrap(),
            id: "hub-1".parse().unwrap(),
            site: "branch-1".parse().unwrap(),
            serial: Some("S1".into()),
            state: HubState::Expected,
            keys: vec![],
            certificate: None,
            seen: None,
            created: NOW,
        };
        let code = CodeBinding { digest: secret.digest(), valid_until: NOW.plus(60), bound: None, alarmed: false };
        let code = EnrollCode { tenant: hub.tenant.clone(), hub: hub.id.clone(), code, issued: None };
        Self {
            authority: Authority::create("hubs", &key, NOW, &[1; 16]).unwrap(),
            domain: "sluice.test".parse().unwrap(),
            hub: Typed { version: 1, body: hub },
            code: Typed { version: 1, body: code },
        }
    }

    fn issuing(&self) -> Issuing<'_> {
        Issuing { authority: &self.authority, trust_domain: &self.domain, now: NOW, serial: [2; 16] }
    }

    fn enroll(&mut self, secret: u8, csr: &Csr) -> Result<String, Refused> {
        let secret = JoinSecret::new([secret; 16]);
        let decision = enroll_hub(&self.hub, &self.code, &secret, &HubRequest { csr }, &self.issuing());
        self.commit(decision.changes);
        decision.answer
    }

    fn reenroll(&mut self, with: &Csr, csr: &Csr) -> Result<String, Refused> {
        let decision = reenroll_hub(&self.hub, &with.key(), &HubRequest { csr }, &self.issuing());
        self.commit(decision.changes);
        decision.answer
    }

    fn commit(&mut self, changes: Option<ChangeSet>) {
        for write in changes.into_iter().flat_map(|set| set.writes) {
            let Write::Put { key, body, .. } = write else { panic!("no deletions") };
            let kind = key.kind;
            let stored = Stored { key, version: 2, body };
            match kind {
                Kind::Hub => self.hub = stored.typed().unwrap(),
                Kind::EnrollCode => self.code = stored.typed().unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn name(pem: &str) -> String {
    CertFacts::of(&pem_chain(pem).unwrap()[0]).unwrap().name.unwrap().to_string()
}

#[test]
fn e1_a_code_enrols_one_key_under_the_hubs_own_name() {
    let mut world = World::new();
    let (first, second) = (csr(), csr());
    assert_eq!(world.enroll(6, &first), Err(Refused::Code), "wrong code");
    let pem = world.enroll(5, &first).unwrap();
    assert_eq!(name(&pem), "spiffe://sluice.test/tenant/acme/hub/hub-1");
    assert_eq!(world.enroll(5, &first).unwrap(), pem, "the same key gets the same certificate");
    assert_eq!(world.enroll(5, &second), Err(Refused::Code), "a second key");
    assert!(world.code.body.code.alarmed);
    assert_eq!(world.hub.body.keys, [first.key()]);
}

#[test]
fn enrolment_tells_the_site_and_nobody_else() {
    let world = World::new();
    let csr = csr();
    let secret = JoinSecret::new([5; 16]);
    let decision = enroll_hub(&world.hub, &world.code, &secret, &HubRequest { csr: &csr }, &world.issuing());
    let set = decision.changes.unwrap();
    assert_eq!(set.state.len(), 1);
    assert_eq!(set.state[0].audience, StateAudience::Site("branch-1".parse().unwrap()));
    assert_eq!(set.state[0].key, "hub/hub-1");
    let standing: HubStanding = serde_json::from_value(set.state[0].value.clone().unwrap()).unwrap();
    assert_eq!(standing, HubStanding { enrolled: true, keys: vec![csr.key()] });
}

#[test]
fn e10_a_reenrolment_rotates_the_key_and_keeps_the_name() {
    let mut world = World::new();
    let (a, b, c) = (csr(), csr(), csr());
    assert_eq!(world.reenroll(&a, &b), Err(Refused::Key), "not enrolled yet");
    let first = world.enroll(5, &a).unwrap();
    let second = world.reenroll(&a, &b).unwrap();
    assert_eq!(name(&first), name(&second));
    assert_eq!(world.hub.body.keys, [b.key(), a.key()]);
    world.reenroll(&a, &b).unwrap();
    assert_eq!(world.hub.body.keys, [b.key(), a.key()], "a lost answer may be asked for again");
    world.reenroll(&b, &c).unwrap();
    assert_eq!(world.hub.body.keys, [c.key(), b.key()]);
    assert_eq!(world.reenroll(&a, &a), Err(Refused::Key), "the oldest key is out");
    world.reenroll(&c, &c).unwrap();
    assert_eq!(world.hub.body.keys, [c.key()], "the same key again: a renewal without rotation");
}

#[test]
fn a_revoked_hub_gets_nothing() {
    let mut world = World::new();
    let a = csr();
    world.enroll(5, &a).unwrap();
    world.hub.body.state = HubState::Revoked;
    assert_eq!(world.reenroll(&a, &a), Err(Refused::Key));
    assert_eq!(world.enroll(5, &a), Err(Refused::Code));
}

#[test]
fn check_ins_move_forward_only() {
    let mut world = World::new();
    let seen = |at| CheckIn {
        hub: "hub-1".parse().unwrap(),
        mac: "aa:bb:cc:dd:ee:ff".into(),
        address: "10.0.0.5".parse().unwrap(),
        at: UnixTime(at),
    };
    assert!(checked_in(&world.hub, &seen(NOW.0), NOW).is_none(), "not enrolled");
    world.enroll(5, &csr()).unwrap();
    let set = checked_in(&world.hub, &seen(NOW.0), NOW);
    world.commit(set);
    assert_eq!(world.hub.body.seen.as_ref().unwrap().0, NOW);
    assert!(checked_in(&world.hub, &seen(NOW.0 - 1), NOW).is_none());
    assert!(checked_in(&world.hub, &seen(NOW.0 + 100_000), NOW).is_none(), "from the future");
}

#[test]
fn i2_passwords_are_right_or_wrong_and_unknown_users_look_wrong() {
    let factors = Factors::new(&[1; 32]).unwrap();
    let salt = argon2::password_hash::SaltString::encode_b64(&[4; 16]).unwrap();
    let hash = argon2::PasswordHasher::hash_password(&argon2::Argon2::default(), b"right", &salt).unwrap().to_string();
    let mut user = UserRecord {
        tenant: "acme".parse().unwrap(),
        id: "ann".parse().unwrap(),
        email: "ann@acme.test".into(),
        display_name: "Ann".into(),
        password_hash: hash,
        groups: vec![],
        role: UserRole::User,
        disabled: false,
        created: NOW,
    };
    assert!(factors.verify(Some(&user), "right"));
    assert!(!factors.verify(Some(&user), "wrong"));
    assert!(!factors.verify(Some(&user), ""));
    assert!(!factors.verify(Some(&user), &"x".repeat(5000)));
    assert!(!factors.verify(None, "right"));
    assert_eq!(verified(&user).groups, ["everyone"], "nobody is without a group: the feed is for all");
    user.groups = vec!["everyone".into(), "staff".into()];
    assert_eq!(verified(&user).groups, ["everyone", "staff"]);
    user.disabled = true;
    assert!(!factors.verify(Some(&user), "right"));
    user.password_hash = "not a hash".into();
    assert!(!factors.verify(Some(&user), "right"));
}

proptest! {
    #[test]
    fn no_key_gets_more_tries_than_its_limit(events in prop::collection::vec((0..6_u8, 0..20_u64), 1..200)) {
        let limit = Limit { tries: 3, seconds: 60 };
        let mut limiter = Limiter::new(limit, 4);
        let mut granted: Vec<(u8, u64)> = vec![];
        let mut now = 1000;
        for (key, wait) in events {
            now += wait;
            match limiter.attempt(key, UnixTime(now)) {
                Ok(()) => granted.push((key, now)),
                Err(after) => prop_assert!((1..=60).contains(&after)),
            }
            // A fixed window lets at most two windows' worth through in any one window's length.
            let recent = granted.iter().filter(|(k, at)| *k == key && now - at < 60).count();
            prop_assert!(recent <= 6);
        }
    }
}
