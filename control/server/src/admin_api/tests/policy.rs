//! How connectors' lists stand, over the API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use axum::http::StatusCode;
use serde_json::json;
use sluice_control_domain::{ChangeSet, Kind, Load, NodeRecord, PLATFORM, Store, Stored, Tenant, Typed};
use sluice_node_identity::{Binding, BoundKey, Fingerprint};

use super::World;

impl World {
    /// Makes `dc-1` a connector that has joined.
    pub(super) async fn joined_connector(&self, token: &str) {
        let node = json!({"id": "dc-1", "role": "connector", "site": "branch"});
        self.good("POST", "/tenants/acme/nodes", token, node).await;
        self.edit_connector(|node| {
            let key = Fingerprint::of(b"dc-1");
            let bound = BoundKey { key: key.clone(), csr: key, generation: 1, certificate: String::new() };
            node.binding = Some(Binding::joined(bound));
        })
        .await;
    }

    async fn edit_connector(&self, edit: impl FnOnce(&mut NodeRecord)) {
        let scan = Load::Scan { kind: Kind::Node, tenant: "acme".into(), after: None, limit: 1 };
        let loaded: Typed<NodeRecord> = Stored::typed(self.store.load(scan).await.unwrap().remove(0)).unwrap();
        let mut after = loaded.body.clone();
        edit(&mut after);
        self.store.commit(ChangeSet::of(&after.tenant).update(&loaded, &after)).await.unwrap();
    }
}

#[tokio::test]
async fn c5_with_the_customers_key_changes_say_what_they_wait_for() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    let resource = |id: &str| json!({"id": id, "site": "branch", "target": "tcp:web.test:80", "for_users": true});
    let exception = json!({
        "site": "branch", "target": "tcp:x.test:22", "callers": ["control"], "seconds": 600, "why": "repair"
    });
    let (resources, exceptions) = ("/tenants/acme/resources", "/tenants/acme/exceptions");
    assert!(world.good("POST", resources, &acme, resource("now")).await.get("waits").is_none());
    let load = Load::Scan { kind: Kind::Tenant, tenant: PLATFORM.into(), after: None, limit: 1 };
    let loaded: Typed<Tenant> = Stored::typed(world.store.load(load).await.unwrap().remove(0)).unwrap();
    assert_eq!(loaded.body.id.as_str(), "acme");
    let mut after = loaded.body.clone();
    after.policy.customer = true;
    world.store.commit(ChangeSet::of(&after.id).update(&loaded, &after)).await.unwrap();

    let says = |answer: &serde_json::Value| answer["waits"].as_str().is_some_and(|waits| waits.contains("policy sign"));
    assert!(says(&world.good("POST", resources, &acme, resource("later")).await));
    assert!(says(&world.good("PUT", &format!("{resources}/now"), &acme, resource("now")).await));
    let made = world.good("POST", exceptions, &acme, exception).await;
    assert!(says(&made), "{made}");
    let id = made["id"].as_str().unwrap();
    for path in [format!("{exceptions}/{id}"), format!("{resources}/later")] {
        let (status, answer) = world.call("DELETE", &path, Some(&acme), None).await;
        assert!(status == StatusCode::ACCEPTED && says(&answer), "{status} {answer}");
    }
    let (_, list) = world.call("GET", resources, Some(&acme), None).await;
    assert!(list["items"][0].get("waits").is_none());
}

#[tokio::test]
async fn c5_a_list_that_its_connector_refuses_is_not_called_good() {
    let (world, owner) = World::owned().await;
    let [acme, ..] = world.two_tenants(&owner).await;
    world.joined_connector(&acme).await;
    world.edit_connector(|node| node.refused = Some((7, "the clock of this connector is 2 h behind".into()))).await;
    let (_, shown) = world.call("GET", "/tenants/acme/policy", Some(&acme), None).await;
    let list = &shown["lists"][0];
    assert_eq!(list["state"], "refused", "{shown}");
    let words = list["words"].as_str().unwrap();
    assert!(words.contains("2 h behind") && words.contains("older list"), "{words}");
}
