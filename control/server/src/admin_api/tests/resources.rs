//! Resources and apps, changed and removed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::http::StatusCode;
use serde_json::{Value, json};
use sluice_control_domain::{ChangeSet, Kind, Load, ResourceRecord, Store, Stored};

use super::{World, reach::but};

fn web() -> Value {
    json!({"id": "web", "site": "branch", "target": "tcp:web.test:80", "for_users": true})
}

fn app() -> Value {
    let place = json!({"resource": {"resource": "web", "host_header": null}});
    json!({"id": "wiki", "display_name": "W", "host": "wiki.acme.test", "place": place, "groups": [], "user_header": null})
}

#[tokio::test]
async fn c5_a_resource_is_changed_and_removed_unless_something_names_it() {
    let (world, owner) = World::owned().await;
    let [acme, other, _] = world.two_tenants(&owner).await;
    let one = "/tenants/acme/resources/web";
    world.good("POST", "/tenants/acme/resources", &acme, web()).await;
    world.good("POST", "/tenants/acme/apps", &acme, app()).await;
    let put = |body: Value| world.call("PUT", one, Some(&acme), Some(body));
    let changed = put(but(&web(), json!({"ports": "80-81", "for_control": true}))).await;
    assert_eq!((changed.0, &changed.1["ports"]), (StatusCode::OK, &json!("80-81")), "{}", changed.1);
    let (_, list) = world.call("GET", "/tenants/acme/resources", Some(&acme), None).await;
    assert_eq!((&list["items"][0]["ports"], list["items"].as_array().unwrap().len()), (&json!("80-81"), 1));
    // What an app or an integration lives by stays.
    world.good("PUT", "/tenants/acme/integrations/tracker", &acme, json!({"declaration": "good web"})).await;
    for (change, word) in [
        (json!({"target": "udp:web.test:80"}), "app \"wiki\""),
        (json!({"for_users": false, "for_control": true}), "app \"wiki\""),
        (json!({"for_control": false}), "integration \"tracker\""),
    ] {
        let (status, answer) = put(but(&web(), change)).await;
        assert_eq!(status, StatusCode::CONFLICT, "{answer}");
        assert!(answer.to_string().contains(&word.replace('"', "\\\"")), "{answer}");
    }
    for (change, status) in [
        (json!({"id": "other"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"ports": "90-91"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"site": "nowhere"}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(put(but(&web(), change.clone())).await.0, status, "{change}");
    }
    let delete = |path: &'static str, token: String| {
        let world = &world;
        async move { world.call("DELETE", path, Some(&token), None).await }
    };
    assert_eq!(delete(one, acme.clone()).await.0, StatusCode::CONFLICT);
    assert_eq!(delete("/tenants/acme/apps/wiki", other.clone()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(delete("/tenants/acme/apps/wiki", acme.clone()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(delete("/tenants/acme/apps/wiki", acme.clone()).await.0, StatusCode::NOT_FOUND);
    let (status, answer) = delete(one, acme.clone()).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::CONFLICT, &json!("in_use")), "{answer}");
    world.good("PUT", "/tenants/acme/integrations/tracker", &acme, json!({"declaration": "good other"})).await;
    assert_eq!(delete(one, other).await.0, StatusCode::NOT_FOUND);
    assert_eq!(delete(one, acme.clone()).await.0, StatusCode::NO_CONTENT);
    assert_eq!(delete(one, acme.clone()).await.0, StatusCode::NOT_FOUND);
    assert_eq!(put(web()).await.0, StatusCode::NOT_FOUND, "a change makes nothing");
    let (_, audit) = world.call("GET", "/tenants/acme/audit", Some(&acme), None).await;
    let acts: Vec<&str> = audit["items"].as_array().unwrap().iter().map(|one| one["act"].as_str().unwrap()).collect();
    for act in ["resource.change", "resource.remove", "app.remove"] {
        assert_eq!(acts.iter().filter(|done| **done == act).count(), 1, "{acts:?}");
    }
    assert!(audit.to_string().contains("port 80-81"), "what it became, and what it was");
}

#[tokio::test]
async fn c5_what_no_longer_fits_on_a_connectors_list_is_refused() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world.good("POST", "/tenants/acme/resources", &acme, web()).await;
    let tenant = "acme".parse().unwrap();
    let one = world.store.load(Load::Scan { kind: Kind::Resource, tenant: "acme".into(), after: None, limit: 1 });
    let one: ResourceRecord = Stored::typed(one.await.unwrap().remove(0)).unwrap().body;
    let hosts = Some(format!("*.{}", ["a".repeat(60).as_str(); 4].join(".")));
    let many = (0..5_000).fold(ChangeSet::of(&tenant), |set, number| {
        let id = format!("r-{number}").parse().unwrap();
        set.create(&ResourceRecord { id, hosts: hosts.clone(), ..one.clone() })
    });
    world.store.commit(many).await.unwrap();
    let next = but(&web(), json!({"id": "next"}));
    for (method, path, body) in [
        ("POST", "/tenants/acme/resources", next),
        ("PUT", "/tenants/acme/resources/web", web()),
        (
            "POST",
            "/tenants/acme/exceptions",
            json!({"site": "branch", "target": "tcp:x:1", "callers": ["control"], "seconds": 60, "why": "x"}),
        ),
    ] {
        let (status, answer) = world.call(method, path, Some(&acme), Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert!(answer.to_string().contains("they take 2097152"), "{answer}");
    }
    assert_eq!(
        world.call("DELETE", "/tenants/acme/resources/r-7", Some(&acme), None).await.0,
        StatusCode::NO_CONTENT,
        "there is a way out"
    );
}
