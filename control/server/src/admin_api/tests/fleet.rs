//! Nodes, hubs, hosts: codes shown once, lists whole or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::http::StatusCode;
use serde_json::json;
use sluice_control_domain::{Kind, Load, StateAudience, StatePage, Store};
use sluice_node_identity::JoinCode;

use super::{World, tenant_body};

#[tokio::test]
async fn a_join_code_is_shown_once_and_kept_as_digest() {
    let (world, owner) = World::owned().await;
    world.two_tenants(&owner).await;
    let node = json!({"id": "edge-1", "role": "edge", "site": "branch"});
    let made = world.good("POST", "/tenants/acme/nodes", &owner, node.clone()).await;
    let code: JoinCode = made["code"].as_str().unwrap().parse().unwrap();
    assert_eq!(code.url, "https://node.sluice.test:8443");
    assert_eq!(made["valid_until"], 1_000_000 + 900);
    let (_, list) = world.call("GET", "/tenants/acme/nodes", Some(&owner), None).await;
    assert_eq!(list["items"][0]["state"], "expected");
    assert!(!list.to_string().contains(&code.secret.to_text()));
    assert_eq!(world.call("POST", "/tenants/acme/nodes", Some(&owner), Some(node)).await.0, StatusCode::CONFLICT);
    let gateway = json!({"id": "gw-1", "role": "gateway", "site": "branch"});
    let refused = world.call("POST", "/tenants/acme/nodes", Some(&owner), Some(gateway)).await;
    assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY, "a gateway needs a host");
    let revoked = world.good("POST", "/tenants/acme/nodes/edge-1/revoke", &owner, json!({})).await;
    assert_eq!(revoked["id"], "edge-1");
}

#[tokio::test]
async fn e8_a_list_of_hubs_is_imported_whole_or_not_at_all() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world
        .good(
            "POST",
            "/tenants/acme/sites",
            &acme,
            json!({"id": "rome", "display_name": "Rome", "time_zone": "Europe/Rome"}),
        )
        .await;
    let row =
        |number: u32, site: &str| json!({"id": format!("hub-{number}"), "site": site, "serial": format!("SN{number}")});
    let bad = json!({"hubs": [row(1, "branch"), row(2, "atlantis")]});
    let (status, answer) = world.call("POST", "/tenants/acme/hubs/import", Some(&acme), Some(bad)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer["error"]["message"].as_str().unwrap().contains("atlantis"));
    let twice = json!({"hubs": [row(1, "branch"), row(1, "rome")]});
    assert!(world.call("POST", "/tenants/acme/hubs/import", Some(&acme), Some(twice)).await.0.is_client_error());
    let (_, none) = world.call("GET", "/tenants/acme/hubs", Some(&acme), None).await;
    assert_eq!(none["items"], json!([]));
    let good = json!({"hubs": (0..250).map(|number| row(number, if number % 2 == 0 { "branch" } else { "rome" })).collect::<Vec<_>>()});
    let made = world.good("POST", "/tenants/acme/hubs/import", &acme, good.clone()).await;
    assert_eq!(made["codes"].as_array().unwrap().len(), 250);
    assert_eq!(world.call("POST", "/tenants/acme/hubs/import", Some(&acme), Some(good)).await.0, StatusCode::CONFLICT);
    let (mut seen, mut after) = (0, String::new());
    loop {
        let (_, page) = world.call("GET", &format!("/tenants/acme/hubs?limit=100{after}"), Some(&acme), None).await;
        seen += page["items"].as_array().unwrap().len();
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 250);
}

#[tokio::test]
async fn a_revoked_hub_is_told_to_its_site_and_its_code_dies() {
    let (world, owner) = World::owned().await;
    world.two_tenants(&owner).await;
    world.good("POST", "/tenants/acme/hubs", &owner, json!({"id": "hub-1", "site": "branch"})).await;
    world.good("POST", "/tenants/acme/hubs/hub-1/revoke", &owner, json!({})).await;
    let audiences = [StateAudience::Site("branch".parse().unwrap())];
    let page = world.store.state(&"acme".parse().unwrap(), &audiences, None).await.unwrap();
    let StatePage::Snapshot { entries, .. } = page else { panic!("no snapshot") };
    assert_eq!(entries[0].0, "hub/hub-1");
    assert_eq!(entries[0].1["enrolled"], false);
    let scan = Load::Scan { kind: Kind::EnrollCode, tenant: "acme".into(), after: None, limit: 9 };
    assert!(world.store.load(scan).await.unwrap().is_empty());
}

#[tokio::test]
async fn hosts_belong_to_one_tenant_and_one_app() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let mut near = tenant_body("x");
    for host in ["login_host", "est_host", "checkin_host", "feed_host"] {
        near[host] = json!(format!("{}.sub.acme.test", &host[..3]));
    }
    let (status, answer) = world.call("POST", "/tenants", Some(&owner), Some(near)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
    let app = |id: &str, host: &str| {
        let place =
            json!({"direct": {"kind": "direct", "address": "192.0.2.1:80", "tls_server_name": null, "networks": []}});
        json!({"id": id, "display_name": id, "host": host, "place": place, "groups": ["staff"], "user_header": null})
    };
    world.good("POST", "/tenants/acme/apps", &acme, app("wiki", "wiki.acme.test")).await;
    let again = world.call("POST", "/tenants/acme/apps", Some(&acme), Some(app("wiki2", "wiki.acme.test"))).await;
    assert_eq!(again.0, StatusCode::CONFLICT);
    for (token, tenant, host) in [
        (&other, "other", "wiki.acme.test"),
        (&acme, "acme", "login.acme.test"),
        (&acme, "acme", "evilacme.test"),
        (&acme, "acme", "pages.acme.test"),
        (&acme, "acme", "a.pages.acme.test"),
    ] {
        let path = format!("/tenants/{tenant}/apps");
        let refused = world.call("POST", &path, Some(token), Some(app("grab", host))).await;
        assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY, "{host}");
    }
    for est_host in ["node.sluice.test", "x.console.sluice.test", "sluice.test"] {
        let hosts = ["login", "checkin", "feed"].map(|name| format!("{name}.sluice.test"));
        let mut grab = tenant_body("third");
        for (name, host) in ["login_host", "checkin_host", "feed_host"].into_iter().zip(hosts) {
            grab[name] = json!(host);
        }
        grab["est_host"] = json!(est_host);
        let (status, answer) = world.call("POST", "/tenants", Some(&owner), Some(grab)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{est_host}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("control itself"), "{answer}");
    }
    let mut control = app("own", "own.acme.test");
    control["place"] = json!({"direct": {"kind": "control", "address": "192.0.2.1:1", "server_name": "x"}});
    let refused = world.call("POST", "/tenants/acme/apps", Some(&acme), Some(control)).await;
    assert_eq!(refused.0, StatusCode::UNPROCESSABLE_ENTITY);
}
