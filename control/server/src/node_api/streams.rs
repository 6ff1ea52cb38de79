//! What connectors tell of their live streams.

use axum::{Json, extract::State};
use sluice_control_domain::{ChangeSet, StateAudience, StateChange};
use sluice_node_identity::{LiveStream, LiveStreams, Role, STREAMS_TOLD, StreamsHeard, kill_key};

use super::{NodeApi, body::Body, peer::Node, refusal::Refusal};

/// Longest report, bytes: a thousand streams fit.
const MAX_REPORT: usize = 2 * 1024 * 1024;

pub(super) async fn tell(
    State(api): State<NodeApi>,
    node: Node,
    Body(LiveStreams { total, streams }): Body<LiveStreams, MAX_REPORT>,
) -> Result<Json<StreamsHeard>, Refusal> {
    node.must_be(Role::Connector)?;
    if streams.len() > STREAMS_TOLD {
        return Err(Refusal::invalid(format!("at most {STREAMS_TOLD} streams")));
    }
    let live = LiveStreams { total, streams: streams.into_iter().map(LiveStream::plain).collect() };
    let (heard, done) = api.parts.streams.tell((&node.tenant, &node.id), &node.site, live, api.now());
    if !done.is_empty() {
        // An order that was carried out must not stay in the feed for ever.
        let mut set = ChangeSet::of(&node.tenant);
        for stream in done {
            let (audience, key) = (StateAudience::Node(node.id.clone()), kill_key(&node.id, stream));
            set = set.state(StateChange { audience, key, value: None });
        }
        api.commit(Some(set)).await?;
    }
    Ok(Json(heard))
}
