//! The node client that ships, against the node API that ships.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use std::{os::unix::fs::PermissionsExt, time::Duration};

use serde_json::json;
use sluice_control_domain::{ChangeSet, StateAudience, StateChange, Store};
use sluice_node_client::{Node, Settings};
use sluice_node_identity::{JoinCode, Role};
use tokio::{sync::watch, time::timeout};
use world::World;

const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn e10_a_node_joins_follows_and_renews_without_being_taken_for_a_clone() {
    let world = World::start().await;
    let secret = world.add_node("edge-1", Role::Edge, 600).await;
    let code = JoinCode {
        url: format!("https://node.sluice.test:{}", world.address.port()),
        root_pin: world.keys.node_root().pin().clone(),
        policy_thumbprint: sluice_connector_wire::thumbprint(&world.tenant.policy_key).unwrap(),
        secret,
    };
    let code = world.file("join-code", code.to_string());
    std::fs::set_permissions(&code, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = Settings {
        state_dir: world.dir.path().join("edge"),
        join_code_file: Some(code),
        control_address: Some(world.address),
    };
    let node = timeout(SOON, Node::open(settings, Role::Edge)).await.unwrap().unwrap();
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let node = node.clone();
        async move { node.run(stopped).await }
    });
    let mut config = node.config();
    let envelope = timeout(SOON, config.wait_for(Option::is_some)).await.unwrap().unwrap().clone().unwrap();
    assert_eq!(envelope.document["service"]["est_host"], "est.acme.test");

    // A renewal waits for the running long poll to end: one round is enough for the gate.
    for round in 0..1_u32 {
        let before = node.leaf_der().unwrap();
        timeout(SOON, node.renew()).await.unwrap().unwrap();
        assert_ne!(node.leaf_der().unwrap(), before);
        let site = StateAudience::Site("branch-1".parse().unwrap());
        let change = StateChange { audience: site, key: format!("hub/{round}"), value: Some(json!(round)) };
        world.store.commit(ChangeSet::of(&world.tenant.id).state(change)).await.unwrap();
        let key = format!("hub/{round}");
        timeout(SOON, node.state().wait_for(|view| view.value(&key).is_some())).await.unwrap().unwrap();
    }
    let binding = world.node_record("edge-1").await.body.binding.unwrap();
    assert_eq!((binding.current.generation, binding.lock), (2, None));
    stop.send_replace(true);
    timeout(SOON, running).await.unwrap().unwrap();
}
