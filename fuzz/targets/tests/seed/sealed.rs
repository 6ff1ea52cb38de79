//! What the gateway seals for browsers, and the wallet for its file.

use sluice_control_wallet::{Key, Owner, RecordName, SealRandom, seal, seal_tenant_key};
use sluice_fuzz_targets::fixtures::{APP_HOST, BROWSER, NOW, plan, random, user};
use sluice_gateway_access::{Cookies, LOGIN_COOKIE, NONCE_COOKIE, SpentCodes};
use sluice_node_identity::UnixTime;

use super::{Seed, seed as one};

pub(crate) fn seeds() -> Vec<Seed> {
    let plan = plan();
    let nonce = format!("{NONCE_COOKIE}={BROWSER}");
    let fields = [nonce.as_str()];
    let cookies = Cookies::new(&fields);
    let begun = plan.begin(plan.app(APP_HOST).unwrap(), "/a?b=c", &cookies, NOW, &mut random).unwrap();
    let (_, to) = begun.location.split_once("?return=").unwrap();
    let mark = format!("{LOGIN_COOKIE}={BROWSER}");
    let form = plan.login_page(&Cookies::new(&[&mark]), NOW, &mut random).unwrap().form_token;
    let login = plan.complete(user(), NOW, &mut random).unwrap();
    let to_app = plan.return_to(to, NOW).unwrap();
    let over = plan.hand_over(&to_app, &login.session, NOW, &mut random).unwrap();
    let (_, code) = over.split_once("?code=").unwrap();
    let mut spent = SpentCodes::new(UnixTime(NOW.0 - 60));
    let entered = plan.enter(APP_HOST, code, &cookies, &mut spent, NOW, &mut random).unwrap();
    let yesterday = plan.complete(user(), UnixTime(NOW.0 - 200_000), &mut random).unwrap();
    let mut seeds = vec![
        one("sealed", "good-session-of-the-app", entered.cookie.value),
        one("sealed", "good-session-of-the-login-host", login.cookie.value.clone()),
        one("sealed", "good-return", to),
        one("sealed", "good-form", form),
        one("sealed", "good-code", code),
        one("sealed", "bad-two-days-old", yesterday.cookie.value),
        one("sealed", "bad-padded", format!("{}=", login.cookie.value)),
        one("sealed", "bad-cut", &login.cookie.value[..login.cookie.value.len() - 3]),
        one("sealed", "bad-cve-2024-3400-path", "/../../../opt/panlogs/x"),
        one("sealed", "bad-empty", ""),
    ];
    seeds.extend(records());
    seeds
}

fn records() -> Vec<Seed> {
    let name = RecordName {
        tenant: "acme".parse().unwrap(),
        integration: "roundup".parse().unwrap(),
        owner: Owner::Service,
        version: 7,
    };
    let random = SealRandom { key: Key::new([7; 32]), key_nonce: [8; 12], nonce: [9; 12] };
    let record = |name: &RecordName| seal(&Key::new([5; 32]), name, b"a secret", &random).unwrap();
    let key = seal_tenant_key(&Key::new([6; 32]), &name.tenant, &Key::new([5; 32]), [8; 12]).unwrap();
    let sealed = record(&name);
    vec![
        one("wallet_record", "good-record", sealed.clone()),
        one("wallet_record", "good-tenant-key", key),
        one("wallet_record", "bad-version", record(&RecordName { version: 6, ..name.clone() })),
        one("wallet_record", "bad-owner", record(&RecordName { owner: Owner::User("bob".parse().unwrap()), ..name })),
        one("wallet_record", "bad-format", [&[2][..], &sealed[1..]].concat()),
        one("wallet_record", "bad-cut", &sealed[..40]),
        one("wallet_record", "bad-empty", ""),
    ]
}
