//! How connectors' lists stand, over the API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use serde_json::json;
use sluice_control_domain::{ChangeSet, Kind, Load, NodeRecord, Store, Stored, Typed};
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
