//! Every kind of wrong token and wrong list, against the real signing side.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sluice_connector_wire::{
    Fault, Gatekeeper, Presented, Refusal, StreamClaims, StreamKind, Target, TokenSigner, sign_stream_token,
};
use sluice_node_identity::UnixTime;
use world::{GATEWAY, NOW, World};

fn judge(world: &mut World, claims: &StreamClaims) -> Result<(), Refusal> {
    let token = sign_stream_token(claims, &world.gateway).unwrap();
    world.admit_direct(&token).map(|_| ())
}

/// Makes a claim wrong.
type Spoil = Box<dyn Fn(&mut StreamClaims)>;

#[test]
fn c4_a_good_token_is_granted_once_and_names_its_target() {
    let mut world = World::new();
    let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
    let granted = world.admit_direct(&token).unwrap();
    assert_eq!(granted.target().to_string(), "tcp:roundup.dc.test:8080");
    assert_eq!(granted.networks(), ["10.9.0.0/16".parse().unwrap()]);
    assert_eq!((granted.caller(), granted.subject()), (GATEWAY, "user/ada"));
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::Spent);
}

#[test]
fn c4_spent_token_is_refused_after_the_list_changed() {
    let mut world = World::new();
    let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
    world.admit_direct(&token).unwrap();
    // The caller leaves the list and comes back: its spent tokens are still known.
    let mut without = world.list.clone();
    without.version = 2;
    without.callers.retain(|caller| caller.id != GATEWAY);
    world.offer(&without).unwrap();
    let mut again = world.list.clone();
    again.version = 3;
    world.offer(&again).unwrap();
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::Spent);
}

#[test]
fn c4_each_wrong_claim_has_its_own_refusal() {
    let wrong: Vec<(&str, Spoil)> = vec![
        ("token_wrong_audience", Box::new(|c| c.aud = "dc-2".parse().unwrap())),
        ("token_wrong_session", Box::new(|c| c.sid = World::text([9; 16]))),
        ("token_wrong_certificate", Box::new(|c| c.cnf = World::text([9; 32]))),
        ("not_allowed", Box::new(|c| c.tgt = "tcp:other.dc.test:8080".parse().unwrap())),
        ("not_allowed", Box::new(|c| c.tgt = "tcp:roundup.dc.test:22".parse().unwrap())),
        ("not_allowed", Box::new(|c| c.res = "nothing-like-it".parse().unwrap())),
        ("token_expired", Box::new(|c| (c.iat, c.exp) = (UnixTime(NOW - 61), UnixTime(NOW - 31)))),
        ("token_from_the_future", Box::new(|c| (c.iat, c.exp) = (UnixTime(NOW + 31), UnixTime(NOW + 61)))),
        ("token_bad_life", Box::new(|c| c.exp = c.iat.plus(31))),
        ("token_bad_life", Box::new(|c| c.exp = c.iat)),
        ("token_bad_life", Box::new(|c| (c.iat, c.exp) = (UnixTime(NOW + 5), UnixTime(NOW)))),
        ("token_not_trusted", Box::new(|c| c.jti = World::text([1; 15]))),
        ("token_not_trusted", Box::new(|c| c.sub = String::new())),
        ("token_not_trusted", Box::new(|c| c.sub = "user/ada\nuser/bob".to_owned())),
        ("token_not_trusted", Box::new(|c| c.sub = "user/\u{9b}31m".to_owned())),
    ];
    for (code, spoil) in wrong {
        let mut world = World::new();
        let mut claims = world.claims();
        spoil(&mut claims);
        assert_eq!(judge(&mut world, &claims).unwrap_err().code(), code, "{claims:?}");
        // A refusal changes nothing: the right token still passes.
        let right = StreamClaims { jti: World::text([8; 16]), ..world.claims() };
        assert_eq!(judge(&mut world, &right), Ok(()));
    }
}

#[test]
fn c4_skew_within_the_leeway_passes_and_beyond_it_is_named() {
    for (iat, exp) in [(NOW - 60, NOW - 30), (NOW + 30, NOW + 60)] {
        let mut world = World::new();
        let claims = StreamClaims { iat: UnixTime(iat), exp: UnixTime(exp), ..world.claims() };
        assert_eq!(judge(&mut world, &claims), Ok(()));
    }
    let mut world = World::new();
    let late = StreamClaims { iat: UnixTime(NOW - 130), exp: UnixTime(NOW - 100), ..world.claims() };
    let refusal = judge(&mut world, &late).unwrap_err();
    assert_eq!(refusal, Refusal::Expired { skew: 100 });
    assert!(refusal.to_string().contains("100 s"), "{refusal}");
}

#[test]
fn c4_a_connector_whose_clock_is_set_back_keeps_serving() {
    let mut world = World::new();
    world.keeper = Gatekeeper::new(world.fresh_keeper(None), 100);
    world.offer(&world.list.clone()).unwrap();
    let ask = |world: &mut World, at: u64| world::ask(world, "roundup", "tcp:roundup.dc.test:8080", at).map(drop);
    // One every ten minutes: an hour back is less than what is remembered, whenever it happens.
    for step in 0..250 {
        ask(&mut world, NOW + step * 600).unwrap();
    }
    let back = NOW + 246 * 600;
    ask(&mut world, back + 1).unwrap();
    assert!(!world.keeper.is_stuck(UnixTime(back)));
    // A month back is more. With new sessions there is nothing to remember.
    let back = NOW - 30 * world::DAY;
    assert!(world.keeper.is_stuck(UnixTime(back)));
    assert_eq!(ask(&mut world, back), Err(Refusal::SpentFull));
    world.sid = World::text([7; 16]);
    world.keeper.begin_anew();
    ask(&mut world, back).unwrap();
    let refusal = Refusal::SpentFull;
    assert_eq!((refusal.code(), refusal.retry(), refusal.fault()), ("token_memory_full", true, Fault::Connector));
}

#[test]
fn c4_memory_of_spent_tokens_refuses_when_full_for_that_caller_only() {
    let mut world = World::new();
    world.keeper = Gatekeeper::new(world.fresh_keeper(None), 3);
    world.offer(&world.list.clone()).unwrap();
    for n in 0..3 {
        let claims = StreamClaims { jti: World::text([n; 16]), ..world.claims() };
        judge(&mut world, &claims).unwrap();
    }
    let claims = StreamClaims { jti: World::text([77; 16]), ..world.claims() };
    assert_eq!(judge(&mut world, &claims), Err(Refusal::SpentFull));
    let token = sign_stream_token(&world.control_claims(), &world.control).unwrap();
    world.admit_sealed(&token).unwrap();
}

#[test]
fn c4_foreign_key_of_the_same_kind_is_refused() {
    let mut world = World::new();
    let foreign = TokenSigner::gateway(GATEWAY, &world::ed25519()).unwrap();
    let token = sign_stream_token(&world.claims(), &foreign).unwrap();
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::NotTrusted);
    // The foreign signature under the known caller's key id.
    let header = json!({ "alg": "EdDSA", "typ": "sluice-stream+jwt", "kid": world.gateway.caller().kid });
    let token = world::token_with(&header, &world.claims(), |input| {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&world::ed25519()).unwrap().sign(input).as_ref().to_vec()
    });
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::NotTrusted);
}

#[test]
fn c4_caller_cannot_speak_for_another() {
    let mut world = World::new();
    // The other gateway's key, known to the list, with the first gateway's name in `iss`.
    let other = TokenSigner::gateway(GATEWAY, &world.other_pkcs8).unwrap();
    let token = sign_stream_token(&world.claims(), &other).unwrap();
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::NotTrusted);
    // Under its own name it is known, but not at the first gateway's tunnel, and at its own the rule is not for it.
    let mut claims = world.claims();
    claims.iss = "dmz-2".to_owned();
    let token = sign_stream_token(&claims, &TokenSigner::gateway("dmz-2", &world.other_pkcs8).unwrap()).unwrap();
    assert_eq!(world.admit_direct(&token).unwrap_err(), Refusal::WrongCaller);
    let (sid, cnf) = (world.sid.clone(), world.gateway_cnf.clone());
    let own = Presented { kind: StreamKind::Direct, caller: "dmz-2", sid: &sid, cnf: &cnf };
    assert_eq!(world.keeper.admit(&token, &own, UnixTime(NOW)).unwrap_err(), Refusal::NotAllowed);
}

#[test]
fn c4_alg_none_alg_swap_and_extra_header_members_are_refused() {
    let mut world = World::new();
    let kid = world.gateway.caller().kid;
    let sign = |pkcs8: &[u8], input: &[u8]| {
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).unwrap().sign(input).as_ref().to_vec()
    };
    let good = json!({ "alg": "EdDSA", "typ": "sluice-stream+jwt", "kid": kid });
    let claims = world.claims();
    let pkcs8 = world.gateway_pkcs8.clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut header = good.clone();
        change(&mut header);
        world::token_with(&header, &claims, |input| sign(&pkcs8, input))
    };
    let none = {
        let header = json!({ "alg": "none", "typ": "sluice-stream+jwt", "kid": kid });
        world::token_with(&header, &claims, |_| Vec::new())
    };
    let hmac = {
        // The classic confusion: HMAC keyed with the public key's bytes.
        let header = json!({ "alg": "HS256", "typ": "sluice-stream+jwt", "kid": kid });
        world::token_with(&header, &claims, |input| {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, kid.as_bytes());
            aws_lc_rs::hmac::sign(&key, input).as_ref().to_vec()
        })
    };
    let es256 = {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &world.policy_pkcs8).unwrap();
        let header = json!({ "alg": "ES256", "typ": "sluice-stream+jwt", "kid": world.policy.thumbprint() });
        world::token_with(&header, &claims, |input| pair.sign(&SystemRandom::new(), input).unwrap().as_ref().to_vec())
    };
    let bad = [
        none,
        hmac,
        es256,
        with(&|h| h["alg"] = json!("none")),
        with(&|h| h["alg"] = json!("PS256")),
        with(&|h| h["alg"] = json!("eddsa")),
        with(&|h| h["crit"] = json!(["exp"])),
        with(&|h| h["b64"] = json!(false)),
        with(&|h| h["jku"] = json!("https://evil.test")),
        with(&|h| h["jwk"] = world.gateway.jwk()),
        with(&|h| h["typ"] = json!("JWT")),
        with(&|h| h["typ"] = json!("sluice-allow-list+jwt")),
        with(&|h| {
            h.as_object_mut().unwrap().remove("typ");
        }),
    ];
    for token in &bad {
        assert_eq!(world.admit_direct(token).unwrap_err(), Refusal::NotTrusted, "{token}");
    }
    let token = with(&|_| {});
    world.admit_direct(&token).unwrap();
}

#[test]
fn c4_kind_of_stream_must_fit_the_caller() {
    let mut world = World::new();
    let gateway = sign_stream_token(&world.claims(), &world.gateway).unwrap();
    assert_eq!(world.admit_sealed(&gateway).unwrap_err(), Refusal::WrongKind);
    let control = sign_stream_token(&world.control_claims(), &world.control).unwrap();
    assert_eq!(world.admit_direct(&control).unwrap_err(), Refusal::WrongKind);
    world.admit_sealed(&control).unwrap();
}

#[test]
fn c5_resource_for_control_only_refuses_gateways() {
    let mut world = World::new();
    let mut claims = world.claims();
    claims.res = "directory".parse().unwrap();
    claims.tgt = "tcp:10.9.0.5:636".parse().unwrap();
    assert_eq!(judge(&mut world, &claims), Err(Refusal::NotAllowed));
    let mut control = world.control_claims();
    (control.res, control.tgt) = (claims.res, claims.tgt);
    let token = sign_stream_token(&control, &world.control).unwrap();
    world.admit_sealed(&token).unwrap();
}

#[test]
fn c5_no_list_and_an_expired_list_open_nothing() {
    let mut world = World::new();
    let token = sign_stream_token(&world.claims(), &world.gateway).unwrap();
    let mut empty = Gatekeeper::new(world.fresh_keeper(None), 100);
    let presented = Presented {
        kind: StreamKind::Direct,
        caller: GATEWAY,
        sid: &world.sid.clone(),
        cnf: &world.gateway_cnf.clone(),
    };
    assert_eq!(empty.admit(&token, &presented, UnixTime(NOW)).unwrap_err(), Refusal::NoList);
    let later = world.list.not_after.plus(1);
    let claims = StreamClaims { iat: later, exp: later.plus(30), ..world.claims() };
    let token = sign_stream_token(&claims, &world.gateway).unwrap();
    assert_eq!(world.keeper.admit(&token, &presented, later).unwrap_err(), Refusal::ListExpired);
}

#[test]
fn c5_wildcard_means_one_or_more_labels_and_never_an_address() {
    let mut world = World::new();
    let mut ask = |host: &str| {
        world.serial += 1;
        let mut claims = world.claims();
        claims.res = "branch-web".parse().unwrap();
        claims.tgt = format!("tcp:{host}:443").parse().unwrap();
        judge(&mut world, &claims)
    };
    assert_eq!(ask("a.web.dc.test"), Ok(()));
    assert_eq!(ask("a.b.web.dc.test"), Ok(()));
    for other in ["web.dc.test", "aweb.dc.test", "10.9.0.1", "[::1]"] {
        assert_eq!(ask(other), Err(Refusal::NotAllowed), "{other}");
    }
}

#[test]
fn c5_hosts_that_a_resolver_could_read_otherwise_are_no_targets() {
    let strange = [".web.test", "a..web.test", "web.test.", "127.1", "0x7f.1", "2130706433", "010.0.0.1", "WEB.test"];
    for host in strange.into_iter().chain(["", "[127.0.0.1]", "::1", "[fe80::1%eth0]", "a b", "*.test", "[web.test]"]) {
        assert!(format!("tcp:{host}:443").parse::<Target>().is_err(), "{host}");
    }
    for host in ["web", "web-1.dc_2.test", "1-two.test", "10.9.0.1", "[2001:db8::1]"] {
        let text = format!("tcp:{host}:443");
        assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
    }
}

#[test]
fn a_refused_token_says_nothing_about_what_exists() {
    let mut world = World::new();
    let absent = StreamClaims { res: "no-such".parse().unwrap(), ..world.claims() };
    let jti = World::text([5; 16]);
    let forbidden = StreamClaims { res: "directory".parse().unwrap(), jti, ..world.claims() };
    assert_eq!(judge(&mut world, &absent), judge(&mut world, &forbidden));
}

#[test]
fn token_of_control_is_ps256_with_a_salt_as_long_as_the_digest() {
    let mut world = World::new();
    let token = sign_stream_token(&world.control_claims(), &world.control).unwrap();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&header).unwrap()["alg"], "PS256");
    world.admit_sealed(&token).unwrap();
}
