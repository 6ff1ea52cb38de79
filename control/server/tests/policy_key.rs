//! A tenant's policy key that control has lost: a restore from before it was handed over.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod world;

use sluice_node_identity::Role;
use world::World;

#[tokio::test]
async fn c5_without_the_policy_key_gateways_and_edges_get_their_documents_all_the_same() {
    let world = World::start().await;
    let gateway = world.joined("gw-1", Role::Gateway).await;
    let edge = world.joined("edge-1", Role::Edge).await;
    let connector = world.joined("dc-1", Role::Connector).await;
    world.keys.keystore().remove("tenant/acme/policy").unwrap();
    for node in [&gateway, &edge] {
        let (status, answer) = world.node(node).get("/node/v1/config?after=0").await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, answer) = world.node(&connector).get("/node/v1/config?after=0").await;
    assert_eq!(status, 503, "{answer}");
    world.stop().await;
}
