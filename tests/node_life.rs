//! The node client that ships, against the control that ships: join, follow, renew, and a control that was restored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod real_control;

use std::time::Duration;

use real_control::World;
use sluice_node_client::{Node, Settings};
use sluice_node_identity::Role;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};

const SOON: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_node_joins_follows_and_renews_without_being_taken_for_a_clone() {
    let world = spawn_blocking(|| {
        let world = World::owned();
        world.tenant();
        let code = world.path("join-code");
        world.good(
            &[
                &["node", "add", "edge-1", "--tenant", "acme", "--role", "edge", "--site", "branch"],
                &["--save", code.to_str().unwrap()][..],
            ]
            .concat(),
        );
        world.good(&["hub", "add", "hub-1", "--tenant", "acme", "--site", "branch"]);
        world
    });
    let world = world.await.unwrap();
    let settings = Settings {
        state_dir: world.path("edge"),
        join_code_file: Some(world.path("join-code")),
        control_address: Some(world.address),
        token: None,
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

    // A renewal waits for the running long poll to end.
    let before = node.leaf_der().unwrap();
    timeout(SOON, node.renew()).await.unwrap().unwrap();
    assert_ne!(node.leaf_der().unwrap(), before);
    let world = spawn_blocking(move || {
        world.good(&["hub", "revoke", "hub-1", "--tenant", "acme"]);
        world
    });
    let world = world.await.unwrap();
    let mut state = node.state();
    let told = timeout(SOON, state.wait_for(|view| view.value("hub/hub-1").is_some())).await.unwrap().unwrap().clone();
    assert_eq!(told.value("hub/hub-1").unwrap()["enrolled"], false);
    let nodes = spawn_blocking(move || world.good(&["node", "list", "--tenant", "acme"])).await.unwrap();
    let edge = &nodes["items"][0];
    assert_eq!((edge["generation"].as_u64(), edge["state"].as_str()), (Some(2), Some("joined")), "{nodes}");
    stop.send_replace(true);
    timeout(SOON, running).await.unwrap().unwrap();
}
