//! The two feeds: the compiled document by long poll, the keyed state as server-sent events.

use std::{collections::VecDeque, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use sluice_control_domain::{
    Commit, StateAudience, StatePage,
    compile::{self, DocumentRecord},
};
use sluice_node_identity::{ConfigEnvelope, Role, StateEvent};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    NodeApi, TRIES, busy,
    peer::{Node, is_still_good},
    refusal::Refusal,
};

use crate::connection::stopped;

/// A poll that finds nothing new is answered after this.
const POLL: Duration = Duration::from_secs(25);
/// A silent state feed sends a beat this often.
const BEAT: Duration = Duration::from_secs(5);
/// Commits often come in bursts; compile once for all of them.
const BURST: Duration = Duration::from_millis(20);

#[derive(Deserialize)]
pub(super) struct ConfigQuery {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    schemas: Option<String>,
}

pub(super) async fn config(
    State(api): State<NodeApi>,
    node: Node,
    Query(query): Query<ConfigQuery>,
) -> Result<Response, Refusal> {
    let until = Instant::now() + POLL;
    let (mut seen, mut stop) = (0, api.stop.clone());
    loop {
        let newest = tokio::select! {
            newest = timeout_at(until, api.store().changed(seen)) => newest,
            () = stopped(&mut stop) => return Ok(StatusCode::NO_CONTENT.into_response()),
        };
        let Ok(newest) = newest else { return Ok(StatusCode::NO_CONTENT.into_response()) };
        seen = newest;
        let envelope = current(&api, &node, query.after, seen).await?;
        if let Some(envelope) = envelope.filter(|envelope| envelope.version > query.after) {
            return deliver(&api, &node, envelope, query.schemas.as_deref());
        }
        sleep(BURST).await;
    }
}

/// The node's document as it should be now; a new version is made (and committed) when it changed. `None` for a
/// connector whose first list waits for the customer's signature.
async fn current(api: &NodeApi, node: &Node, after: u64, commit: u64) -> Result<Option<ConfigEnvelope>, Refusal> {
    for _ in 0..TRIES {
        let record = node.record(api).await?;
        if record.body.binding.as_ref().is_none_or(|binding| binding.lock.is_some()) {
            // Locked while it waited.
            return Err(Refusal::stranger());
        }
        let fleet = api.fleets.at(api.store(), &node.tenant, commit).await?;
        let before = api.one::<DocumentRecord>(node.tenant.as_str(), node.id.as_str()).await?;
        let now = api.now();
        let content = compile::content(&fleet, &record.body, &api.around, now);
        let customer = fleet.tenant.policy.customer;
        // Connectors' lists alone are signed: others must not suffer when the key is gone.
        let signs = node.role == Role::Connector && !customer;
        let policy = if signs { Some(api.parts.keys.policy_key(&node.tenant)?) } else { None };
        let revised = compile::revise(&record, before.as_ref(), content, after, policy.as_ref(), now);
        match (revised.map_err(Refusal::failed)?, before) {
            (None, Some(before)) => return Ok(Some(before.body.envelope)),
            (None, None) if customer => return Ok(None),
            (None, None) => return Err(Refusal::failed("no document was compiled")),
            (Some((set, made)), _) => {
                if api.commit(Some(set)).await? == Commit::Done {
                    tracing::info!(node = %node.id, version = made.envelope.version, "compiled a new document");
                    return Ok(Some(made.envelope));
                }
            }
        }
    }
    Err(busy())
}

fn deliver(
    api: &NodeApi,
    node: &Node,
    mut envelope: ConfigEnvelope,
    schemas: Option<&str>,
) -> Result<Response, Refusal> {
    let reads = |list: &str| list.split(',').any(|schema| schema.trim().parse() == Ok(envelope.schema));
    if schemas.is_some_and(|list| !reads(list)) {
        let message = format!("this control writes schema {}; update the node", envelope.schema);
        return Err(Refusal::new(StatusCode::NOT_ACCEPTABLE, "schema", message));
    }
    if node.role == Role::Gateway {
        compile::with_session_key(&mut envelope, api.parts.keys.session_key(&node.tenant, &node.id)?);
    }
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(envelope)).into_response())
}

#[derive(Deserialize)]
pub(super) struct StateQuery {
    #[serde(default)]
    after: u64,
}

pub(super) async fn state(
    State(api): State<NodeApi>,
    node: Node,
    Query(query): Query<StateQuery>,
) -> Result<Response, Refusal> {
    let mut audiences = vec![StateAudience::Tenant, StateAudience::Node(node.id.clone())];
    if node.role == Role::Edge {
        audiences.push(StateAudience::Site(node.site.clone()));
    }
    let at = (query.after > 0).then_some(query.after);
    let feed = Feed { api, node, audiences, at, seen: 0, ready: VecDeque::new() };
    let body = Body::from_stream(futures::stream::unfold(feed, |mut feed| async {
        let next = feed.next().await?;
        Some((Ok::<_, std::convert::Infallible>(next), feed))
    }));
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, body).into_response())
}

/// One node's state feed. A new read happens only when what was read before has been sent: a slow node holds one page.
struct Feed {
    api: NodeApi,
    node: Node,
    audiences: Vec<StateAudience>,
    /// Number of the last change sent; `None` before the first snapshot.
    at: Option<u64>,
    /// Newest commit that was looked at.
    seen: u64,
    ready: VecDeque<Bytes>,
}

impl Feed {
    /// The next message; `None` ends the feed: shutdown, a lost right, or a failing store. The node comes again.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        let first = self.seen == 0;
        let mut stop = self.api.stop.clone();
        if *stop.borrow() {
            return None;
        }
        loop {
            tokio::select! {
                newest = self.api.store().changed(self.seen) => self.seen = newest,
                () = sleep(BEAT) => return event(&StateEvent::Beat { seq: self.at.unwrap_or(0) }),
                () = stopped(&mut stop) => return None,
            }
            self.read().await?;
            if self.ready.is_empty() && first {
                self.ready.extend(event(&StateEvent::Beat { seq: self.at.unwrap_or(0) }));
            }
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
        }
    }

    async fn read(&mut self) -> Option<()> {
        // A node that was revoked, locked or renewed since it connected hears nothing more.
        is_still_good(&self.api, &self.node).await.ok()?.then_some(())?;
        let page = self.api.store().state(&self.node.tenant, &self.audiences, self.at).await;
        match page.map_err(|error| tracing::error!(%error, "a state feed ends")).ok()? {
            StatePage::Snapshot { seq, entries } => {
                self.at = Some(seq);
                self.ready.extend(event(&StateEvent::Snapshot { seq, entries: entries.into_iter().collect() }));
            }
            StatePage::Changes(changes) => {
                for (seq, key, value) in changes {
                    let prev = self.at.replace(seq).unwrap_or(0);
                    self.ready.extend(event(&StateEvent::Delta { prev, seq, key, value }));
                }
            }
        }
        Some(())
    }
}

fn event(event: &StateEvent) -> Option<Bytes> {
    let json = serde_json::to_string(event).map_err(|error| tracing::error!(%error, "unwritable state event")).ok()?;
    Some(Bytes::from(format!("data: {json}\n\n")))
}
