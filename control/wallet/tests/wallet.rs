//! Nothing opens under another name or key, and the grant table is what it is said to be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;
use sluice_control_wallet::{
    Credential, Grant, Key, Owner, RecordName, Request, Response, SealRandom, open, open_tenant_key, seal,
    seal_tenant_key,
};

fn name(tenant: &str, integration: &str, user: Option<&str>, version: u64) -> RecordName {
    RecordName {
        tenant: tenant.parse().unwrap(),
        integration: integration.parse().unwrap(),
        owner: user.map_or(Owner::Service, |user| Owner::User(user.parse().unwrap())),
        version,
    }
}

fn any_name() -> impl Strategy<Value = RecordName> {
    ("[a-c]{1,2}", "[a-c]{1,2}", prop::option::of("[a-c]{1,2}"), 0..3_u64)
        .prop_map(|(tenant, integration, user, version)| name(&tenant, &integration, user.as_deref(), version))
}

fn random(seed: u8) -> SealRandom {
    SealRandom { key: Key::new([seed; 32]), key_nonce: [seed; 12], nonce: [seed.wrapping_add(1); 12] }
}

proptest! {
    #[test]
    fn w1_a_record_opens_only_under_its_own_name_and_key(
        sealed_as in any_name(), opened_as in any_name(), key in 0..2_u8, other in 0..2_u8,
        plain in prop::collection::vec(any::<u8>(), 0..80), seed in any::<u8>(),
    ) {
        let sealed = seal(&Key::new([key; 32]), &sealed_as, &plain, &random(seed)).unwrap();
        let opened = open(&Key::new([other; 32]), &opened_as, &sealed);
        prop_assert_eq!(opened.is_ok(), sealed_as == opened_as && key == other);
        if let Ok(opened) = opened {
            prop_assert_eq!(&opened[..], &plain[..]);
        }
    }

    #[test]
    fn w1_an_altered_record_never_opens(at in any::<prop::sample::Index>(), bit in 0..8_u8, cut in any::<prop::sample::Index>()) {
        let (key, name) = (Key::new([7; 32]), name("acme", "roundup", Some("bob"), 1));
        let mut sealed = seal(&key, &name, b"secret", &random(3)).unwrap();
        prop_assert!(open(&key, &name, &sealed[..cut.index(sealed.len())]).is_err());
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open(&key, &name, &sealed).is_err());
    }

    #[test]
    fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = Key::new([7; 32]);
        prop_assert!(open(&key, &name("a", "b", None, 1), &bytes).is_err());
        prop_assert!(open_tenant_key(&key, &"a".parse().unwrap(), &bytes).is_err());
    }

    #[test]
    fn w2_places_are_told_apart(a in any_name(), b in any_name()) {
        let key = Key::new([7; 32]);
        let same = (&a.tenant, &a.integration, &a.owner) == (&b.tenant, &b.integration, &b.owner);
        prop_assert_eq!(a.place(&key) == b.place(&key), same);
    }
}

#[test]
fn w2_a_tenant_key_opens_only_for_its_tenant() {
    let (kek, key) = (Key::new([1; 32]), Key::new([2; 32]));
    let (acme, other) = ("acme".parse().unwrap(), "other".parse().unwrap());
    let sealed = seal_tenant_key(&kek, &acme, &key, [9; 12]).unwrap();
    assert_eq!(open_tenant_key(&kek, &acme, &sealed).unwrap().bytes(), key.bytes());
    assert!(open_tenant_key(&kek, &other, &sealed).is_err());
    assert!(open_tenant_key(&Key::new([3; 32]), &acme, &sealed).is_err());
}

#[test]
fn w3_m11_each_grant_covers_its_own_requests_and_no_other() {
    let (tenant, integration) = ("acme".parse().unwrap(), "roundup".parse().unwrap());
    let (tenant, integration) = (|| Clone::clone(&tenant), || Clone::clone(&integration));
    let credential = Credential::new("bob", "pw").unwrap();
    let user = "bob".parse().unwrap();
    let requests = [
        Request::ReadService { tenant: tenant(), integration: integration() },
        Request::ReadUser { tenant: tenant(), integration: integration(), user },
        Request::Write { tenant: tenant(), integration: integration(), owner: Owner::Service, credential },
        Request::Delete { tenant: tenant(), integration: integration(), owner: Owner::Service },
        Request::Exists { tenant: tenant(), integration: integration(), owner: Owner::Service },
    ];
    let table = Grant::ALL.map(|grant| requests.each_ref().map(|request| grant.permits(request)));
    assert_eq!(
        table,
        [[true, false, false, false, false], [false, true, false, false, false], [false, false, true, true, true],]
    );
}

#[test]
fn secrets_are_never_printed() {
    let credential = Credential::new("bob", "hunter2").unwrap();
    let write = Request::Write {
        tenant: "acme".parse().unwrap(),
        integration: "roundup".parse().unwrap(),
        owner: Owner::Service,
        credential: credential.clone(),
    };
    for text in [
        format!("{write:?}"),
        format!("{:?}", Response::Credential { credential }),
        format!("{:?}", Key::new([77; 32])),
    ] {
        assert!(!text.contains("hunter2") && !text.contains("77"), "{text}");
    }
}

#[test]
fn a_credential_that_basic_cannot_carry_is_refused() {
    for (login, password) in [("", "x"), ("a", ""), ("a:b", "x"), ("a\n", "x"), ("a", "x\r\n")] {
        assert!(Credential::new(login, password).is_err(), "{login:?} {password:?}");
    }
    assert!(Credential::new("bob", "pa:ss wörd").is_ok());
    assert!(Credential::new("bob", &"x".repeat(1_025)).is_err());
}

proptest! {
    #[test]
    fn random_bytes_are_no_message(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        prop_assert!(serde_json::from_slice::<Request>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<Response>(&bytes).is_err());
    }
}
