//! One tenant's keys, list and gatekeeper, made by the signing side.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, reason = "tests; each test file uses a part")]

use std::sync::OnceLock;

use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    rsa::{KeySize, PrivateDecryptingKey},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;
use sluice_connector_wire::{
    AllowList, AllowListKeeper, AllowRule, Gatekeeper, Granted, ListPosition, ListRefused, PolicyKey, Presented,
    Protocol, Refusal, StreamClaims, StreamKind, TokenSigner, sign_allow_list, sign_stream_token,
};
use sluice_node_identity::UnixTime;

pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const GATEWAY: &str = "dmz-1";
pub(crate) const DAY: u64 = 24 * 3600;

pub(crate) struct World {
    pub(crate) policy: PolicyKey,
    pub(crate) policy_pkcs8: Vec<u8>,
    pub(crate) gateway: TokenSigner,
    pub(crate) gateway_pkcs8: Vec<u8>,
    pub(crate) other_pkcs8: Vec<u8>,
    pub(crate) control: TokenSigner,
    pub(crate) list: AllowList,
    pub(crate) keeper: Gatekeeper,
    pub(crate) sid: String,
    pub(crate) gateway_cnf: String,
    pub(crate) control_cnf: String,
    pub(crate) serial: u8,
}

impl World {
    pub(crate) fn new() -> Self {
        let policy_pkcs8 = p256();
        let policy = PolicyKey::from_pkcs8(&policy_pkcs8).unwrap();
        let gateway_pkcs8 = ed25519();
        let gateway = TokenSigner::gateway(GATEWAY, &gateway_pkcs8).unwrap();
        let other_pkcs8 = ed25519();
        let other = TokenSigner::gateway("dmz-2", &other_pkcs8).unwrap();
        let control = TokenSigner::control(rsa()).unwrap();
        let rule = |resource: &str, host: &str, port: u16, callers: &[&str]| AllowRule {
            name: String::new(),
            resource: resource.parse().unwrap(),
            protocol: Protocol::Tcp,
            host: host.to_owned(),
            ports: port.into(),
            callers: callers.iter().map(|id| (*id).to_owned()).collect(),
            networks: vec!["10.9.0.0/16".parse().unwrap()],
            times: Vec::new(),
            exception: None,
        };
        let list = AllowList {
            tenant: "acme".parse().unwrap(),
            connector: "dc-1".parse().unwrap(),
            epoch: 1,
            version: 1,
            not_after: UnixTime(NOW + 7 * DAY),
            callers: vec![gateway.caller(), other.caller(), control.caller()],
            rules: vec![
                rule("roundup", "roundup.dc.test", 8080, &[GATEWAY, "control"]),
                rule("directory", "10.9.0.5", 636, &["control"]),
                rule("branch-web", "*.web.dc.test", 443, &[GATEWAY]),
            ],
        };
        let keeper = AllowListKeeper::new(list.tenant.clone(), list.connector.clone(), policy.thumbprint(), None);
        let mut world = Self {
            keeper: Gatekeeper::new(keeper, 100),
            sid: Self::text([1; 16]),
            gateway_cnf: Self::text([2; 32]),
            control_cnf: Self::text([3; 32]),
            serial: 0,
            policy,
            policy_pkcs8,
            gateway,
            gateway_pkcs8,
            other_pkcs8,
            control,
            list,
        };
        let list = world.list.clone();
        world.offer(&list).unwrap();
        world
    }

    pub(crate) fn text<const N: usize>(bytes: [u8; N]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    pub(crate) fn fresh_keeper(&self, position: Option<ListPosition>) -> AllowListKeeper {
        let anchor = self.policy.thumbprint();
        AllowListKeeper::new(self.list.tenant.clone(), self.list.connector.clone(), anchor, position)
    }

    pub(crate) fn offer(&mut self, list: &AllowList) -> Result<(), ListRefused> {
        let signed = sign_allow_list(list, &self.policy, Vec::new()).unwrap();
        self.keeper.offer_list(&signed, UnixTime(NOW))
    }

    pub(crate) fn claims(&self) -> StreamClaims {
        StreamClaims {
            iss: GATEWAY.to_owned(),
            aud: "dc-1".parse().unwrap(),
            sub: "user/ada".to_owned(),
            res: "roundup".parse().unwrap(),
            tgt: "tcp:roundup.dc.test:8080".parse().unwrap(),
            sid: self.sid.clone(),
            cnf: self.gateway_cnf.clone(),
            iat: UnixTime(NOW),
            exp: UnixTime(NOW + 30),
            jti: Self::text([self.serial; 16]),
        }
    }

    pub(crate) fn control_claims(&self) -> StreamClaims {
        StreamClaims { iss: "control".to_owned(), cnf: self.control_cnf.clone(), ..self.claims() }
    }

    pub(crate) fn admit_direct(&mut self, token: &str) -> Result<Granted, Refusal> {
        let presented = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &self.sid, cnf: &self.gateway_cnf };
        self.keeper.admit(token, &presented, UnixTime(NOW))
    }

    pub(crate) fn admit_sealed(&mut self, token: &str) -> Result<Granted, Refusal> {
        let presented =
            Presented { kind: StreamKind::Sealed, caller: "control", sid: &self.sid, cnf: &self.control_cnf };
        self.keeper.admit(token, &presented, UnixTime(NOW))
    }
}

/// A world whose list has these rules.
pub(crate) fn at(rules: Vec<AllowRule>) -> (World, AllowList) {
    let mut world = World::new();
    let list = AllowList { version: 2, rules, ..world.list.clone() };
    world.offer(&list).unwrap();
    (world, list)
}

/// Shows a new token for a stream of the gateway.
pub(crate) fn ask(world: &mut World, resource: &str, target: &str, now: u64) -> Result<Granted, Refusal> {
    world.serial = world.serial.wrapping_add(1);
    let now = UnixTime(now);
    let claims = StreamClaims {
        res: resource.parse().unwrap(),
        tgt: target.parse().unwrap(),
        iat: now,
        exp: now.plus(30),
        ..world.claims()
    };
    let token = sign_stream_token(&claims, &world.gateway).unwrap();
    let presented = Presented { kind: StreamKind::Direct, caller: GATEWAY, sid: &world.sid, cnf: &world.gateway_cnf };
    world.keeper.admit(&token, &presented, now)
}

/// A JWS with any header, signed by anything.
pub(crate) fn token_with(header: &Value, claims: &impl Serialize, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let part = |bytes: Vec<u8>| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", part(serde_json::to_vec(header).unwrap()), part(serde_json::to_vec(claims).unwrap()));
    let signature = part(sign(input.as_bytes()));
    format!("{input}.{signature}")
}

pub(crate) fn ed25519() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec()
}

pub(crate) fn p256() -> Vec<u8> {
    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap().as_ref().to_vec()
}

/// One RSA key per test program: making one takes a second.
pub(crate) fn rsa() -> &'static [u8] {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    KEY.get_or_init(|| {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).unwrap();
        AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key).unwrap().as_ref().to_vec()
    })
}
