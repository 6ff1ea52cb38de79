//! The node API over real TLS, with curl as the node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use serde_json::{Value, json};
use sluice_connector_wire::{AllowListKeeper, ClassPair, ConnectorDocument, PolicyKey, VerifyingKey, thumbprint};
use sluice_control_domain::{ChangeSet, NodeRecord, ResourceRecord, Store};
use sluice_control_pki::{Csr, Leaf, Usage};
use sluice_gateway_access::GatewayDocument;
use sluice_node_identity::{Lock, Role, StateEvent, StateView};
use tokio::io::{AsyncBufReadExt, BufReader};
use world::{Identity, World, csr, now, proved, random};

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or_else(|| panic!("no error body: {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_join_code_is_bound_to_its_first_key() {
    let world = World::start().await;
    let secret = world.add_node("edge-1", Role::Edge, 600).await;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (status, body) = world.join(&secret, Role::Edge, &first).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (body["tenant"].as_str(), body["site"].as_str(), body["id"].as_str()),
        (Some("acme"), Some("branch-1"), Some("edge-1"))
    );
    assert_eq!(body["policy_thumbprint"], thumbprint(&world.tenant.policy_key).unwrap());
    let (status, again) = world.join(&secret, Role::Edge, &first).await;
    assert_eq!((status, &again), (200, &body), "a lost answer is given again");
    for _ in 0..2 {
        let (status, refused) = world.join(&secret, Role::Edge, &second).await;
        assert_eq!((status, code(&refused)), (403, "code_refused"));
    }
    assert_eq!(world.audit().await, ["node.join", "node.join.second_key"], "one alarm, however often it is tried");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_foreign_role_and_unknown_codes_look_alike() {
    let world = World::start().await;
    let key = KeyPair::generate().unwrap();
    let late = world.add_node("late", Role::Edge, -1).await;
    let good = world.add_node("good", Role::Edge, 600).await;
    let unknown = sluice_node_identity::JoinSecret::new(random());
    let answers = [
        world.join(&late, Role::Edge, &key).await,
        world.join(&good, Role::Gateway, &key).await,
        world.join(&unknown, Role::Edge, &key).await,
    ];
    for (status, body) in &answers {
        assert_eq!((*status, code(body)), (403, "code_refused"));
        assert_eq!(body, &answers[0].1);
    }
    assert!(world.audit().await.is_empty() && world.node_record("good").await.body.binding.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_needs_a_fresh_nonce_and_a_proof_over_it() {
    let world = World::start().await;
    let secret = world.add_node("edge-1", Role::Edge, 600).await;
    let key = KeyPair::generate().unwrap();
    let curl = || world.curl("node.sluice.test");
    let nonce = world.nonce().await;
    let (request, proof) = proved(&KeyPair::generate().unwrap(), &nonce);
    let foreign =
        json!({ "secret": secret.to_text(), "role": "edge", "csr": csr(&key), "nonce": nonce, "proof": proof });
    assert_eq!(curl().post("/node/v1/join", &foreign).await.0, 400, "another key's proof");
    let invented = URL_SAFE_NO_PAD.encode([0; 32]);
    assert_eq!(world.join_with(&secret, Role::Edge, &key, &invented).await.0, 400);
    assert_eq!(world.join_with(&secret, Role::Edge, &key, &nonce).await.0, 200);
    assert_eq!(world.join_with(&secret, Role::Edge, &key, &nonce).await.0, 400, "a nonce is good once");
    for bad in [json!({}), json!([1]), json!({ "csr": request })] {
        let (status, body) = curl().post("/node/v1/join", &bad).await;
        assert_eq!(status, 400, "{body}");
        assert!(!code(&body).is_empty());
    }
    // The rest of a body that is too long is not read: curl may find the connection closed before it sees the answer.
    let (status, _) = curl().post("/node/v1/join", &json!("x".repeat(300_000))).await;
    assert!(matches!(status, 413 | 0), "{status}");
    assert_eq!(curl().post("/node/v1/nonce", &json!({})).await.0, 200, "still serving");
}

async fn renewed(world: &World, old: &Identity) -> (KeyPair, u16, Value) {
    let key = KeyPair::generate().unwrap();
    let (status, body) = world.node(old).post("/node/v1/renew", &json!({ "csr": csr(&key) })).await;
    (key, status, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_generation_after_the_new_one_locks_the_node() {
    let world = World::start().await;
    let old = world.joined("edge-1", Role::Edge).await;
    let (key, status, body) = renewed(&world, &old).await;
    assert_eq!(status, 200, "{body}");
    let new = world.identity("edge-1", key, body["chain"].as_str().unwrap());
    let report = json!({ "seen": [] });
    let try_with = async |id: &Identity| world.node(id).post("/node/v1/checkins", &report).await.0;
    assert_eq!(try_with(&old).await, 204, "the old one is good until the new one is used");
    assert_eq!(try_with(&new).await, 204);
    assert_eq!(try_with(&old).await, 403);
    assert_eq!(try_with(&new).await, 403, "both are locked");
    let record = world.node_record("edge-1").await.body;
    assert!(matches!(record.binding.unwrap().lock, Some(Lock::Clone { generation: 1, .. })));
    assert_eq!(world.audit().await, ["node.join", "node.renew", "node.key.promoted", "node.cloned"]);
    let nonce = world.nonce().await;
    let (csr, proof) = proved(&new.key, &nonce);
    let rejoin = json!({ "tenant": "acme", "id": "edge-1", "csr": csr, "nonce": nonce, "proof": proof });
    assert_eq!(world.curl("node.sluice.test").post("/node/v1/rejoin", &rejoin).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejoin_serves_the_bound_key_and_nobody_else() {
    let world = World::start().await;
    let id = world.joined("edge-1", Role::Edge).await;
    let rejoin = async |key: &KeyPair, name: &str| {
        let nonce = world.nonce().await;
        let (csr, proof) = proved(key, &nonce);
        let body = json!({ "tenant": "acme", "id": name, "csr": csr, "nonce": nonce, "proof": proof });
        world.curl("node.sluice.test").post("/node/v1/rejoin", &body).await
    };
    let (status, body) = rejoin(&id.key, "edge-1").await;
    assert_eq!(status, 200);
    let key = KeyPair::from_pem(&id.key.serialize_pem()).unwrap();
    let again = world.identity("edge-1", key, body["chain"].as_str().unwrap());
    assert_eq!(world.node(&again).post("/node/v1/checkins", &json!({ "seen": [] })).await.0, 204);
    let stranger = rejoin(&KeyPair::generate().unwrap(), "edge-1").await;
    let nobody = rejoin(&id.key, "edge-9").await;
    assert_eq!((stranger.0, &stranger.1), (403, &nobody.1), "a wrong key and an unknown node look alike");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_need_the_right_certificate_and_role() {
    let world = World::start().await;
    let (edge, gateway) = (world.joined("edge-1", Role::Edge).await, world.joined("gw-1", Role::Gateway).await);
    let body = json!({});
    let paths = ["renew", "hub-facing", "keys", "tunnels", "checkins", "refusals", "factors/verify"];
    for path in paths {
        let (status, answer) = world.curl("node.sluice.test").post(&format!("/node/v1/{path}"), &body).await;
        assert_eq!((status, code(&answer)), (403, "not_accepted"), "{path}");
    }
    for path in ["config", "state"] {
        assert_eq!(world.curl("node.sluice.test").get(&format!("/node/v1/{path}")).await.0, 403);
    }
    let tunnels = json!({ "tunnels": [] });
    let login = json!({ "login": "ann", "password": "x", "client": "192.0.2.9" });
    assert_eq!(world.node(&edge).post("/node/v1/tunnels", &tunnels).await.0, 403);
    assert_eq!(world.node(&edge).post("/node/v1/factors/verify", &login).await.0, 403);
    assert_eq!(world.node(&gateway).post("/node/v1/checkins", &json!({ "seen": [] })).await.0, 403);
    assert_eq!(world.node(&gateway).post("/node/v1/hub-facing", &json!({ "csr": csr(&edge.key) })).await.0, 403);
    assert_eq!(world.node(&gateway).get("/node/v1/nothing").await.0, 404);
    assert_eq!(world.node(&gateway).get("/node/v1/tunnels").await.0, 405);
}

fn resource(world: &World, id: &str) -> ResourceRecord {
    ResourceRecord {
        tenant: world.tenant.id.clone(),
        id: id.parse().unwrap(),
        site: "branch-1".parse().unwrap(),
        target: "tcp:tracker.internal:8917".parse().unwrap(),
        networks: vec!["10.0.0.0/8".parse().unwrap()],
        for_users: true,
        for_control: true,
        class: ClassPair::default(),
        hosts: None,
        ports: None,
        times: vec![],
    }
}

fn gateway_keys() -> Value {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let caller = Ed25519KeyPair::from_seed_unchecked(&random::<32>()).unwrap();
    let caller = VerifyingKey::from_ed25519(caller.public_key().as_ref()).unwrap().to_jwk();
    let assertion = PolicyKey::from_pkcs8(&KeyPair::generate().unwrap().serialize_der()).unwrap().jwk();
    json!({ "caller": caller, "assertion": assertion })
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_connector_gets_a_signed_list_and_a_new_one_when_something_changed() {
    let world = World::start().await;
    let gateway = world.joined("gw-1", Role::Gateway).await;
    let keys = gateway_keys();
    assert_eq!(world.node(&gateway).post("/node/v1/keys", &keys).await.0, 204);
    let connector = world.joined("dc-1", Role::Connector).await;
    let (status, body) = world.node(&connector).get("/node/v1/config?after=0&schemas=1").await;
    assert_eq!((status, body["role"].as_str()), (200, Some("connector")), "{body}");
    let version = body["version"].as_u64().unwrap();
    let document: ConnectorDocument = serde_json::from_value(body["document"].clone()).unwrap();
    assert_eq!(document.gateways[0].host, "gw-1.acme.test");

    let anchor = thumbprint(&world.tenant.policy_key).unwrap();
    let mut keeper = AllowListKeeper::new(world.tenant.id.clone(), "dc-1".parse().unwrap(), anchor, None);
    keeper.offer(&document.allow_list, now()).unwrap();
    let callers = |keeper: &AllowListKeeper| -> Vec<String> {
        keeper.current().unwrap().list().callers.iter().map(|caller| caller.id.clone()).collect()
    };
    assert_eq!(callers(&keeper), ["control", "gw-1"]);
    assert!(keeper.current().unwrap().list().rules.is_empty());

    let again = world.node(&connector).get("/node/v1/config?after=0&schemas=1").await.1;
    assert_eq!(again, body, "nothing changed: the same version, signature included");
    let path = format!("/node/v1/config?after={version}&schemas=1");
    let poll = world.node(&connector).get(&path);
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        world.store.commit(ChangeSet::of(&world.tenant.id).create(&resource(&world, "tracker"))).await.unwrap();
    };
    let ((status, body), ()) = tokio::join!(poll, change);
    assert_eq!(status, 200);
    assert!(body["version"].as_u64().unwrap() > version);
    let document: ConnectorDocument = serde_json::from_value(body["document"].clone()).unwrap();
    keeper.offer(&document.allow_list, now()).unwrap();
    let rule = &keeper.current().unwrap().list().rules[0];
    assert_eq!(
        (rule.host.as_str(), rule.callers.as_slice()),
        ("tracker.internal", &["gw-1".to_owned(), "control".to_owned()][..])
    );

    let refusal = json!({ "version": version, "reason": "no\u{7} good" });
    assert_eq!(world.node(&connector).post("/node/v1/refusals", &refusal).await.0, 204);
    assert_eq!(world.node_record("dc-1").await.body.refused, Some((version, "no good".to_owned())));
    for (version, left) in [(version + 1, true), (version, false)] {
        let back = json!({ "version": version, "reason": "" });
        assert_eq!(world.node(&connector).post("/node/v1/refusals", &back).await.0, 204);
        assert_eq!(world.node_record("dc-1").await.body.refused.is_some(), left);
    }
    assert_eq!(world.node(&connector).get("/node/v1/config?after=0&schemas=7,8").await.0, 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_key_cannot_be_another_gateways() {
    let world = World::start().await;
    let (a, b) = (world.joined("gw-1", Role::Gateway).await, world.joined("gw-2", Role::Gateway).await);
    let keys = gateway_keys();
    assert_eq!(world.node(&a).post("/node/v1/keys", &keys).await.0, 204);
    assert_eq!(world.node(&b).post("/node/v1/keys", &keys).await.0, 400);
    let swapped = json!({ "caller": keys["assertion"], "assertion": keys["caller"] });
    assert_eq!(world.node(&b).post("/node/v1/keys", &swapped).await.0, 400);
    assert_eq!(world.node(&b).post("/node/v1/keys", &gateway_keys()).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_document_has_its_own_session_key_and_the_store_has_none() {
    let world = World::start().await;
    world.add_user("ann", "secret").await;
    let (a, b) = (world.joined("gw-1", Role::Gateway).await, world.joined("gw-2", Role::Gateway).await);
    let mut session_keys = Vec::new();
    for id in [&a, &b] {
        let body = world.node(id).get("/node/v1/config?after=0&schemas=1").await.1;
        let document: GatewayDocument = serde_json::from_value(body["document"].clone()).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(&document.session_key.0).unwrap().len(), 32);
        let names: Vec<_> = document.splices.iter().map(|splice| splice.server_name.as_str()).collect();
        assert_eq!(names, ["node.sluice.test", "est.acme.test", "console.sluice.test"]);
        assert!(document.splices.iter().all(|splice| splice.to == "192.0.2.10:8443" && splice.proxy_protocol));
        assert_eq!(document.relay.callers, ["spiffe://sluice.test/control"]);
        assert_eq!(
            (document.apps[0].id.as_str(), document.apps[0].groups.as_slice()),
            ("feed", &["everyone".to_owned()][..])
        );
        session_keys.push(document.session_key.0);
    }
    assert_ne!(session_keys[0], session_keys[1]);
    let stored = world.one::<sluice_control_domain::compile::DocumentRecord>("acme", "gw-1").await;
    assert_eq!(stored.body.envelope.document["session_key"], "");
}

/// Reads the feed into a view until `enough`.
async fn follow(
    lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    view: &mut StateView,
    enough: impl Fn(&StateView) -> bool,
) {
    let read = async {
        while !enough(view) {
            let line = lines.next_line().await.unwrap().expect("the feed ended");
            if let Some(data) = line.strip_prefix("data: ") {
                view.apply(serde_json::from_str::<StateEvent>(data).unwrap()).expect("no gap");
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the feed says nothing");
}

fn set_state(key: &str, value: i64) -> ChangeSet {
    use sluice_control_domain::{StateAudience, StateChange};
    let change = StateChange { audience: StateAudience::Tenant, key: key.to_owned(), value: Some(json!(value)) };
    ChangeSet::of(&"acme".parse().unwrap()).state(change)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_feed_follows_continues_and_ends_with_revocation() {
    let world = World::start().await;
    let edge = world.joined("edge-1", Role::Edge).await;
    world.store.commit(set_state("a", 1)).await.unwrap();
    let mut child = world.node(&edge).stream("/node/v1/state?after=0");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut view = StateView::default();
    follow(&mut lines, &mut view, |view| view.value("a").is_some()).await;
    world.store.commit(set_state("b", 2)).await.unwrap();
    follow(&mut lines, &mut view, |view| view.value("b").is_some()).await;
    drop(child);

    world.store.commit(set_state("c", 3)).await.unwrap();
    let mut child = world.node(&edge).stream(&format!("/node/v1/state?after={}", view.seq()));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    follow(&mut lines, &mut view, |view| view.value("c").is_some()).await;
    assert_eq!(view.under("").count(), 3, "the feed went on where it had stopped");

    let mut skipped = view.clone();
    let skipping = StateEvent::Delta { prev: view.seq() + 1, seq: view.seq() + 2, key: "x".into(), value: None };
    assert!(skipped.apply(skipping).is_err(), "a skipped number is noticed");

    world
        .change::<NodeRecord>("acme", "edge-1", |node| {
            node.binding.as_mut().unwrap().lock = Some(Lock::Revoked { at: now() });
        })
        .await;
    let ended =
        tokio::time::timeout(Duration::from_secs(10), async { while lines.next_line().await.unwrap().is_some() {} });
    ended.await.expect("a revoked node's feed goes on");
    assert_eq!(world.node(&edge).get("/node/v1/state?after=0").await.0, 403);
}

/// Renews and uses the new key once: the old one is retired.
async fn taken_over(world: &World, name: &str, old: &Identity) -> Identity {
    let (key, status, body) = renewed(world, old).await;
    assert_eq!(status, 200, "{body}");
    let new = world.identity(name, key, body["chain"].as_str().unwrap());
    assert_eq!(world.node(&new).get("/node/v1/config?after=0").await.0, 200);
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_ends_when_the_nodes_key_was_changed_and_nobody_is_a_clone_for_it() {
    let world = World::start().await;
    let old = world.joined("edge-1", Role::Edge).await;
    let mut child = world.node(&old).stream("/node/v1/state?after=0");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    world.store.commit(set_state("a", 1)).await.unwrap();
    let mut view = StateView::default();
    follow(&mut lines, &mut view, |view| view.value("a").is_some()).await;
    let new = taken_over(&world, "edge-1", &old).await;
    let ended = async { while lines.next_line().await.unwrap().is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), ended).await.expect("a retired key's feed goes on");
    assert_eq!(world.node_record("edge-1").await.body.binding.unwrap().lock, None);
    assert_eq!(world.node(&new).get("/node/v1/config?after=0").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_asked_for_with_a_late_key_is_refused_and_nobody_is_a_clone_for_it() {
    let world = World::start().await;
    let old = world.joined("gw-1", Role::Gateway).await;
    let page = async |id: &Identity| world.curl("pages.sluice.test").cert(id).get("/").await.0;
    assert_eq!(page(&old).await, 200);
    let new = taken_over(&world, "gw-1", &old).await;
    assert_eq!(page(&old).await, 403, "late");
    assert_eq!(world.node_record("gw-1").await.body.binding.unwrap().lock, None);
    assert_eq!(page(&new).await, 200);
    assert_eq!(world.node(&old).post("/node/v1/tunnels", &json!({ "tunnels": [] })).await.0, 403);
    assert!(world.node_record("gw-1").await.body.binding.unwrap().lock.is_some(), "on the node API it is a clone");
    assert_eq!(page(&new).await, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_another_tenants_state_is_not_in_the_feed() {
    let world = World::start().await;
    let edge = world.joined("edge-1", Role::Edge).await;
    let foreign = ChangeSet { tenant: Some("globex".parse().unwrap()), ..set_state("theirs", 1) };
    world.store.commit(foreign).await.unwrap();
    world.store.commit(set_state("ours", 1)).await.unwrap();
    let mut child = world.node(&edge).stream("/node/v1/state?after=0");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut view = StateView::default();
    follow(&mut lines, &mut view, |view| view.value("ours").is_some()).await;
    assert!(view.value("theirs").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn i2_passwords_are_checked_for_gateways_and_limited() {
    let world = World::start().await;
    let gateway = world.joined("gw-1", Role::Gateway).await;
    world.add_user("ann", "right").await;
    let verify = async |login: &str, password: &str| {
        let body = json!({ "login": login, "password": password, "client": "192.0.2.9" });
        world.node(&gateway).post("/node/v1/factors/verify", &body).await
    };
    let (status, user) = verify("ann", "right").await;
    assert_eq!((status, user["email"].as_str()), (200, Some("ann@acme.test")));
    assert_eq!(user["groups"], json!(["everyone", "staff"]), "whoever signs in may open the feed");
    assert_eq!(verify("Ann@ACME.test", "right").await.0, 200);
    let (wrong, unknown) = (verify("ann", "wrong").await, verify("nobody", "wrong").await);
    assert_eq!((wrong.0, &wrong.1), (401, &unknown.1), "who exists is not told");
    for _ in 0..9 {
        assert_eq!(verify("ann", "wrong").await.0, 401);
    }
    assert_eq!(verify("ann", "right").await.0, 429, "the right password too");
    assert!(world.audit().await.iter().filter(|act| *act == "user.password.wrong").count() >= 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn live_tunnels_are_known_until_they_are_no_longer_told() {
    let world = World::start().await;
    let gateway = world.joined("gw-1", Role::Gateway).await;
    let sid = URL_SAFE_NO_PAD.encode(random::<16>());
    let report = json!({ "tunnels": [{ "connector": "dc-1", "sid": sid }] });
    assert_eq!(world.node(&gateway).post("/node/v1/tunnels", &report).await.0, 204);
    let (acme, dc) = (world.tenant.id.clone(), "dc-1".parse().unwrap());
    assert_eq!(world.tunnels.to(&acme, &dc, now()), [("gw-1".parse().unwrap(), sid)]);
    assert_eq!(world.tunnels.to(&"globex".parse().unwrap(), &dc, now()), []);
    assert_eq!(world.tunnels.to(&acme, &dc, now().plus(60)), []);
    let odd = json!({ "tunnels": [{ "connector": "dc-1", "sid": "x" }] });
    assert_eq!(world.node(&gateway).post("/node/v1/tunnels", &odd).await.0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_requests_for_certificates_are_limited_and_granted_ones_are_not() {
    let world = World::start().await;
    let secret = world.add_node("edge-1", Role::Edge, 600).await;
    let key = KeyPair::generate().unwrap();
    assert_eq!(world.join(&secret, Role::Edge, &key).await.0, 200);
    // One curl for all of them, over one connection; every answer's status is a line.
    let curl = world.curl("node.sluice.test").args(&["-X", "POST", "-o", "/dev/null"]);
    let (_, body) = curl.get("/node/v1/rejoin?[1-620]").await;
    let statuses: Vec<&str> = body.as_str().unwrap_or_default().lines().collect();
    assert!(statuses.iter().filter(|status| **status == "400").count() >= 590, "{statuses:?}");
    assert!(statuses.contains(&"429"), "{statuses:?}");
    assert_eq!(world.join(&secret, Role::Edge, &key).await.0, 429, "the same address waits");
    let hub = world.add_hub("hub-1").await;
    let root = world.dir.path().join("hub-root.pem");
    let login = format!("hub-1:{}", hub.to_text());
    let est = world.curl("est.acme.test").ca(&root).args(&["-u", &login]).data("x");
    assert_eq!(est.get("/.well-known/est/simpleenroll").await.0, 429);
    assert_eq!(world.nonce().await.len(), 43, "what costs nothing is still answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_restore_forgot_is_told_what_to_do_and_locks_nobody() {
    let world = World::start().await;
    let known = world.joined("edge-1", Role::Edge).await;
    // What a node holds that renewed after the backup was made: our own signature under a key we do not know.
    let key = KeyPair::generate().unwrap();
    let request = Csr::from_pem(&csr(&key)).unwrap();
    let leaf = Leaf {
        key: request.spki(),
        name: Some("spiffe://sluice.test/tenant/acme/edge/edge-1".parse().unwrap()),
        hosts: vec![],
        addresses: vec![],
        usage: Usage::Both,
        seconds: 3600,
    };
    let issued = world.keys.node_root().issue(&leaf, now(), &random()).unwrap();
    let forgotten = world.identity("edge-1", key, &issued.pem);
    let (status, body) = world.node(&forgotten).get("/node/v1/config?after=0").await;
    assert_eq!((status, code(&body)), (403, "not_accepted"));
    assert!(body["error"]["message"].as_str().unwrap().contains("new join code"), "{body}");
    let nonce = world.nonce().await;
    let (csr, proof) = proved(&forgotten.key, &nonce);
    let rejoin = json!({ "tenant": "acme", "id": "edge-1", "csr": csr, "nonce": nonce, "proof": proof });
    let (status, body) = world.curl("node.sluice.test").post("/node/v1/rejoin", &rejoin).await;
    assert_eq!((status, code(&body)), (403, "key_refused"));
    assert!(body["error"]["message"].as_str().unwrap().contains("new code"), "{body}");
    assert_eq!(world.node(&known).get("/node/v1/config?after=0").await.0, 200, "it is no clone");
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_only_connectors_tell_streams_and_an_odd_text_hides_none() {
    let world = World::start().await;
    let gateway = world.joined("gw-1", Role::Gateway).await;
    let connector = world.joined("dc-1", Role::Connector).await;
    let stream = |subject: &str| {
        json!({
            "id": "00000000000000ab", "since": 1, "sealed": false, "caller": "gw-1", "subject": subject,
            "resource": "wiki", "target": "tcp:a:1", "dialled": "10.0.0.1:1", "rule": "wiki", "gateway": "gw-1",
            "transport": "tcp", "pair": "standard", "up": 1, "down": 2,
        })
    };
    let told = |streams: Vec<Value>| json!({ "total": streams.len(), "streams": streams });
    let many = told(vec![stream("user/bob"); 1_000]);
    assert_eq!(world.node(&gateway).post("/node/v1/streams", &told(vec![])).await.0, 403);
    let (status, answer) = world.node(&connector).post("/node/v1/streams", &many).await;
    assert_eq!((status, &answer["again_in"]), (200, &json!(10)), "{answer}");
    let odd = told(vec![stream("line\nbreak"), stream(&"x".repeat(301)), stream("user/\u{202e}nimda")]);
    assert_eq!(world.node(&connector).post("/node/v1/streams", &odd).await.0, 200);
    for bad in [told(vec![stream("user/bob"); 1_001]), json!({ "total": 1 })] {
        assert_eq!(world.node(&connector).post("/node/v1/streams", &bad).await.0, 400);
    }
}
