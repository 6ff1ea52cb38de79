//! Allow-lists: who signs, which way they go, what they may say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use proptest::prelude::*;
use serde_json::json;
use sluice_connector_wire::{
    AllowList, AllowListKeeper, Caller, CallerKind, ListRefused, PolicyKey, RuleFault, SignedAllowList, TokenSigner,
    adopts, sign_adoption, sign_allow_list, sign_succession, succeeds,
};
use sluice_node_identity::UnixTime;
use world::{DAY, NOW, World};

fn now() -> UnixTime {
    UnixTime(NOW)
}

fn numbered(world: &World, epoch: u64, version: u64) -> SignedAllowList {
    let list = AllowList { epoch, version, ..world.list.clone() };
    sign_allow_list(&list, &world.policy, Vec::new()).unwrap()
}

#[test]
fn c5_list_that_goes_back_is_refused_also_after_a_restart() {
    let world = World::new();
    let mut keeper = world.fresh_keeper(None);
    keeper.offer(&numbered(&world, 2, 5), now()).unwrap();
    let position = keeper.position().cloned();
    for mut keeper in [keeper, world.fresh_keeper(position.clone())] {
        for (epoch, version) in [(2, 4), (1, 9), (0, 0)] {
            let refused = keeper.offer(&numbered(&world, epoch, version), now()).unwrap_err();
            assert_eq!(refused, ListRefused::GoesBack { have: (2, 5), offered: (epoch, version) });
        }
        assert_eq!(keeper.position().cloned(), position);
        keeper.offer(&numbered(&world, 2, 5), now()).expect("the same list again");
        keeper.offer(&numbered(&world, 3, 1), now()).expect("a restore raises the epoch");
    }
}

#[test]
fn c5_one_version_has_one_content() {
    let world = World::new();
    let mut keeper = world.fresh_keeper(None);
    keeper.offer(&numbered(&world, 1, 1), now()).unwrap();
    let other = AllowList { rules: Vec::new(), ..world.list.clone() };
    let other = sign_allow_list(&other, &world.policy, Vec::new()).unwrap();
    assert_eq!(keeper.offer(&other, now()), Err(ListRefused::SameVersion));
}

#[test]
fn c5_broken_signature_and_unknown_policy_key_are_refused() {
    let world = World::new();
    let mut keeper = world.fresh_keeper(None);
    let good = numbered(&world, 1, 1);
    let foreign_key = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let foreign = sign_allow_list(&world.list, &foreign_key, Vec::new()).unwrap();
    assert_eq!(keeper.offer(&foreign, now()), Err(ListRefused::UnknownPolicyKey));
    // The foreign list under our key's name.
    let mixed = SignedAllowList { policy_key: world.policy.jwk(), ..foreign };
    assert_eq!(keeper.offer(&mixed, now()), Err(ListRefused::BadSignature));
    // One changed byte of the payload.
    let mut parts: Vec<String> = good.jws.split('.').map(str::to_owned).collect();
    let flipped = if &parts[1][40..41] == "A" { "B" } else { "A" };
    parts[1].replace_range(40..41, flipped);
    let broken = SignedAllowList { jws: parts.join("."), ..good.clone() };
    assert_eq!(keeper.offer(&broken, now()), Err(ListRefused::BadSignature));
    assert!(keeper.current().is_none() && keeper.position().is_none());
    keeper.offer(&good, now()).unwrap();
}

#[test]
fn c5_succession_of_policy_keys_is_followed_and_never_back() {
    let world = World::new();
    let second = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let third = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let steps =
        vec![sign_succession(&world.policy, &second.jwk()).unwrap(), sign_succession(&second, &third.jwk()).unwrap()];
    let signed = |key: &PolicyKey, version, succession: &[String]| {
        sign_allow_list(&AllowList { version, ..world.list.clone() }, key, succession.to_vec()).unwrap()
    };
    let mut keeper = world.fresh_keeper(None);
    keeper.offer(&signed(&second, 2, &steps[..1]), now()).unwrap();
    keeper.offer(&signed(&third, 3, &steps), now()).unwrap();
    // The replaced keys are not believed any more, although their thumbprints lead from the join code's.
    assert_eq!(keeper.offer(&signed(&second, 4, &steps[..1]), now()), Err(ListRefused::OldPolicyKey));
    assert_eq!(keeper.offer(&signed(&world.policy, 4, &[]), now()), Err(ListRefused::OldPolicyKey));
    // Steps missing, out of order, or made by somebody else lead nowhere.
    let foreign = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let forged = vec![steps[0].clone(), sign_succession(&foreign, &third.jwk()).unwrap()];
    let reversed: Vec<String> = steps.iter().rev().cloned().collect();
    for bad in [vec![], vec![steps[1].clone()], reversed, forged] {
        assert_eq!(keeper.offer(&signed(&third, 5, &bad), now()), Err(ListRefused::UnknownPolicyKey));
    }
    let long = vec![steps[0].clone(); 17];
    assert_eq!(keeper.offer(&signed(&third, 5, &long), now()), Err(ListRefused::Malformed));
    keeper.offer(&signed(&third, 5, &steps), now()).unwrap();
}

#[test]
fn c5_node_that_joined_after_a_change_of_keys_needs_nothing_from_before_it() {
    let world = World::new();
    let second = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let third = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let steps =
        vec![sign_succession(&world.policy, &second.jwk()).unwrap(), sign_succession(&second, &third.jwk()).unwrap()];
    let keeper = |key: &PolicyKey| {
        let anchor = key.thumbprint();
        AllowListKeeper::new(world.list.tenant.clone(), world.list.connector.clone(), anchor, None)
    };
    let signed = sign_allow_list(&world.list, &third, steps.clone()).unwrap();
    for anchor in [&world.policy, &second, &third] {
        keeper(anchor).offer(&signed, now()).expect("each leads to the third");
    }
    // The key it began with is the oldest one it believes; a former one cannot lead anywhere else.
    let other = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let aside = vec![sign_succession(&world.policy, &other.jwk()).unwrap()];
    let forged = sign_allow_list(&world.list, &other, aside).unwrap();
    assert_eq!(keeper(&second).offer(&forged, now()), Err(ListRefused::UnknownPolicyKey));
    let old = sign_allow_list(&world.list, &world.policy, Vec::new()).unwrap();
    assert_eq!(keeper(&second).offer(&old, now()), Err(ListRefused::UnknownPolicyKey));
}

/// What control could try that kept a copy of the key it has handed over.
#[test]
fn c5_control_alone_cannot_make_a_list_that_a_connector_takes_once_the_customer_signs() {
    let world = World::new();
    let customer = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let step = sign_succession(&world.policy, &customer.jwk()).unwrap();
    let mut keeper = world.fresh_keeper(None);
    keeper.offer(&numbered(&world, 1, 1), now()).unwrap();
    let list = AllowList { version: 2, ..world.list.clone() };
    keeper.offer(&sign_allow_list(&list, &customer, vec![step.clone()]).unwrap(), now()).unwrap();
    let position = keeper.position().cloned();

    let wider = AllowList { version: 9, epoch: 9, rules: Vec::new(), ..world.list.clone() };
    let own = PolicyKey::from_pkcs8(&world::p256()).unwrap();
    let aside = sign_succession(&world.policy, &own.jwk()).unwrap();
    let not_his = sign_succession(&own, &own.jwk()).unwrap();
    let mut tries = vec![
        sign_allow_list(&wider, &world.policy, Vec::new()).unwrap(),
        sign_allow_list(&wider, &own, vec![aside.clone()]).unwrap(),
        sign_allow_list(&wider, &own, vec![step.clone(), aside.clone()]).unwrap(),
        sign_allow_list(&wider, &own, vec![aside, step.clone()]).unwrap(),
        sign_allow_list(&wider, &own, vec![step.clone(), not_his]).unwrap(),
        sign_allow_list(&wider, &own, vec![step.clone()]).unwrap(),
    ];
    // His name on it, and his signature of another list.
    let forged = sign_allow_list(&wider, &own, vec![step.clone()]).unwrap();
    tries.push(SignedAllowList { policy_key: customer.jwk(), ..forged });
    for signed in &tries {
        for mut keeper in [keeper.clone(), world.fresh_keeper(position.clone())] {
            keeper.offer(signed, now()).unwrap_err();
            assert_eq!(keeper.position(), position.as_ref());
        }
    }
    keeper.offer(&sign_allow_list(&wider, &customer, vec![step]).unwrap(), now()).expect("his own");
}

#[test]
fn c5_proof_of_a_policy_key_is_for_one_tenant_and_one_key() {
    let (mine, other) =
        (PolicyKey::from_pkcs8(&world::p256()).unwrap(), PolicyKey::from_pkcs8(&world::p256()).unwrap());
    let (acme, globex) = ("acme".parse().unwrap(), "globex".parse().unwrap());
    let proof = sign_adoption(&acme, &mine).unwrap();
    assert!(adopts(&proof, &acme, &mine.jwk()));
    assert!(!adopts(&proof, &globex, &mine.jwk()) && !adopts(&proof, &acme, &other.jwk()));
    assert!(!adopts("", &acme, &mine.jwk()) && !adopts(&proof, &acme, &json!({})));
    let step = sign_succession(&mine, &other.jwk()).unwrap();
    assert!(succeeds(&step, &mine.jwk(), &other.jwk()) && !succeeds(&step, &other.jwk(), &mine.jwk()));
    assert!(!succeeds(&proof, &mine.jwk(), &other.jwk()) && !adopts(&step, &acme, &mine.jwk()));
}

#[test]
fn t2_list_of_another_tenant_or_connector_is_refused() {
    let world = World::new();
    let mut keeper = world.fresh_keeper(None);
    for list in [
        AllowList { tenant: "other".parse().unwrap(), ..world.list.clone() },
        AllowList { connector: "dc-2".parse().unwrap(), ..world.list.clone() },
    ] {
        let signed = sign_allow_list(&list, &world.policy, Vec::new()).unwrap();
        assert_eq!(keeper.offer(&signed, now()), Err(ListRefused::NotOurs));
    }
}

#[test]
fn c5_list_past_its_end_or_good_for_too_long_is_refused() {
    let world = World::new();
    let mut keeper = world.fresh_keeper(None);
    let ending = |at| {
        sign_allow_list(&AllowList { not_after: UnixTime(at), ..world.list.clone() }, &world.policy, Vec::new())
            .unwrap()
    };
    assert_eq!(keeper.offer(&ending(NOW - 9), now()), Err(ListRefused::Expired(9)));
    assert_eq!(keeper.offer(&ending(NOW + 7 * DAY + 301), now()), Err(ListRefused::TooLong(301)));
    keeper.offer(&ending(NOW + 7 * DAY + 300), now()).unwrap();
}

#[test]
fn c4_caller_records_must_fit_together() {
    let world = World::new();
    let gateway = world.gateway.caller();
    let bad: Vec<(&str, Vec<Caller>)> = vec![
        ("a gateway called control", vec![Caller { id: "control".to_owned(), ..gateway.clone() }]),
        ("control under a gateway's name", vec![Caller { kind: CallerKind::Control, ..gateway.clone() }]),
        ("algorithm of another key", vec![Caller { alg: "PS256".to_owned(), ..gateway.clone() }]),
        ("no algorithm", vec![Caller { alg: "none".to_owned(), ..gateway.clone() }]),
        ("foreign key id", vec![Caller { kid: world.control.caller().kid, ..gateway.clone() }]),
        ("one key for two", vec![gateway.clone(), Caller { id: "dmz-2".to_owned(), ..gateway.clone() }]),
        (
            "a policy key",
            vec![Caller {
                jwk: world.policy.jwk(),
                kid: world.policy.thumbprint(),
                alg: "ES256".to_owned(),
                ..gateway.clone()
            }],
        ),
        ("a symmetric key", vec![Caller { jwk: json!({ "kty": "oct", "k": "AA" }), ..gateway.clone() }]),
    ];
    for (what, callers) in bad {
        let list = AllowList { callers, ..world.list.clone() };
        let signed = sign_allow_list(&list, &world.policy, Vec::new()).unwrap();
        let refused = world.fresh_keeper(None).offer(&signed, now());
        assert!(matches!(refused, Err(ListRefused::BadCaller(_))), "{what}: {refused:?}");
    }
}

#[test]
fn c4_caller_may_have_two_keys_while_one_replaces_the_other() {
    let mut world = World::new();
    let second = TokenSigner::gateway("dmz-1", &world::ed25519()).unwrap();
    let mut list = AllowList { version: 2, ..world.list.clone() };
    list.callers.push(second.caller());
    world.offer(&list).unwrap();
    let old = sluice_connector_wire::sign_stream_token(&world.claims(), &world.gateway).unwrap();
    world.admit_direct(&old).unwrap();
    // Both keys share one memory: a token's id is spent for the caller, not for the key.
    let new = sluice_connector_wire::sign_stream_token(&world.claims(), &second).unwrap();
    assert!(world.admit_direct(&new).is_err());
}

#[test]
fn c5_rules_nobody_could_mean_refuse_the_whole_list() {
    let world = World::new();
    for host in
        ["*", "*.", "", "a b", "UPPER.test", "*.*.test", "a.*", "0x7f.1", "2130706433", "127.1", "a..b", "[::1]"]
    {
        let mut list = world.list.clone();
        list.rules[0].host = host.to_owned();
        let signed = sign_allow_list(&list, &world.policy, Vec::new()).unwrap();
        assert_eq!(
            world.fresh_keeper(None).offer(&signed, now()),
            Err(ListRefused::BadRule { rule: "roundup".to_owned(), fault: RuleFault::Host }),
            "{host}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Model: the greatest (epoch, version) offered so far wins; everything below it is refused; a restart in
    /// between changes nothing.
    #[test]
    fn order_is_that_of_a_maximum(offers in proptest::collection::vec((0_u64..4, 0_u64..4, any::<bool>()), 1..24)) {
        let world = World::new();
        let mut keeper: AllowListKeeper = world.fresh_keeper(None);
        let mut best: Option<(u64, u64)> = None;
        for (epoch, version, restart) in offers {
            if restart {
                let kept = serde_json::to_vec(&keeper.position()).unwrap();
                keeper = world.fresh_keeper(serde_json::from_slice(&kept).unwrap());
            }
            let accepted = keeper.offer(&numbered(&world, epoch, version), now()).is_ok();
            prop_assert_eq!(accepted, best.is_none_or(|best| (epoch, version) >= best));
            best = best.max(Some((epoch, version)));
            prop_assert_eq!(keeper.position().map(|p| (p.epoch, p.version)), best);
        }
    }
}
