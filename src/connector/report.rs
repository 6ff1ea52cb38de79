//! What the connector tells control of its streams, and what it does when the state feed orders one's end or takes a
//! gateway's right to a tunnel.

use std::{future::pending, time::Duration};

use sluice_connector_agent::Agent;
use sluice_node_client::{CallError, Node};
use sluice_node_identity::{Kill, StateView, StreamsHeard, kill_prefix};
use tokio::time::sleep;

/// Least time between two reports: streams that come and go must not make us call control as often.
const FLOOR: Duration = Duration::from_secs(1);
/// Longest time between two, whatever control says; also after a failure.
const SELDOM: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub(super) async fn keep(node: &Node, agent: &Agent) {
    tokio::join!(tell(node, agent), obey(node, agent));
}

async fn tell(node: &Node, agent: &Agent) {
    let (mut count, mut said) = (agent.stream_count(), false);
    loop {
        let streams = agent.streams();
        let told: Result<StreamsHeard, _> = node.post("/node/v1/streams", &streams).await;
        if let Err(CallError::Refused { message, .. }) = &told
            && !std::mem::replace(&mut said, true)
        {
            tracing::warn!("control takes no report of live streams: {message}");
        }
        said &= told.is_err();
        match told {
            // Nothing is what control believes when it hears nothing.
            Ok(_) if streams.total == 0 => {
                sleep(FLOOR).await;
                // The agent holds the sender: it cannot be gone.
                drop(count.wait_for(|count| *count > 0).await);
            }
            Ok(heard) => sleep(Duration::from_secs(heard.again_in).clamp(FLOOR, SELDOM)).await,
            Err(error) => {
                tracing::debug!("control does not know the live streams: {error}");
                sleep(SELDOM).await;
            }
        }
    }
}

/// Ends streams as ordered. An order counts whatever its end says: our clock may be wrong, and a stream's name is not
/// used twice.
async fn obey(node: &Node, agent: &Agent) {
    let prefix = kill_prefix(&node.name().id);
    let mut state = node.state();
    loop {
        let view = state.borrow_and_update().clone();
        agent.obey(&view);
        end_ordered(&view, &prefix, agent);
        if state.changed().await.is_err() {
            pending::<()>().await;
        }
    }
}

fn end_ordered(view: &StateView, prefix: &str, agent: &Agent) {
    let orders = view.under(prefix).filter_map(|(key, value)| Kill::read(key.strip_prefix(prefix)?, value));
    for (stream, _) in orders {
        if agent.kill(stream) {
            tracing::info!(%stream, "an administrator ends this stream");
        }
    }
}
