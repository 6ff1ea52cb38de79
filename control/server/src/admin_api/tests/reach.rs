//! Resources, exceptions and the policy key over the API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::World;

async fn refused(world: &World, path: &str, token: &str, body: Value) -> String {
    let (status, answer) = world.call("POST", path, Some(token), Some(body.clone())).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body} {answer}");
    answer["error"]["message"].as_str().unwrap().to_owned()
}

pub(super) fn but(value: &Value, changes: Value) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    value
}

#[tokio::test]
async fn c5_a_resource_says_hosts_ports_and_hours_and_is_refused_when_connectors_would_refuse_it() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    let path = "/tenants/acme/resources";
    let good = json!({
        "id": "sql", "site": "branch", "target": "udp:db.sql.test:1433", "hosts": "*.sql.test", "ports": "1433-1434",
        "times": ["mon-fri 06:00-18:00", "sat,sun 22:00-04:00"], "networks": ["10.1.0.0/16"], "for_control": true
    });
    world.good("POST", path, &acme, good).await;
    let (_, list) = world.call("GET", path, Some(&acme), None).await;
    let item = &list["items"][0];
    assert_eq!((item["target"].as_str(), item["ports"].as_str()), (Some("udp:db.sql.test:1433"), Some("1433-1434")));
    assert_eq!(item["times"], json!(["mon-fri 06:00-18:00", "sat,sun 22:00-04:00"]));
    let plain = json!({"id": "web", "site": "branch", "target": "tcp:web.test:80", "for_users": true});
    for (change, word) in [
        (json!({"hosts": "*.other.test"}), "cover the target's host"),
        (json!({"hosts": "10.0.0.0/0"}), "host pattern"),
        (json!({"hosts": "*"}), "host pattern"),
        (json!({"networks": ["0.0.0.0/0"]}), "own network"),
        (json!({"networks": ["::/0"]}), "own network"),
        (json!({"networks": ["10.1.2.3/16"]}), "own network"),
        (json!({"ports": "81-90"}), "among ports"),
        (json!({"ports": "90-81"}), "the lower one first"),
        (json!({"times": ["mon 25:00-26:00"]}), "mon-fri 06:00-18:00"),
        (json!({"times": vec!["mon 01:00-02:00"; 33]}), "32 time windows"),
        (json!({"target": "tcp:web.test:0"}), "1 to 65535"),
    ] {
        let said = refused(&world, path, &acme, but(&plain, change)).await;
        assert!(said.contains(word), "{said}");
    }
    world.good("POST", path, &acme, plain).await;
    let place = json!({"resource": {"resource": "sql", "host_header": null}});
    let app = json!({"id": "sql", "display_name": "S", "host": "sql.acme.test", "place": place, "groups": []});
    let said = refused(&world, "/tenants/acme/apps", &acme, but(&app, json!({"user_header": null}))).await;
    assert!(said.contains("not reached by TCP"), "{said}");
}

#[tokio::test]
async fn g7_an_exception_is_made_listed_removed_and_audited_and_never_longer_than_a_day() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let path = "/tenants/acme/exceptions";
    let gateway =
        json!({"id": "gw-1", "role": "gateway", "site": "branch", "host": "gw.acme.test", "addresses": ["192.0.2.1"]});
    world.good("POST", "/tenants/acme/nodes", &acme, gateway).await;
    let resource = json!({
        "id": "pump", "site": "branch", "target": "tcp:pump.test:80", "networks": ["10.9.0.0/16"], "for_users": true
    });
    world.good("POST", "/tenants/acme/resources", &acme, resource).await;
    let good = json!({
        "site": "branch", "target": "tcp:pump.test:22", "callers": ["gw-1"], "seconds": 86400, "why": "repair of pump 7"
    });
    for (change, word) in [
        (json!({"seconds": 86401}), "24 h"),
        (json!({"seconds": 59}), "60 s"),
        (json!({"why": ""}), "why"),
        (json!({"callers": []}), "callers"),
        (json!({"networks": ["0.0.0.0/0"]}), "own network"),
        (json!({"callers": ["gw-2"]}), "no gateway \"gw-2\""),
        (json!({"callers": ["dc-1"]}), "no gateway"),
        (json!({"site": "nowhere"}), "no site"),
        (json!({"resource": "nothing"}), "no resource"),
        (json!({"target": "pump.test:22"}), "tcp:host:port"),
    ] {
        let said = refused(&world, path, &acme, but(&good, change)).await;
        assert!(said.contains(word), "{said}");
    }
    let alone = world.good("POST", path, &acme, good.clone()).await;
    assert_eq!(alone["resource"], alone["id"], "a resource of its own");
    assert_eq!(alone["until"].as_u64().unwrap(), alone["made"].as_u64().unwrap() + 86_400);
    let widens = world.good("POST", path, &acme, but(&good, json!({"resource": "pump", "seconds": 60}))).await;
    assert_eq!((widens["resource"].as_str(), &widens["networks"]), (Some("pump"), &json!(["10.9.0.0/16"])));
    // An app may name the exception; a resource may not take its name.
    let id = alone["id"].as_str().unwrap();
    let place = json!({"resource": {"resource": id, "host_header": null}});
    let app = json!({"id": "p", "display_name": "P", "host": "p.acme.test", "place": place, "groups": [],
        "user_header": null});
    world.good("POST", "/tenants/acme/apps", &acme, app).await;
    let same = json!({"id": id, "site": "branch", "target": "tcp:x.test:80", "for_users": true});
    let taken = world.call("POST", "/tenants/acme/resources", Some(&acme), Some(same)).await;
    assert_eq!(taken.0, StatusCode::CONFLICT);

    assert_eq!(world.call("GET", path, Some(&other), None).await.0, StatusCode::NOT_FOUND);
    let mine = format!("{path}/{id}");
    assert_eq!(world.call("DELETE", &mine, Some(&other), None).await.0, StatusCode::NOT_FOUND);
    world.later(60);
    let (_, list) = world.call("GET", path, Some(&acme), None).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "the short one is over: {list}");
    assert_eq!(world.call("DELETE", &mine, Some(&acme), None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.call("DELETE", &mine, Some(&acme), None).await.0, StatusCode::NOT_FOUND);
    let (_, audit) = world.call("GET", "/tenants/acme/audit", Some(&acme), None).await;
    let acts: Vec<&str> = audit["items"].as_array().unwrap().iter().map(|one| one["act"].as_str().unwrap()).collect();
    assert_eq!(acts.iter().filter(|act| act.starts_with("exception.")).count(), 3, "{acts:?}");
    assert!(audit.to_string().contains("repair of pump 7"));
}

#[tokio::test]
async fn c5_only_a_full_administrator_with_proof_of_the_key_takes_the_policy_key() {
    let (world, owner) = World::owned().await;
    let [acme, other, full] = world.two_tenants(&owner).await;
    let path = "/tenants/acme/policy/adopt";
    let body = json!({"policy_key": {"kty": "EC"}, "proof": "x"});
    assert_eq!(world.call("POST", path, Some(&acme), Some(body.clone())).await.0, StatusCode::FORBIDDEN);
    assert_eq!(world.call("POST", path, Some(&other), Some(body.clone())).await.0, StatusCode::NOT_FOUND);
    let said = refused(&world, path, &full, body).await;
    assert!(said.contains("proof"), "{said}");
    let (_, shown) = world.call("GET", "/tenants/acme/policy", Some(&acme), None).await;
    assert_eq!((shown["held_by"].as_str(), &shown["lists"]), (Some("control"), &json!([])));
    let (_, none) = world.call("GET", "/tenants/acme/policy/pending", Some(&acme), None).await;
    assert_eq!(none["items"], json!([]));
    let signed = Some(json!({"jws": "a.b.c"}));
    let (status, answer) = world.call("POST", "/tenants/acme/policy/lists/gw-1", Some(&acme), signed).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{answer}");
}
