//! What the gateway tells control, and what it does when the state feed takes a right back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;
use sluice_connector_server::TunnelServer;
use sluice_node_client::{Node, Pause};
use sluice_node_identity::{
    NodeId, StateView,
    api::{GatewayKeys, LiveTunnels},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

/// Control keeps live tunnels in memory only, so they are told again and again.
const TUNNELS_EVERY: Duration = Duration::from_secs(10);
/// The least time between two lists of tunnels: a connector that comes and goes must not make us call control as often.
const REST: Duration = Duration::from_secs(1);
/// Keys are told again in case control was restored from a backup that does not know them.
const KEYS_EVERY: Duration = Duration::from_secs(3600);

/// Runs until dropped.
pub(super) async fn keep(node: Node, tunnels: TunnelServer, keys: GatewayKeys) {
    tokio::join!(tell_keys(&node, &keys), tell_tunnels(&node, &tunnels), obey(node.state(), &tunnels));
}

async fn tell_keys(node: &Node, keys: &GatewayKeys) {
    let mut pause = Pause::default();
    loop {
        let told: Result<(), _> = node.post("/node/v1/keys", keys).await;
        match told {
            Ok(()) => {
                pause.reset();
                sleep(KEYS_EVERY).await;
            }
            Err(error) => {
                tracing::debug!("keys are not registered yet: {error}");
                pause.wait().await;
            }
        }
    }
}

async fn tell_tunnels(node: &Node, tunnels: &TunnelServer) {
    let (mut live, mut pause) = (tunnels.live(), Pause::default());
    loop {
        let tunnels = live.borrow_and_update().clone();
        let told: Result<(), _> = node.post("/node/v1/tunnels", &LiveTunnels { tunnels }).await;
        if let Err(error) = told {
            tracing::debug!("control does not know the live tunnels: {error}");
            pause.wait().await;
            continue;
        }
        pause.reset();
        sleep(REST).await;
        // Changed or not: the list goes out again. Only a server that has gone ends `live`, and we hold it.
        let _changed = timeout(TUNNELS_EVERY, live.changed()).await;
    }
}

/// Ends tunnels of revoked connectors and streams of users whose rights changed. Never returns.
async fn obey(mut state: watch::Receiver<Arc<StateView>>, tunnels: &TunnelServer) {
    let mut live = tunnels.live();
    let mut users: BTreeMap<String, Value> = BTreeMap::new();
    loop {
        {
            let view = state.borrow_and_update();
            live.mark_unchanged();
            for connector in
                view.under("node/").filter_map(|(key, _)| key.strip_prefix("node/")?.parse::<NodeId>().ok())
            {
                tunnels.drop_connector(&connector);
            }
            for (subject, value) in view.under("user/") {
                if users.get(subject) != Some(value) {
                    tunnels.cut(subject);
                    users.insert(subject.to_owned(), value.clone());
                }
            }
            users.retain(|subject, _| view.value(subject).is_some());
        }
        // A connector may be revoked while its tunnel is still saying hello: so new tunnels are looked at too. Neither
        // sender can be gone while we hold the node and the server; if one is, nothing will ever change again.
        let changed = tokio::select! {
            changed = state.changed() => changed,
            changed = live.changed() => changed,
        };
        if changed.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

    use rcgen::{CertificateParams, KeyPair, SanType};
    use sluice_connector_mux::{Connection, End, write_frame};
    use sluice_connector_server::{Arrived, Limits};
    use sluice_connector_wire::{AgentHello, ClassPair, TokenSigner};
    use sluice_node_identity::StateEvent;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn leaf(name: &str) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[tokio::test]
    async fn c4_a_connector_revoked_while_it_says_hello_gets_no_tunnel() {
        let key = aws_lc_rs::signature::Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let name = "spiffe://sluice.test/tenant/acme/gateway/dmz-1";
        let signer = TokenSigner::gateway("dmz-1", key.as_ref()).unwrap();
        let server = TunnelServer::new(name.parse().unwrap(), signer, Limits::default());
        let (state, seen) = watch::channel(Arc::new(StateView::default()));
        let obeying = server.clone();
        tokio::spawn(async move { obey(seen, &obeying).await });

        let (near, far) = tokio::io::duplex(64 * 1024);
        let (connector, own) = (leaf("spiffe://sluice.test/tenant/acme/connector/dc-1"), leaf(name));
        let arrived = Arrived::over_tcp(far, connector, own);
        let tunnel = tokio::spawn(async move { server.serve_tunnel(arrived).await });
        let mut agent = Connection::over_tcp(near, End::Agent);
        let mut line = agent.opener().open().await.unwrap();

        let mut view = StateView::default();
        let revoked = [("node/dc-1".to_owned(), serde_json::json!({ "revoked": true }))];
        view.apply(StateEvent::Snapshot { seq: 1, entries: revoked.into() }).unwrap();
        state.send(Arc::new(view)).unwrap();
        // The feed has been obeyed by now; only then does the agent speak.
        sleep(Duration::from_millis(100)).await;
        let hello = AgentHello { sid: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(), pair: ClassPair::default() };
        let speaking = async {
            write_frame(&mut line, &hello, PATIENCE).await.unwrap();
            std::future::pending::<()>().await;
        };
        let closed = async {
            tokio::select! {
                () = speaking => {}
                _ = agent.next() => {}
            }
        };
        timeout(PATIENCE, closed).await.expect("the tunnel is closed");
        assert!(timeout(PATIENCE, tunnel).await.unwrap().unwrap().is_err());
    }
}
