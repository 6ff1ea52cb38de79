//! EST with strongSwan's `pki` and curl as hubs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::{path::PathBuf, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use sluice_control_domain::{HubRecord, HubState, StateAudience, StatePage, Store};
use sluice_control_pki::{CertFacts, pem_chain};
use sluice_node_identity::{Role, api::HubStanding};
use world::{Identity, World, csr};

/// Runs strongSwan's `pki` with a hosts file of its own, so that the tenant's name leads to our port.
async fn pki(world: &World, args: &[String]) -> (bool, Vec<u8>) {
    let hosts = world.file("hosts", format!("{} est.acme.test\n", world.address.ip()));
    let script = "mount --make-rprivate / && mount --bind \"$0\" /etc/hosts && exec pki \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(hosts).args(args);
    let out = tokio::task::spawn_blocking(move || command.output().expect("this test needs unshare")).await.unwrap();
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_ne!(out.status.code(), Some(127), "this test needs strongswan-pki: {text}");
    (out.status.success(), out.stdout)
}

fn args(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

async fn request(world: &World, name: &str) -> (PathBuf, PathBuf) {
    let (ok, key) = pki(world, &args(&["--gen", "--type", "ecdsa", "--size", "256", "--outform", "pem"])).await;
    assert!(ok);
    let key = world.file(&format!("{name}.key"), key);
    let make = [
        "--req",
        "--in",
        key.to_str().unwrap(),
        "--type",
        "ecdsa",
        "--dn",
        "CN=hub-0001",
        "--san",
        "hub-0001.hub.test",
        "--outform",
        "der",
    ];
    let (ok, csr) = pki(world, &args(&make)).await;
    assert!(ok);
    (key, world.file(&format!("{name}.csr"), csr))
}

fn est(world: &World, more: &[&str]) -> Vec<String> {
    let url = format!("https://est.acme.test:{}", world.address.port());
    let root = world.dir.path().join("hub-root.pem");
    let mut all = args(&["--est", "--url", &url, "--cacert", root.to_str().unwrap(), "--outform", "pem"]);
    all.extend(args(more));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn e1_strongswan_enrols_once_and_reenrols_by_certificate() {
    let world = World::start().await;
    let code = world.add_hub("hub-0001").await;
    let (key, csr) = request(&world, "first").await;
    let login = format!("hub-0001:{}", code.to_text());
    let enrol = |csr: &PathBuf, login: &str| est(&world, &["--in", csr.to_str().unwrap(), "--userpass", login]);

    let (ok, _) = pki(&world, &enrol(&csr, "hub-0001:AAAAAAAAAAAAAAAAAAAAAA")).await;
    assert!(!ok, "a wrong code");
    let (ok, pem) = pki(&world, &enrol(&csr, &login)).await;
    assert!(ok);
    let pem = String::from_utf8(pem).unwrap();
    let facts = CertFacts::of(&pem_chain(&pem).unwrap()[0]).unwrap();
    assert_eq!(facts.name.unwrap().to_string(), "spiffe://sluice.test/tenant/acme/hub/hub-0001");
    let (_, other) = request(&world, "second").await;
    let (ok, _) = pki(&world, &enrol(&other, &login)).await;
    assert!(!ok, "a used code");

    let cert = world.file("hub.pem", &pem);
    let with = ["--in", other.to_str().unwrap(), "--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
    let (ok, new) = pki(&world, &est(&world, &with)).await;
    assert!(ok, "re-enrolment with another key");
    let new = CertFacts::of(&pem_chain(&String::from_utf8(new).unwrap()).unwrap()[0]).unwrap();
    let record = world.one::<HubRecord>("acme", "hub-0001").await.body;
    assert_eq!(record.keys, [new.key.clone(), facts.key.clone()]);
    assert_eq!(world.audit().await, ["hub.enroll", "hub.enroll.second_key", "hub.reenroll"]);

    let site = [StateAudience::Site("branch-1".parse().unwrap())];
    let StatePage::Snapshot { entries, .. } = world.store.state(&world.tenant.id, &site, None).await.unwrap() else {
        panic!()
    };
    let standing: HubStanding = serde_json::from_value(entries[0].1.clone()).unwrap();
    assert_eq!(
        (entries[0].0.as_str(), standing),
        ("hub/hub-0001", HubStanding { enrolled: true, keys: vec![new.key, facts.key] })
    );

    world.change::<HubRecord>("acme", "hub-0001", |hub| hub.state = HubState::Revoked).await;
    let (ok, _) = pki(&world, &est(&world, &with)).await;
    assert!(!ok, "a revoked hub");
}

#[tokio::test(flavor = "multi_thread")]
async fn strongswan_reads_the_authority_and_every_enrolment_works() {
    let world = World::start().await;
    let out = world.dir.path().join("got.pem");
    let url = format!("https://est.acme.test:{}", world.address.port());
    let root = world.dir.path().join("hub-root.pem");
    let get = [
        "--estca",
        "--url",
        &url,
        "--cacert",
        root.to_str().unwrap(),
        "--caout",
        out.to_str().unwrap(),
        "--outform",
        "pem",
        "--force",
    ];
    // Several times: bytes in unlucky pieces fail at random.
    for _ in 0..5 {
        let (ok, _) = pki(&world, &args(&get)).await;
        assert!(ok);
    }
    let mut got = std::fs::read_dir(world.dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let got = got.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("got")).unwrap();
    assert_eq!(pem_chain(&std::fs::read_to_string(got).unwrap()).unwrap(), pem_chain(&world.tenant.hub_root).unwrap());
}

fn base64_csr(key: &KeyPair) -> String {
    STANDARD.encode(CertificateParams::default().serialize_request(key).unwrap().der())
}

fn curl(world: &World) -> world::Curl {
    world.curl("est.acme.test").ca(&world.dir.path().join("hub-root.pem"))
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_what_to_do_and_not_what_exists() {
    let world = World::start().await;
    let code = world.add_hub("hub-1").await.to_text();
    let key = KeyPair::generate().unwrap();
    let body = base64_csr(&key);
    let enrol =
        async |login: &str| curl(&world).args(&["-u", login]).data(&body).get("/.well-known/est/simpleenroll").await;
    let none = curl(&world).data(&body).get("/.well-known/est/simpleenroll").await;
    assert_eq!(none.0, 401);
    let wrong = enrol("hub-1:AAAAAAAAAAAAAAAAAAAAAA").await;
    let unknown = enrol("hub-9:AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!((wrong.0, &wrong.1), (401, &unknown.1));
    let get = async |path: &str| curl(&world).get(path).await.0;
    assert_eq!(get("/.well-known/est/nothing").await, 404);
    assert_eq!(get("/.well-known/est/simpleenroll").await, 405);
    assert_eq!(get("/.well-known/est/branch/cacerts").await, 200);
    assert_eq!(get("/.well-known/est/csrattrs").await, 204);
    assert_eq!(curl(&world).args(&["-H", "Host: est.globex.test"]).get("/.well-known/est/cacerts").await.0, 421);
    let post = async |body: &str| {
        let login = format!("hub-1:{code}");
        curl(&world).args(&["-u", &login]).data(body).get("/.well-known/est/simpleenroll").await.0
    };
    assert_eq!(post("not base64 at all!").await, 400);
    assert_eq!(post("AAAA").await, 400);
    // What is too long is not read: curl may find the connection closed before it sees the answer.
    assert!(matches!(post(&"A".repeat(40_000)).await, 413 | 0));
    assert_eq!(post(&base64_csr(&KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap())).await, 400);
    assert!(world.audit().await.is_empty(), "nothing of this changed anything");
    assert_eq!(enrol(&format!("hub-1:{code}")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hubs_certificate_opens_no_other_door_and_a_nodes_none_here() {
    let world = World::start().await;
    let code = world.add_hub("hub-1").await.to_text();
    let key = KeyPair::generate().unwrap();
    let login = format!("hub-1:{code}");
    let enrol = curl(&world).args(&["-u", &login]).data(&base64_csr(&key));
    let (status, body) = enrol.get("/.well-known/est/simpleenroll").await;
    assert_eq!(status, 200, "{body}");
    let pem = world.one::<HubRecord>("acme", "hub-1").await.body.certificate.unwrap();
    let hub: Identity = world.identity("hub-1", key, &pem);
    assert_eq!(world.node(&hub).get("/node/v1/state?after=0").await.0, 0, "the node API does not even shake hands");
    assert_eq!(world.curl("pages.sluice.test").cert(&hub).get("/").await.0, 0);
    let edge = world.joined("edge-1", Role::Edge).await;
    let again = base64_csr(&edge.key);
    let try_as = |id: &Identity| curl(&world).cert(id).data(&again);
    assert_eq!(try_as(&edge).get("/.well-known/est/simplereenroll").await.0, 0);
    assert_eq!(try_as(&hub).get("/.well-known/est/simplereenroll").await.0, 200);

    let facing = world.node(&edge).post("/node/v1/hub-facing", &json!({ "csr": csr(&edge.key) })).await;
    assert_eq!(facing.0, 200);
    let chain = pem_chain(facing.1["chain"].as_str().unwrap()).unwrap();
    assert_eq!(chain[1], pem_chain(&world.tenant.hub_root).unwrap()[0], "hubs know the door by their own root");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_speaks_for_the_hubs_of_its_own_site() {
    let world = World::start().await;
    for hub in ["here", "there"] {
        world.add_hub(hub).await;
        world.change::<HubRecord>("acme", hub, |hub| hub.state = HubState::Enrolled).await;
    }
    world.change::<HubRecord>("acme", "there", |hub| hub.site = "branch-2".parse().unwrap()).await;
    let edge = world.joined("edge-1", Role::Edge).await;
    let seen = |hub: &str| json!({ "hub": hub, "mac": "aa:bb:cc:dd:ee:ff", "address": "10.0.0.7", "at": world::now() });
    let report = json!({ "seen": [seen("here"), seen("there"), seen("nowhere")] });
    assert_eq!(world.node(&edge).post("/node/v1/checkins", &report).await.0, 204);
    assert!(world.one::<HubRecord>("acme", "here").await.body.seen.is_some());
    assert!(world.one::<HubRecord>("acme", "there").await.body.seen.is_none());
}
