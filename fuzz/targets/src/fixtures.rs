//! One small world that inputs are held against: a tenant, its keys, its documents. The keys are worth nothing: their
//! private halves are one byte, repeated.

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sluice_connector_wire::{
    AllowList, AllowListKeeper, CallerKind, PolicyKey, SignedAllowList, TokenSigner, sign_allow_list,
};
use sluice_control_pki::Authority;
use sluice_control_sync::Declaration;
use sluice_discovery_rules::EdgeDocument;
use sluice_gateway_access::{AssertionKey, Plan};
use sluice_node_identity::{UnixTime, api::VerifiedUser};

/// When all of it happens.
pub const NOW: UnixTime = UnixTime(1_800_000_000);
/// The gateway that signs stream tokens.
pub const GATEWAY: &str = "dmz-1";
/// The tunnel session in use.
pub const SID: &str = "AQEBAQEBAQEBAQEBAQEBAQ";
/// `cnf` of the gateway's certificate.
pub const CNF: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
/// The app host that users want.
pub const APP_HOST: &str = "wiki.acme.test";
/// The cookie that names a browser during login, on either host.
pub const BROWSER: &str = "BwcHBwcHBwcHBwcHBwcHBw";
/// The gateway's cookie key, base64url.
pub const SESSION_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

/// An Ed25519 private key (RFC 8410 §7) without its public half.
#[must_use]
pub fn ed25519(byte: u8) -> Vec<u8> {
    let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    [&head[..], &[byte; 32]].concat()
}

/// A P-256 private key (RFC 5958, RFC 5915) without its public half.
#[must_use]
pub fn p256(byte: u8) -> Vec<u8> {
    let head = [
        0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20,
    ];
    [&head[..], &[byte; 32]].concat()
}

/// The tenant's policy key.
#[must_use]
pub fn policy_key() -> PolicyKey {
    PolicyKey::from_pkcs8(&p256(1)).unwrap()
}

/// The gateway's key for stream tokens.
#[must_use]
pub fn token_signer() -> TokenSigner {
    TokenSigner::gateway(GATEWAY, &ed25519(2)).unwrap()
}

/// The gateway's key for assertions.
#[must_use]
pub fn assertion_key() -> AssertionKey {
    AssertionKey::from_pkcs8(&p256(3)).unwrap()
}

/// A JWS over any header and payload, signed with a gateway's kind of key (Ed25519).
#[must_use]
pub fn sign_ed25519(key: u8, header: &[u8], payload: &[u8]) -> String {
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&ed25519(key)).unwrap();
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

/// A JWS over any header and payload, signed with a policy or assertion kind of key (P-256).
#[must_use]
pub fn sign_p256(key: u8, header: &[u8], payload: &[u8]) -> String {
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &p256(key)).unwrap();
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = URL_SAFE_NO_PAD.encode(pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap());
    format!("{input}.{signature}")
}

/// The payload of a compact JWS, unverified.
#[must_use]
pub fn payload(jws: &str) -> Option<Value> {
    let part = jws.split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The connector's allow-list.
#[must_use]
pub fn allow_list() -> AllowList {
    // A modulus of the right size that nobody has the factors of: PS256 is tried and fails.
    let control = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc5; 384]), "e": "AQAB" });
    let control = sluice_connector_wire::Caller::new("control", CallerKind::Control, &control).unwrap();
    let rule = |resource: &str, host: &str, port: u16| {
        json!({ "resource": resource, "protocol": "tcp", "host": host, "port": port,
                "callers": [GATEWAY, "control"], "networks": ["10.9.0.0/16"] })
    };
    serde_json::from_value(json!({
        "tenant": "acme", "connector": "dc-1", "epoch": 1, "version": 3, "not_after": NOW.plus(86_400),
        "callers": [token_signer().caller(), control],
        "rules": [rule("roundup", "roundup.dc.test", 8080), rule("branch-web", "*.web.dc.test", 443)],
    }))
    .unwrap()
}

/// That list, signed.
#[must_use]
pub fn signed_allow_list() -> &'static SignedAllowList {
    static SIGNED: OnceLock<SignedAllowList> = OnceLock::new();
    SIGNED.get_or_init(|| sign_allow_list(&allow_list(), &policy_key(), Vec::new()).unwrap())
}

/// The keeper of a connector that has that list in use.
#[must_use]
pub fn keeper() -> AllowListKeeper {
    static KEEPER: OnceLock<AllowListKeeper> = OnceLock::new();
    let fresh = || {
        let anchor = policy_key().thumbprint();
        let mut keeper = AllowListKeeper::new("acme".parse().unwrap(), "dc-1".parse().unwrap(), anchor, None);
        keeper.offer(signed_allow_list(), NOW).unwrap();
        keeper
    };
    KEEPER.get_or_init(fresh).clone()
}

/// The gateway's document.
#[must_use]
pub fn gateway_document() -> Value {
    json!({
        "tenant": "acme", "login_host": "login.acme.test", "session_seconds": 3600, "session_key": SESSION_KEY,
        "splices": [{ "server_name": "node.sluice.test", "to": "[2001:db8::1]:8443", "proxy_protocol": true }],
        "apps": [
            { "id": "wiki", "name": "Wiki", "host": APP_HOST, "groups": ["staff"], "user_header": "X-Remote-User",
              "upstream": { "kind": "direct", "address": "192.0.2.1:80", "tls_server_name": null, "networks": [] } },
            { "id": "roundup", "name": "Roundup", "host": "roundup.acme.test", "groups": [], "user_header": null,
              "upstream": { "kind": "resource", "resource": "roundup", "connectors": ["dc-1"],
                            "target": "tcp:roundup.dc.test:8080", "host_header": "roundup:8080" } },
            { "id": "feed", "name": "Feed", "host": "feed.acme.test", "groups": ["staff"], "user_header": null,
              "upstream": { "kind": "control", "address": "control.test:8443", "server_name": "pages.sluice.test" } },
        ],
        "relay": { "callers": ["spiffe://sluice.test/control"] },
    })
}

/// That document, checked.
#[must_use]
pub fn plan() -> &'static Plan {
    static PLAN: OnceLock<Plan> = OnceLock::new();
    PLAN.get_or_init(|| {
        let document: sluice_gateway_access::GatewayDocument = serde_json::from_value(gateway_document()).unwrap();
        document.try_into().unwrap()
    })
}

/// The user who has logged in.
#[must_use]
pub fn user() -> VerifiedUser {
    VerifiedUser {
        user: "ann".parse().unwrap(),
        email: "ann@acme.test".into(),
        display_name: "Ann".into(),
        groups: vec!["staff".into()],
    }
}

/// Random bytes that are none.
pub fn random(out: &mut [u8]) {
    out.fill(9);
}

/// The edge's document.
#[must_use]
pub fn edge_document() -> EdgeDocument {
    serde_json::from_value(json!({
        "tenant": "acme", "site": "branch-1",
        "classes": [{ "name": "Sluice hub", "vendor_class": "SluiceHub" }],
        "service": { "discovery_url": "https://est.acme.test", "est_host": "est.acme.test",
                     "est_addresses": ["192.0.2.10", "2001:db8:1::10"], "checkin_host": "checkin.acme.test" },
        "staging": [{ "address": "192.0.2.10", "port": 443 }],
        "qos": { "rules": [{ "when": { "transport": "udp", "ports": [5060, 5061], "network": "192.0.2.0/24" },
                             "class": "realtime" }] },
    }))
    .unwrap()
}

/// A root that issues to whoever asks.
#[must_use]
pub fn authority() -> &'static Authority {
    static ROOT: OnceLock<Authority> = OnceLock::new();
    ROOT.get_or_init(|| Authority::create("Fuzz root", &p256(4), NOW, &[1; 16]).unwrap())
}

/// The declaration that comes with sluice.
#[must_use]
pub fn declaration() -> &'static Declaration {
    static ROUNDUP: OnceLock<Declaration> = OnceLock::new();
    ROUNDUP.get_or_init(|| Declaration::parse(include_str!("../../../integrations/roundup.toml")).unwrap())
}
