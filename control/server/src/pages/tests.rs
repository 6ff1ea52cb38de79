//! Users' pages: whom they believe, and that a form must be the user's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::json;
use sluice_control_domain::{ChangeSet, GatewayRecord, Store, Tenant, UserRecord, UserRole};
use sluice_control_store_sqlite::SqliteStore;
use sluice_gateway_access::{ASSERTION_HEADER, Assertion, AssertionKey};
use sluice_node_identity::{IntegrationId, UnixTime, api::GatewayKeys};
use tower::ServiceExt;

use super::{AssertionRefused, Expected, GatewayPeer, PagesState, Spent, router, verify};
use crate::{CardView, FeedService, ServiceError};

const NOW: u64 = 1_000_000;

/// One card for bob; writes down what is asked.
#[derive(Default)]
struct Feed(Mutex<Vec<String>>);

#[async_trait]
impl FeedService for Feed {
    async fn cards(&self, user: &UserRecord) -> Result<Vec<CardView>, ServiceError> {
        let card = CardView {
            id: "c1".into(),
            title: format!("Issue for <{}>", user.id),
            body: "please".into(),
            actions: vec![("resolve".into(), "Resolve".into())],
            score: 1,
            created: "2026-01-01T00:00:00Z".into(),
            integration: "tracker".parse().unwrap(),
        };
        Ok(if user.id.as_str() == "bob" { vec![card] } else { vec![] })
    }

    async fn act(&self, user: &UserRecord, card: &str, action: &str) -> Result<String, ServiceError> {
        self.0.lock().unwrap().push(format!("{}:{card}:{action}", user.id));
        if action == "resolve" { Ok("resolved".into()) } else { Err(ServiceError::NotFound("no such action".into())) }
    }

    async fn credentials(&self, _: &UserRecord) -> Result<Vec<(IntegrationId, bool)>, ServiceError> {
        Ok(vec![("tracker".parse().unwrap(), false)])
    }

    async fn put_credential(
        &self,
        user: &UserRecord,
        integration: &IntegrationId,
        login: &str,
        _: &str,
    ) -> Result<(), ServiceError> {
        self.0.lock().unwrap().push(format!("{}:{integration}:{login}", user.id));
        Ok(())
    }
}

fn key() -> AssertionKey {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    AssertionKey::from_pkcs8(pkcs8.as_ref()).unwrap()
}

fn claims(jti: &str) -> Assertion {
    Assertion {
        iss: "https://login.acme.test".into(),
        aud: "feed".parse().unwrap(),
        sub: "bob".parse().unwrap(),
        email: "bob@acme.test".into(),
        name: "Bob".into(),
        groups: vec!["staff".into()],
        tenant: "acme".parse().unwrap(),
        iat: UnixTime(NOW),
        exp: UnixTime(NOW + 60),
        jti: jti.into(),
    }
}

fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        display_name: id.into(),
        login_host: format!("login.{id}.test"),
        est_host: format!("est.{id}.test"),
        checkin_host: format!("checkin.{id}.test"),
        feed_host: format!("feed.{id}.test"),
        hub_root: String::new(),
        policy_key: json!({}),
        policy: Default::default(),
        policy_epoch: 1,
        classes: vec![],
        qos: Default::default(),
        created: UnixTime(0),
    }
}

fn user(tenant: &str, id: &str, disabled: bool) -> UserRecord {
    UserRecord {
        tenant: tenant.parse().unwrap(),
        id: id.parse().unwrap(),
        email: format!("{id}@{tenant}.test"),
        display_name: id.into(),
        password_hash: "x".into(),
        groups: vec!["staff".into()],
        role: UserRole::User,
        disabled,
        created: UnixTime(0),
    }
}

/// Tenants acme and other, a gateway each; users bob and carol (disabled) of acme, dave of other.
struct World {
    router: Router,
    feed: Arc<Feed>,
    acme: AssertionKey,
    other: AssertionKey,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("store.db"), &[7; 32]).unwrap());
        let (acme, other) = (key(), key());
        let mut set = ChangeSet::default();
        for (id, key) in [("acme", &acme), ("other", &other)] {
            let keys = GatewayKeys { caller: json!({}), assertion: key.jwk().clone() };
            let gateway = GatewayRecord { tenant: id.parse().unwrap(), id: "gw-1".parse().unwrap(), keys };
            set = set.create(&tenant(id)).create(&gateway);
        }
        for user in [user("acme", "bob", false), user("acme", "carol", true), user("other", "dave", false)] {
            set = set.create(&user);
        }
        store.commit(set).await.unwrap();
        let feed = Arc::new(Feed::default());
        let clock = Arc::new(|| UnixTime(NOW));
        let state =
            PagesState::new(store as Arc<dyn Store>, Arc::clone(&feed) as Arc<dyn FeedService>, clock, &[9; 32]);
        Self { router: router(state), feed, acme, other, _dir: dir }
    }

    async fn get(&self, path: &str, peer: Option<&str>, token: Option<&str>) -> (StatusCode, String) {
        self.send("GET", path, peer, token, None, &[]).await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        peer: Option<&str>,
        token: Option<&str>,
        form: Option<String>,
        headers: &[(&str, &str)],
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(ASSERTION_HEADER, token);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(peer) = peer {
            let id = "gw-1".parse().unwrap();
            request = request.extension(GatewayPeer { tenant: peer.parse().unwrap(), id });
        }
        let body = match form {
            Some(form) => {
                request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
                Body::from(form)
            }
            None => Body::empty(),
        };
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        assert!(answer.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().starts_with("default-src 'none'"));
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn token(&self, jti: &str) -> String {
        self.acme.sign(&claims(jti)).unwrap()
    }
}

#[tokio::test]
async fn g2_a_believed_user_sees_his_feed() {
    let world = World::new().await;
    let (status, page) = world.get("/", Some("acme"), Some(&world.token("1"))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Issue for &#60;bob&#62;"), "titles are escaped: {page}");
    assert!(page.contains("action=\"/cards/c1/actions/resolve\""));
    let (status, sheet) = world.get("/assets/sluice.css", Some("acme"), Some(&world.token("2"))).await;
    assert!(status == StatusCode::OK && sheet.contains("prefers-color-scheme"));
}

#[tokio::test]
async fn no_gateway_certificate_no_page() {
    let world = World::new().await;
    let (status, page) = world.get("/", None, Some(&world.token("1"))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(!page.contains("Issue"));
    assert_eq!(world.get("/", Some("acme"), None).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_gateway_cannot_speak_for_another_tenant() {
    let world = World::new().await;
    let forbidden = |answer: (StatusCode, String)| assert_eq!(answer.0, StatusCode::FORBIDDEN, "{}", answer.1);
    // acme's assertion at other's gateway; other's gateway forging acme's assertion, or its own about acme's user.
    forbidden(world.get("/", Some("other"), Some(&world.token("1"))).await);
    forbidden(world.get("/", Some("other"), Some(&world.other.sign(&claims("2")).unwrap())).await);
    forbidden(world.get("/", Some("acme"), Some(&world.other.sign(&claims("3")).unwrap())).await);
    let own = |sub: &str| Assertion {
        iss: "https://login.other.test".into(),
        tenant: "other".parse().unwrap(),
        sub: sub.parse().unwrap(),
        ..claims(sub)
    };
    forbidden(world.get("/", Some("other"), Some(&world.other.sign(&own("bob")).unwrap())).await);
    let dave = world.get("/", Some("other"), Some(&world.other.sign(&own("dave")).unwrap())).await;
    assert_eq!(dave.0, StatusCode::OK);
    assert!(!dave.1.contains("Issue"));
}

#[tokio::test]
async fn a_replayed_assertion_is_refused() {
    let world = World::new().await;
    let token = world.token("1");
    assert_eq!(world.get("/", Some("acme"), Some(&token)).await.0, StatusCode::OK);
    assert_eq!(world.get("/", Some("acme"), Some(&token)).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_disabled_or_unknown_account_is_refused() {
    let world = World::new().await;
    for sub in ["carol", "nobody"] {
        let token = world.acme.sign(&Assertion { sub: sub.parse().unwrap(), ..claims(sub) }).unwrap();
        assert_eq!(world.get("/", Some("acme"), Some(&token)).await.0, StatusCode::FORBIDDEN, "{sub}");
    }
}

#[tokio::test]
async fn two_assertions_are_refused() {
    let world = World::new().await;
    let (one, two) = (world.token("1"), world.token("2"));
    let answer = world.send("GET", "/", Some("acme"), Some(&one), None, &[(ASSERTION_HEADER, &two)]).await;
    assert_eq!(answer.0, StatusCode::FORBIDDEN);
}

fn hidden(page: &str) -> String {
    page.split("name=\"csrf\" value=\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
}

#[tokio::test]
async fn an_action_needs_the_users_own_form() {
    let world = World::new().await;
    let (_, page) = world.get("/", Some("acme"), Some(&world.token("1"))).await;
    let csrf = hidden(&page);
    let path = "/cards/c1/actions/resolve";
    let wrong = [
        (String::from("csrf=AAAA"), vec![]),
        (String::from("csrf="), vec![]),
        (format!("csrf={csrf}"), vec![("origin", "https://evil.test")]),
        (format!("csrf={csrf}"), vec![("origin", "https://feed.acme.test.evil.test")]),
        (format!("csrf={csrf}"), vec![("sec-fetch-site", "cross-site")]),
    ];
    for (index, (form, headers)) in wrong.into_iter().enumerate() {
        let token = world.token(&format!("w{index}"));
        let answer = world.send("POST", path, Some("acme"), Some(&token), Some(form), &headers).await;
        assert_eq!(answer.0, StatusCode::FORBIDDEN, "{index}");
    }
    assert!(world.feed.0.lock().unwrap().is_empty());
    let headers = [("origin", "https://feed.acme.test"), ("sec-fetch-site", "same-origin")];
    let token = world.token("2");
    let answer = world.send("POST", path, Some("acme"), Some(&token), Some(format!("csrf={csrf}")), &headers).await;
    assert!(answer.0 == StatusCode::OK && answer.1.contains("resolved"), "{answer:?}");
    assert_eq!(*world.feed.0.lock().unwrap(), ["bob:c1:resolve"]);
    let token = world.token("3");
    let form = Some(format!("csrf={csrf}"));
    let answer = world.send("POST", "/cards/c1/actions/explode", Some("acme"), Some(&token), form, &[]).await;
    assert!(answer.0 == StatusCode::NOT_FOUND && answer.1.contains("no such action"));
}

#[tokio::test]
async fn a_login_is_stored_and_never_shown() {
    let world = World::new().await;
    let (_, page) = world.get("/credentials", Some("acme"), Some(&world.token("1"))).await;
    let form = format!("csrf={}&login=bob&password=s3cret-word", hidden(&page));
    let token = world.token("2");
    let answer = world.send("POST", "/credentials/tracker", Some("acme"), Some(&token), Some(form), &[]).await;
    assert!(answer.0 == StatusCode::OK && !answer.1.contains("s3cret-word"), "{}", answer.1);
    assert_eq!(*world.feed.0.lock().unwrap(), ["bob:tracker:bob"]);
}

#[test]
fn every_wrong_claim_has_its_refusal() {
    let (right, foreign) = (key(), key());
    let tenant = "acme".parse().unwrap();
    let expected = Expected { tenant: &tenant, login_host: "login.acme.test", key: right.jwk() };
    let judge = |claims: &Assertion| verify(&right.sign(claims).unwrap(), &expected, UnixTime(NOW)).map(drop);
    let base = claims("1");
    assert_eq!(judge(&base), Ok(()));
    let cases = [
        (Assertion { iss: "https://login.other.test".into(), ..base.clone() }, AssertionRefused::Issuer),
        (Assertion { iss: "http://login.acme.test".into(), ..base.clone() }, AssertionRefused::Issuer),
        (Assertion { aud: "wiki".parse().unwrap(), ..base.clone() }, AssertionRefused::Audience),
        (Assertion { tenant: "other".parse().unwrap(), ..base.clone() }, AssertionRefused::Tenant),
        (Assertion { iat: UnixTime(NOW - 200), exp: UnixTime(NOW - 140), ..base.clone() }, AssertionRefused::Time),
        (Assertion { iat: UnixTime(NOW + 31), exp: UnixTime(NOW + 90), ..base.clone() }, AssertionRefused::Time),
        (Assertion { exp: UnixTime(NOW + 61), ..base.clone() }, AssertionRefused::Time),
        (Assertion { exp: UnixTime(NOW), ..base.clone() }, AssertionRefused::Time),
        (Assertion { jti: String::new(), ..base.clone() }, AssertionRefused::Shape),
        (Assertion { jti: "x".repeat(65), ..base.clone() }, AssertionRefused::Shape),
    ];
    for (claims, refusal) in cases {
        assert_eq!(judge(&claims), Err(refusal), "{claims:?}");
    }
    let forged = foreign.sign(&base).unwrap();
    assert_eq!(verify(&forged, &expected, UnixTime(NOW)), Err(AssertionRefused::Signature));
    let body = forged.split('.').nth(1).unwrap();
    let none = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"x","typ":"JWT"}"#));
    assert_eq!(verify(&none, &expected, UnixTime(NOW)), Err(AssertionRefused::Signature));
    let crit = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"x","typ":"JWT","crit":["x"]}"#));
    assert_eq!(verify(&crit, &expected, UnixTime(NOW)), Err(AssertionRefused::Shape));
}

#[test]
fn a_full_memory_of_assertions_refuses_and_recovers() {
    let gateway = "gw-1".parse().unwrap();
    let mut spent = Spent::default();
    let assertion = |number: usize| Assertion { jti: number.to_string(), ..claims("") };
    for number in 0..super::SPENT_PER_GATEWAY {
        spent.spend(&gateway, &assertion(number), UnixTime(NOW)).unwrap();
    }
    let one_more = assertion(super::SPENT_PER_GATEWAY);
    assert_eq!(spent.spend(&gateway, &one_more, UnixTime(NOW)), Err(AssertionRefused::Full));
    assert_eq!(spent.spend(&"gw-2".parse().unwrap(), &one_more, UnixTime(NOW)), Ok(()), "another gateway is not hurt");
    assert_eq!(spent.spend(&gateway, &one_more, UnixTime(NOW + 91)), Ok(()), "expired ones are forgotten");
}

proptest! {
    #[test]
    fn random_and_truncated_tokens_are_refused_without_panic(noise in ".{0,200}", cut in 0_usize..400) {
        let right = key();
        let tenant = "acme".parse().unwrap();
        let expected = Expected { tenant: &tenant, login_host: "login.acme.test", key: right.jwk() };
        prop_assert!(verify(&noise, &expected, UnixTime(NOW)).is_err());
        let token = right.sign(&claims("1")).unwrap();
        let cut = cut.min(token.len() - 1);
        prop_assert!(verify(&token[..cut], &expected, UnixTime(NOW)).is_err());
    }
}
