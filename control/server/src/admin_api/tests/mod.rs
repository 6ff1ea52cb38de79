//! The API against a real store: who may do what, what is recorded, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod fleet;
mod policy;
mod reach;
mod resources;
pub(crate) mod streams;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_control_domain::{ChangeSet, Load, OwnerLink, PLATFORM, Record, Store};
use sluice_control_store_sqlite::SqliteStore;
use sluice_node_identity::{Fingerprint, IntegrationId, ResourceId, TenantId, UnixTime};
use tower::ServiceExt;

use super::{AdminState, Authority, Ledger, NewTenantKeys, new_link};
use crate::{IntegrationService, ServiceError};

struct Keys;

impl Authority for Keys {
    fn make_tenant(&self, tenant: &TenantId, _: UnixTime) -> Result<NewTenantKeys, String> {
        let policy_key = json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"});
        Ok(NewTenantKeys { hub_root: format!("root of {tenant}"), policy_key })
    }

    fn node_root_pin(&self) -> Fingerprint {
        Fingerprint::of(b"root")
    }

    fn thumbprint(&self, _: &Value) -> Result<String, String> {
        Ok("thumb".to_owned())
    }

    fn node_url(&self) -> String {
        "https://node.sluice.test:8443".to_owned()
    }

    fn caller_jwk(&self) -> Value {
        Value::Null
    }

    fn sign_succession(&self, _: &TenantId, _: &Value) -> Result<String, String> {
        Err("no key".to_owned())
    }

    fn forget_policy_key(&self, _: &TenantId) -> Result<(), String> {
        Ok(())
    }
}

struct Chains(Arc<SqliteStore>);

#[async_trait]
impl Ledger for Chains {
    async fn verify(&self, tenant: Option<&TenantId>) -> Result<u64, String> {
        let checked = self.0.verify_audit(tenant, None).await.map_err(|error| error.to_string())?;
        checked.map(|checkpoint| checkpoint.seq).map_err(|broken| broken.to_string())
    }
}

/// Remembers what was stored; no way leads back out.
#[derive(Default)]
struct Integrations(Mutex<Vec<String>>);

#[async_trait]
impl IntegrationService for Integrations {
    fn validate(&self, declaration: &str) -> Result<ResourceId, ServiceError> {
        match declaration.strip_prefix("good") {
            Some("") => Ok("tracker".parse().unwrap()),
            Some(resource) => Ok(resource.trim().parse().unwrap()),
            None => Err(ServiceError::Refused("line 1: no".to_owned())),
        }
    }

    async fn put_service_credential(
        &self,
        tenant: &TenantId,
        integration: &IntegrationId,
        login: &str,
        _: &str,
    ) -> Result<(), ServiceError> {
        self.0.lock().unwrap().push(format!("{tenant}/{integration}/{login}"));
        Ok(())
    }

    async fn sync(&self, _: &TenantId, _: &IntegrationId) -> Result<(u64, u64, u64), ServiceError> {
        Ok((500, 500, 0))
    }

    async fn cache(&self, _: &TenantId, _: &IntegrationId, table: &str, _: u32) -> Result<Vec<Value>, ServiceError> {
        Ok(vec![json!({ "table": table })])
    }
}

/// A control without an owner yet.
pub(crate) struct World {
    pub(crate) router: Router,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) streams: Arc<crate::Streams>,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) link: String,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("store.db"), &[7; 32]).unwrap());
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let (link, text) = new_link(None, UnixTime(1_000_000)).unwrap();
        store.commit(ChangeSet::default().create(&link)).await.unwrap();
        let (told, streams) = (Arc::clone(&clock), Arc::new(crate::Streams::default()));
        let state = AdminState::new(
            Arc::clone(&store) as Arc<dyn Store>,
            Arc::new(Keys),
            Arc::new(Chains(Arc::clone(&store))),
            Arc::new(Integrations::default()),
            Arc::clone(&streams),
            Arc::new(move || UnixTime(told.load(Ordering::SeqCst))),
            crate::Names {
                node: "node.sluice.test".into(),
                console: "console.sluice.test".into(),
                pages: "pages.acme.test".into(),
            },
        );
        Self { router: crate::console::router(state), store, streams, clock, link: text, _dir: dir }
    }

    /// With an owner; gives his token.
    pub(crate) async fn owned() -> (Self, String) {
        let world = Self::fresh().await;
        let (status, answer) = world.claim().await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        (world, answer["token"].as_str().unwrap().to_owned())
    }

    async fn claim(&self) -> (StatusCode, Value) {
        self.call("POST", "/owner", None, Some(json!({ "secret": self.link }))).await
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let answer = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub(crate) async fn good(&self, method: &str, path: &str, token: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, Some(token), Some(body)).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// Tenants `acme` and `other`, each with site `branch`; a token for each, and a full administrator's for acme.
    pub(crate) async fn two_tenants(&self, owner: &str) -> [String; 3] {
        let mut tokens = Vec::new();
        for tenant in ["acme", "other"] {
            self.good("POST", "/tenants", owner, tenant_body(tenant)).await;
            let site = json!({"id": "branch", "display_name": "Branch", "time_zone": "UTC"});
            self.good("POST", &format!("/tenants/{tenant}/sites"), owner, site).await;
            let made = self.good("POST", &format!("/tenants/{tenant}/tokens"), owner, json!({"label": "admin"})).await;
            tokens.push(made["token"].as_str().unwrap().to_owned());
        }
        let full = json!({"label": "full", "rights": "full_administrator"});
        let made = self.good("POST", "/tenants/acme/tokens", owner, full).await;
        tokens.push(made["token"].as_str().unwrap().to_owned());
        tokens.try_into().unwrap()
    }

    pub(crate) fn later(&self, seconds: u64) {
        self.clock.fetch_add(seconds, Ordering::SeqCst);
    }
}

fn tenant_body(id: &str) -> Value {
    json!({
        "id": id, "display_name": id,
        "login_host": format!("login.{id}.test"), "est_host": format!("est.{id}.test"),
        "checkin_host": format!("checkin.{id}.test"), "feed_host": format!("feed.{id}.test"),
    })
}

#[tokio::test]
async fn until_an_owner_exists_nothing_but_the_claim_answers() {
    let world = World::fresh().await;
    for (method, path) in [("GET", "/tenants"), ("POST", "/tenants"), ("GET", "/openapi.json"), ("GET", "/owner")] {
        let (status, _) = world.call(method, path, Some("slat_00_x"), None).await;
        assert!(
            status == StatusCode::NOT_FOUND || status == StatusCode::METHOD_NOT_ALLOWED,
            "{method} {path} {status}"
        );
    }
    for path in ["/", "/login", "/assets/sluice.css"] {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        assert_eq!(world.router.clone().oneshot(request).await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(world.claim().await.0, StatusCode::CREATED);
    let request = Request::builder().uri("/login").body(Body::empty()).unwrap();
    assert_eq!(world.router.clone().oneshot(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn an_owner_link_works_once() {
    let world = World::fresh().await;
    assert_eq!(world.claim().await.0, StatusCode::CREATED);
    let (status, answer) = world.claim().await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(answer["error"]["code"], "unauthorized");
}

#[tokio::test]
async fn an_owner_link_expires_after_ten_minutes() {
    let world = World::fresh().await;
    world.later(601);
    assert_eq!(world.claim().await.0, StatusCode::UNAUTHORIZED);
    // Refused means unchanged: nobody owns it yet.
    assert_eq!(world.call("GET", "/tenants", None, None).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn two_claims_at_once_make_one_owner() {
    let world = World::fresh().await;
    let (one, two) = tokio::join!(world.claim(), world.claim());
    let won = [one.0, two.0].iter().filter(|status| **status == StatusCode::CREATED).count();
    assert_eq!(won, 1);
}

#[tokio::test]
async fn a_new_link_leaves_the_present_owner_in() {
    let (world, owner) = World::owned().await;
    let key = Load::Keys(vec![OwnerLink { digest: Fingerprint::of(b""), valid_until: UnixTime(0), used: None }.key()]);
    let stored = world.store.load(key).await.unwrap().remove(0).typed::<OwnerLink>().unwrap();
    let now = UnixTime(world.clock.load(Ordering::SeqCst));
    let (link, text) = new_link(Some(&stored), now).unwrap();
    world.store.commit(ChangeSet::default().update(&stored, &link)).await.unwrap();
    assert_eq!(world.call("GET", "/tenants", Some(&owner), None).await.0, StatusCode::OK);
    let (status, _) = world.call("POST", "/owner", None, Some(json!({ "secret": text }))).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(world.call("POST", "/owner", None, Some(json!({ "secret": text }))).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_tenants_administrator_finds_nothing_in_another_tenant() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    let hub = json!({"id": "hub-1", "site": "branch"});
    world.good("POST", "/tenants/other/hubs", &owner, hub.clone()).await;
    let node = json!({"id": "edge-1", "role": "edge", "site": "branch"});
    let user = json!({"id": "eve", "email": "eve@other.test", "display_name": "Eve", "password": "long enough"});
    let attempts = [
        ("GET", "/tenants/other", None),
        ("GET", "/tenants/other/hubs", None),
        ("POST", "/tenants/other/hubs", Some(hub)),
        ("POST", "/tenants/other/hubs/hub-1/revoke", None),
        ("POST", "/tenants/other/hubs/hub-1/code", None),
        ("POST", "/tenants/other/nodes", Some(node)),
        ("POST", "/tenants/other/users", Some(user)),
        ("PUT", "/tenants/other/qos", Some(json!({"rules": []}))),
        ("POST", "/tenants/other/tokens", Some(json!({"label": "x"}))),
        ("GET", "/tenants/other/tokens", None),
        ("GET", "/tenants/other/audit", None),
        ("GET", "/tenants/other/audit/verify", None),
        ("GET", "/tenants/other/integrations/x/cache/issue", None),
        ("POST", "/tenants/other/integrations/x/sync", None),
    ];
    for (method, path, body) in attempts {
        let absent = path.replace("other", "nowhere");
        let theirs = world.call(method, path, Some(&acme), body.clone()).await;
        assert_eq!(theirs.0, StatusCode::NOT_FOUND, "{method} {path}");
        // A tenant that exists and one that does not look the same.
        assert_eq!(theirs, world.call(method, &absent, Some(&acme), body).await, "{method} {path}");
    }
    for (method, path) in [("POST", "/tenants"), ("POST", "/tokens"), ("GET", "/audit")] {
        let body =
            (method == "POST").then(|| if path == "/tokens" { json!({"label": "x"}) } else { tenant_body("new") });
        assert_eq!(world.call(method, path, Some(&acme), body).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let (_, list) = world.call("GET", "/tenants", Some(&acme), None).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let (_, hubs) = world.call("GET", "/tenants/other/hubs", Some(&owner), None).await;
    assert_eq!(hubs["items"][0]["state"], "expected", "nothing was changed");
}

#[tokio::test]
async fn a_token_of_another_tenant_cannot_be_revoked() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let id = |token: &str| token.split('_').nth(1).unwrap().to_owned();
    let path = format!("/tokens/{}", id(&other));
    assert_eq!(world.call("DELETE", &path, Some(&acme), None).await.0, StatusCode::NOT_FOUND);
    let owners = format!("/tokens/{}", id(&owner));
    assert_eq!(world.call("DELETE", &owners, Some(&acme), None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.call("DELETE", &path, Some(&other), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.call("GET", "/tenants", Some(&other), None).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn tokens_expire_and_cannot_make_stronger_ones() {
    let (world, owner) = World::owned().await;
    let [acme, _, full] = world.two_tenants(&owner).await;
    let stronger = json!({"label": "x", "rights": "full_administrator"});
    let weak = world.call("POST", "/tenants/acme/tokens", Some(&acme), Some(stronger.clone())).await;
    assert_eq!(weak.0, StatusCode::FORBIDDEN);
    world.good("POST", "/tenants/acme/tokens", &full, stronger).await;
    let forever = json!({"label": "x", "days": 3650});
    assert_eq!(
        world.call("POST", "/tenants/acme/tokens", Some(&acme), Some(forever)).await.0,
        StatusCode::UNPROCESSABLE_ENTITY
    );
    world.later(31 * 86_400);
    assert_eq!(world.call("GET", "/tenants", Some(&acme), None).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn damaged_tokens_are_refused_and_never_kept_in_clear() {
    let (world, owner) = World::owned().await;
    let mut last = owner.clone().into_bytes();
    // The tenth character from the end: the very last one holds padding bits.
    let index = last.len() - 10;
    last[index] = if last[index] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(last).unwrap();
    for token in [forged.as_str(), "", "slat_", "slat_0011223344556677_AAAA", &owner[..owner.len() - 2], "Bearer"] {
        assert_eq!(world.call("GET", "/tenants", Some(token), None).await.0, StatusCode::UNAUTHORIZED, "{token}");
    }
    let scan = Load::Scan { kind: token_kind(), tenant: PLATFORM.into(), after: None, limit: 10 };
    let stored = world.store.load(scan).await.unwrap();
    let secret = owner.rsplit('_').next().unwrap();
    assert!(!stored.is_empty() && stored.iter().all(|token| !token.body.to_string().contains(secret)));
}

fn token_kind() -> sluice_control_domain::Kind {
    sluice_control_domain::ApiToken::KIND
}

#[tokio::test]
async fn m10_only_a_full_administrator_reads_the_cache() {
    let (world, owner) = World::owned().await;
    let [acme, other, full] = world.two_tenants(&owner).await;
    world.good("PUT", "/tenants/acme/integrations/tracker", &acme, json!({"declaration": "good"})).await;
    let path = "/tenants/acme/integrations/tracker/cache/issue";
    assert_eq!(world.call("GET", path, Some(&acme), None).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.call("GET", path, Some(&other), None).await.0, StatusCode::NOT_FOUND);
    let (status, rows) = world.call("GET", path, Some(&full), None).await;
    assert_eq!((status, &rows["items"][0]["table"]), (StatusCode::OK, &json!("issue")));
}

#[tokio::test]
async fn m11_no_administrator_reads_a_stored_credential() {
    let (world, owner) = World::owned().await;
    let [_, _, full] = world.two_tenants(&owner).await;
    let put = json!({"declaration": "good"});
    world.good("PUT", "/tenants/acme/integrations/tracker", &full, put).await;
    let path = "/tenants/acme/integrations/tracker/credential";
    world.good("PUT", path, &full, json!({"login": "sync", "password": "never-to-be-seen"})).await;
    for token in [&owner, &full] {
        assert_eq!(world.call("GET", path, Some(token), None).await.0, StatusCode::METHOD_NOT_ALLOWED);
        for page in ["/tenants/acme/audit", "/tenants/acme/integrations", "/openapi.json"] {
            let (_, answer) = world.call("GET", page, Some(token), None).await;
            assert!(!answer.to_string().contains("never-to-be-seen"), "{page}");
        }
    }
    let document: Value = serde_json::from_str(&super::openapi().unwrap()).unwrap();
    assert!(document["paths"]["/api/v1/tenants/{tenant}/integrations/{integration}/credential"]["get"].is_null());
}

#[tokio::test]
async fn a_declaration_that_does_not_check_changes_nothing() {
    let (world, owner) = World::owned().await;
    world.two_tenants(&owner).await;
    let path = "/tenants/acme/integrations/tracker";
    let (status, answer) = world.call("PUT", path, Some(&owner), Some(json!({"declaration": "bad"}))).await;
    assert_eq!((status, &answer["error"]["message"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("line 1: no")));
    let (_, list) = world.call("GET", "/tenants/acme/integrations", Some(&owner), None).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn t5_every_privileged_act_is_in_an_intact_chain() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world.good("POST", "/tenants/acme/hubs", &acme, json!({"id": "hub-1", "site": "branch"})).await;
    world.good("POST", "/tenants/acme/hubs/hub-1/revoke", &acme, json!({})).await;
    let user = json!({"id": "bob", "email": "Bob@acme.test", "display_name": "Bob", "password": "hunter-22"});
    let bob = world.good("POST", "/tenants/acme/users", &acme, user).await;
    assert_eq!(bob["email"], "bob@acme.test");
    world.good("POST", "/tenants/acme/users/bob/disable", &acme, json!({})).await;
    let (_, page) = world.call("GET", "/tenants/acme/audit", Some(&acme), None).await;
    let acts: Vec<&str> =
        page["items"].as_array().unwrap().iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    let want =
        ["tenant.add", "site.add", "token.add", "token.add", "hub.add", "hub.revoke", "user.add", "user.disable"];
    assert_eq!(acts, want);
    assert!(!page.to_string().contains("hunter-22"));
    let (_, verdict) = world.call("GET", "/tenants/acme/audit/verify", Some(&acme), None).await;
    assert_eq!(verdict, json!({"intact": true, "entries": 8, "problem": null}));
    let (_, platform) = world.call("GET", "/audit", Some(&owner), None).await;
    assert_eq!(platform["items"][0]["act"], "owner.claim");
}

#[tokio::test]
async fn unclear_requests_are_refused_with_a_reason() {
    let (world, owner) = World::owned().await;
    world.two_tenants(&owner).await;
    let cases = [
        ("/tenants/acme/sites", json!({"id": "Bad Name", "display_name": "x", "time_zone": "UTC"})),
        ("/tenants/acme/sites", json!({"id": "x", "display_name": "a\u{7}b", "time_zone": "UTC"})),
        ("/tenants/acme/sites", json!({"id": "x", "display_name": "x", "time_zone": "UTC", "surprise": 1})),
        ("/tenants/acme/resources", json!({"id": "r", "site": "branch", "target": "http://x", "for_users": true})),
        ("/tenants/acme/resources", json!({"id": "r", "site": "branch", "target": "tcp:x:80"})),
        ("/tenants/acme/users", json!({"id": "u", "email": "u@x", "display_name": "U", "password": "short"})),
        (
            "/tenants/acme/users",
            json!({"id": "u", "email": "u@x", "display_name": "U", "password": "long enough", "groups": ["Everyone"]}),
        ),
        ("/tenants", tenant_body("acme.test")),
    ];
    for (path, body) in cases {
        let (status, answer) = world.call("POST", path, Some(&owner), Some(body.clone())).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert!(answer["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{answer}");
    }
}

#[test]
fn the_committed_openapi_document_is_the_real_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    let now = format!("{}\n", super::openapi().unwrap());
    if std::env::var_os("SLUICE_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "docs/openapi.json differs; SLUICE_BLESS=1 cargo test -p sluice-control-server openapi");
}

proptest! {
    #[test]
    fn no_text_is_a_token_by_accident(text in "(slat_)?[0-9a-f_A-Z-]{0,80}") {
        // Shape alone never panics and never passes without a stored digest; here only the shape is judged.
        let _judged = super::auth::parse(&text);
    }
}
