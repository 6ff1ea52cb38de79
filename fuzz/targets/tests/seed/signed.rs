//! Tokens, allow-lists, assertions, keys.

use serde_json::{Value, json};
use sluice_connector_wire::sign_succession;
use sluice_fuzz_targets::fixtures::{
    CNF, GATEWAY, NOW, SID, allow_list, assertion_key, policy_key, sign_ed25519, sign_p256, signed_allow_list,
    token_signer,
};

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = tokens();
    seeds.extend(lists());
    seeds.extend(assertions());
    seeds.extend(keys());
    seeds
}

/// `value` with changes at the top level; `null` removes.
fn but(value: &Value, changes: Value) -> Value {
    let mut value = value.clone();
    for (name, new) in changes.as_object().unwrap() {
        match new {
            Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
            new => value[name] = new.clone(),
        }
    }
    value
}

fn lines(header: &Value, claims: &Value) -> String {
    format!("s{header}\n{claims}")
}

fn tokens() -> Vec<Seed> {
    let header = json!({ "alg": "EdDSA", "typ": "sluice-stream+jwt", "kid": token_signer().caller().kid });
    let claims = json!({
        "iss": GATEWAY, "aud": "dc-1", "sub": "user/ann", "res": "roundup", "tgt": "tcp:roundup.dc.test:8080", "sid": SID,
        "cnf": CNF, "iat": NOW, "exp": NOW.plus(30), "jti": "AwMDAwMDAwMDAwMDAwMDAw",
    });
    let text = |value: &Value| value.to_string().into_bytes();
    let with = |name, changes| one("stream_token", name, lines(&header, &but(&claims, changes)));
    let headed = |name, changes| one("stream_token", name, lines(&but(&header, changes), &claims));
    vec![
        one("stream_token", "good-token", sign_ed25519(2, &text(&header), &text(&claims))),
        with("good-signed", json!({})),
        with("good-wildcard", json!({ "res": "branch-web", "tgt": "tcp:a.b.web.dc.test:443" })),
        with("good-at-the-edge", json!({ "iat": NOW.0 - 59, "exp": NOW.0 - 30 })),
        one("stream_token", "bad-key", sign_ed25519(9, &text(&header), &text(&claims))),
        headed("bad-alg-none", json!({ "alg": "none" })),
        headed("bad-alg-hs256", json!({ "alg": "HS256" })),
        headed("bad-typ", json!({ "typ": "sluice-allow-list+jwt" })),
        headed("bad-crit", json!({ "crit": ["exp"] })),
        headed("bad-own-key", json!({ "jwk": token_signer().jwk() })),
        with("bad-audience", json!({ "aud": "dc-2" })),
        with("bad-long-life", json!({ "exp": NOW.plus(31) })),
        with("bad-backwards", json!({ "exp": NOW.0 - 1 })),
        with("bad-future", json!({ "iat": NOW.plus(31), "exp": NOW.plus(40) })),
        with("bad-overflow", json!({ "iat": 0, "exp": u64::MAX })),
        with("bad-target", json!({ "tgt": "tcp:other.dc.test:8080" })),
        with("bad-target-suffix", json!({ "res": "branch-web", "tgt": "tcp:evilweb.dc.test:443" })),
        with("bad-target-number", json!({ "tgt": "tcp:127.1:8080" })),
        with("bad-jti", json!({ "jti": "AA" })),
        with("bad-extra-claim", json!({ "admin": true })),
        with("bad-missing-claim", json!({ "cnf": null })),
        with("bad-negative", json!({ "iat": -1 })),
        one("stream_token", "bad-two-dots", ".."),
        one(
            "stream_token",
            "bad-duplicate-claim",
            format!("s{header}\n{}", claims.to_string().replacen('{', "{\"aud\":\"dc-2\",", 1)),
        ),
    ]
}

fn lists() -> Vec<Seed> {
    let list = serde_json::to_value(allow_list()).unwrap();
    let with = |name, changes| one("allow_list", name, format!("s{}", but(&list, changes)));
    let mut same_kid = list.clone();
    let first = same_kid["callers"][0].clone();
    same_kid["callers"].as_array_mut().unwrap().push(first);
    let rule = |host: &str| {
        let mut rules = list["rules"].clone();
        rules[0]["host"] = host.into();
        json!({ "rules": rules, "version": 4 })
    };
    let ruled = |name, changes: Value| {
        let mut rules = list["rules"].clone();
        rules[0] = but(&rules[0], changes);
        with(name, json!({ "rules": rules, "version": 4 }))
    };
    let exception = |seconds: u64| json!({ "made": NOW, "until": NOW.plus(seconds) });
    let office = json!({ "days": ["mon", "fri"], "from": 1320, "to": 240 });
    let mut succession = serde_json::to_value(signed_allow_list()).unwrap();
    let next = sign_succession(&policy_key(), assertion_key().jwk()).unwrap();
    succession["succession"] = json!([next]);
    vec![
        one("allow_list", "good-signed", serde_json::to_vec(signed_allow_list()).unwrap()),
        with("bad-same-version-in-other-bytes", json!({})),
        with("good-next", json!({ "version": 4 })),
        with("good-epoch", json!({ "epoch": 2, "version": 0 })),
        with("good-empty", json!({ "version": 9, "rules": [], "callers": [] })),
        with("good-address", rule("10.9.0.5")),
        with("good-network", rule("10.9.0.0/16")),
        ruled("good-ports", json!({ "ports": { "from": 8080, "to": 8090 } })),
        ruled("good-port-of-old", json!({ "ports": null, "port": 8080 })),
        ruled("good-times", json!({ "times": [office] })),
        ruled("good-exception", json!({ "name": "exception/x-1", "exception": exception(86_400) })),
        ruled("bad-exception-of-more-than-a-day", json!({ "exception": exception(86_401) })),
        ruled(
            "bad-exception-from-the-future",
            json!({ "exception": { "made": NOW.plus(301), "until": NOW.plus(400) } }),
        ),
        ruled("bad-times-minute", json!({ "times": [but(&office, json!({ "to": 1441 }))] })),
        ruled("bad-ports-turned", json!({ "ports": { "from": 2, "to": 1 } })),
        ruled("bad-name", json!({ "name": "a b" })),
        with("bad-network-with-host-bits", rule("10.9.0.1/16")),
        with("bad-network-of-all", rule("0.0.0.0/0")),
        one("allow_list", "bad-succession", succession.to_string()),
        with("bad-back", json!({ "version": 2 })),
        with("bad-same-version", json!({ "rules": [] })),
        with("bad-tenant", json!({ "tenant": "other", "version": 4 })),
        with("bad-connector", json!({ "connector": "dc-2", "version": 4 })),
        with("bad-expired", json!({ "not_after": 1, "version": 4 })),
        with("bad-for-ever", json!({ "not_after": u64::MAX, "version": 4 })),
        with("bad-host", rule("*")),
        with("bad-host-number", rule("0x7f.1")),
        one("allow_list", "bad-two-callers-one-key", format!("s{}", but(&same_kid, json!({ "version": 4 })))),
        with("bad-unknown-field", json!({ "version": 4, "extra": 1 })),
        one("allow_list", "bad-json", "{"),
    ]
}

fn assertions() -> Vec<Seed> {
    let header = json!({ "alg": "ES256", "kid": assertion_key().kid(), "typ": "JWT" });
    let claims = json!({
        "iss": "https://login.acme.test", "aud": "feed", "sub": "ann", "email": "ann@acme.test", "name": "Ann",
        "groups": ["staff"], "tenant": "acme", "iat": NOW, "exp": NOW.plus(60), "jti": "AwMDAwMDAwMDAwMDAwMDAw",
    });
    let text = |value: &Value| value.to_string().into_bytes();
    let with = |name, changes| one("assertion", name, lines(&header, &but(&claims, changes)));
    vec![
        one("assertion", "good-token", sign_p256(3, &text(&header), &text(&claims))),
        with("good-signed", json!({})),
        with("good-at-the-edge", json!({ "iat": NOW.0 - 80, "exp": NOW.0 - 29 })),
        one("assertion", "bad-key", sign_p256(1, &text(&header), &text(&claims))),
        one("assertion", "bad-alg", lines(&but(&header, json!({ "alg": "none" })), &claims)),
        with("bad-issuer", json!({ "iss": "https://login.acme.test.evil.test" })),
        with("bad-issuer-path", json!({ "iss": "https://login.acme.test/" })),
        with("bad-audience", json!({ "aud": "wiki" })),
        with("bad-tenant", json!({ "tenant": "other" })),
        with("bad-long-life", json!({ "exp": NOW.plus(61) })),
        with("bad-old", json!({ "iat": NOW.0 - 120, "exp": NOW.0 - 60 })),
        with("bad-overflow", json!({ "iat": u64::MAX - 1, "exp": u64::MAX })),
        with("bad-extra", json!({ "role": "owner" })),
        one("assertion", "bad-empty", ""),
    ]
}

fn keys() -> Vec<Seed> {
    let rsa = serde_json::to_value(&allow_list().callers[1]).unwrap()["jwk"].clone();
    let (p256, ed25519) = (policy_key().jwk(), token_signer().jwk());
    let key = |name, value: Value| one("jwk", name, value.to_string());
    vec![
        key("good-p256", p256.clone()),
        key("good-ed25519", ed25519.clone()),
        key("good-rsa", rsa.clone()),
        key("good-with-kid", but(&p256, json!({ "kid": "x", "use": "sig" }))),
        key("bad-private", but(&ed25519, json!({ "d": "AA" }))),
        key("bad-symmetric", json!({ "kty": "oct", "k": "AA" })),
        key("bad-short-rsa", but(&rsa, json!({ "n": "gAAA" }))),
        key("bad-leading-zero", but(&rsa, json!({ "e": "AAEAAQ" }))),
        key("bad-curve", but(&p256, json!({ "crv": "P-384" }))),
        key("bad-padding", but(&ed25519, json!({ "x": "AA==" }))),
        key("bad-list", json!([1])),
    ]
}
