//! What the gateway tells control, and what it does when the state feed takes a right back.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use sluice_connector_server::TunnelServer;
use sluice_node_client::Node;
use sluice_node_identity::{
    NodeId,
    api::{GatewayKeys, LiveTunnels},
};
use tokio::time::{sleep, timeout};

/// Control keeps live tunnels in memory only, so they are told again and again.
const TUNNELS_EVERY: Duration = Duration::from_secs(10);
/// After a failure; also the least time between two lists of tunnels.
const RETRY: Duration = Duration::from_secs(1);
/// Keys are told again in case control was restored from a backup that does not know them.
const KEYS_EVERY: Duration = Duration::from_secs(3600);

/// Runs until dropped.
pub(super) async fn keep(node: Node, tunnels: TunnelServer, keys: GatewayKeys) {
    tokio::join!(tell_keys(&node, &keys), tell_tunnels(&node, &tunnels), obey(&node, &tunnels));
}

async fn tell_keys(node: &Node, keys: &GatewayKeys) {
    loop {
        let told: Result<(), _> = node.post("/node/v1/keys", keys).await;
        let pause = match told {
            Ok(()) => KEYS_EVERY,
            Err(error) => {
                tracing::debug!("keys are not registered yet: {error}");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

async fn tell_tunnels(node: &Node, tunnels: &TunnelServer) {
    let mut live = tunnels.live();
    loop {
        let tunnels = live.borrow_and_update().clone();
        let told: Result<(), _> = node.post("/node/v1/tunnels", &LiveTunnels { tunnels }).await;
        if let Err(error) = told {
            tracing::debug!("control does not know the live tunnels: {error}");
            sleep(RETRY).await;
            continue;
        }
        // Changed or not: the list goes out again. Only a server that has gone ends `live`, and we hold it.
        let _changed = timeout(TUNNELS_EVERY, live.changed()).await;
    }
}

/// Ends tunnels of revoked connectors and streams of users whose rights changed.
async fn obey(node: &Node, tunnels: &TunnelServer) {
    let mut state = node.state();
    let mut users = BTreeMap::new();
    loop {
        {
            let view = state.borrow_and_update();
            for connector in
                view.under("node/").filter_map(|(key, _)| key.strip_prefix("node/")?.parse::<NodeId>().ok())
            {
                tunnels.drop_connector(&connector);
            }
            let now: BTreeMap<String, Value> =
                view.under("user/").map(|(key, value)| (key.to_owned(), value.clone())).collect();
            for (subject, _) in now.iter().filter(|(key, value)| users.get(*key) != Some(*value)) {
                tunnels.cut(subject);
            }
            users = now;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}
