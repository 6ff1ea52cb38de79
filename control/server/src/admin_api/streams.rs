//! Live streams of a tenant's connectors, and ending one.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};
use sluice_control_domain::{ChangeSet, Commit, NodeRecord, StateAudience, StateChange, StatePage};
use sluice_node_identity::{
    KILL_SECONDS, Kill, LiveStream, NodeId, Role, StreamId, TenantId, UnixTime, kill_key, kill_prefix,
};

use super::{
    AdminState, ApiError, Caller,
    extract::{Path, Query},
    model::{StreamView, StreamsView, StreamsWanted, TellerView},
};
use crate::{fleet, streams::Found};

/// List the streams that run now.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/streams", tag = "streams",
    params(("tenant" = String, Path), StreamsWanted),
    responses((status = 200, body = StreamsView)), security(("token" = [])))]
pub(super) async fn list(
    State(state): State<AdminState>,
    caller: Caller,
    Path(tenant): Path<TenantId>,
    Query(wanted): Query<StreamsWanted>,
) -> Result<Json<StreamsView>, ApiError> {
    Ok(Json(look(&state, &caller, &tenant, &wanted).await?))
}

/// What [`list`] gives; the console's page shows the same.
pub(crate) async fn look(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    wanted: &StreamsWanted,
) -> Result<StreamsView, ApiError> {
    caller.may_touch(tenant)?;
    let after = wanted.after.as_deref().map(position).transpose()?;
    let limit = usize::try_from(wanted.limit.unwrap_or(100).clamp(1, 1000)).unwrap_or(1000);
    let of = |connector: &NodeId, site: &_| {
        wanted.connector.as_ref().is_none_or(|only| only == connector)
            && wanted.site.as_ref().is_none_or(|only| only == site)
    };
    let now = state.now();
    let found = state.streams.look(tenant, of, after.as_ref(), limit, now);
    let next = found.last().filter(|_| found.len() >= limit);
    let next = next.map(|last| format!("{}/{}", last.connector, last.stream.id));
    let nodes: Vec<NodeRecord> = fleet::all(state.store.as_ref(), tenant).await.map_err(ApiError::internal)?;
    let living = |node: &NodeRecord| node.binding.as_ref().is_some_and(|binding| binding.lock.is_none());
    let connectors =
        nodes.iter().filter(|node| node.role == Role::Connector && living(node) && of(&node.id, &node.site));
    let connectors = connectors.map(|node| teller(node, state.streams.told(tenant, &node.id, now))).collect();
    Ok(StreamsView { items: found.into_iter().map(StreamView::from).collect(), next, connectors })
}

fn teller(node: &NodeRecord, told: Option<(UnixTime, u32, usize)>) -> TellerView {
    let words = match told {
        None => Some(
            "has not told what runs there: it is not connected, or control was started a moment ago, or its release \
             cannot tell"
                .to_owned(),
        ),
        Some((_, total, listed)) => usize::try_from(total)
            .is_ok_and(|total| total > listed)
            .then(|| format!("runs {total} streams; the newest {listed} are listed")),
    };
    let (connector, site) = (node.id.clone(), node.site.clone());
    TellerView { connector, site, total: told.map(|told| told.1), told: told.map(|told| told.0), words }
}

/// Reads `<connector>/<id>`.
fn position(text: &str) -> Result<(NodeId, StreamId), ApiError> {
    let (connector, id) = text.split_once('/').ok_or_else(|| ApiError::invalid("after is <connector>/<stream>"))?;
    Ok((connector.parse()?, id.parse().map_err(|error| ApiError::invalid(format!("{error}")))?))
}

/// End a stream: its connector breaks both sides off within a second.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/streams/{connector}/{id}", tag = "streams",
    params(("tenant" = String, Path), ("connector" = String, Path), ("id" = String, Path)),
    responses((status = 202, description = "Ordered")), security(("token" = [])))]
pub(super) async fn kill_one(
    State(state): State<AdminState>,
    caller: Caller,
    Path((tenant, connector, id)): Path<(TenantId, NodeId, StreamId)>,
) -> Result<StatusCode, ApiError> {
    kill(&state, &caller, &tenant, &connector, id).await.map(|()| StatusCode::ACCEPTED)
}

/// The stream, for whoever is about to end it; `None` when its connector has told of too many to say.
///
/// # Errors
/// As [`kill`].
pub(crate) fn look_at_one(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    connector: &NodeId,
    id: StreamId,
) -> Result<Option<LiveStream>, ApiError> {
    caller.may_touch(tenant)?;
    match state.streams.find(tenant, connector, id, state.now()) {
        Found::Yes(stream) => Ok(Some(*stream)),
        Found::Perhaps => Ok(None),
        Found::No => Err(ApiError::ended()),
    }
}

/// What [`kill_one`] does; the console's button does the same.
///
/// # Errors
/// Not found, for a caller of another tenant and for a stream that has ended.
pub async fn kill(
    state: &AdminState,
    caller: &Caller,
    tenant: &TenantId,
    connector: &NodeId,
    id: StreamId,
) -> Result<(), ApiError> {
    caller.may_touch(tenant)?;
    let now = state.now();
    let node = state.one::<NodeRecord>(tenant.as_str(), connector.as_str()).await?.body;
    if node.role != Role::Connector {
        return Err(ApiError::not_found());
    }
    let detail = match state.streams.find(tenant, connector, id, now) {
        Found::Yes(stream) => json!({
            "caller": stream.caller, "subject": stream.subject, "resource": stream.resource, "target": stream.target,
            "rule": stream.rule, "up": stream.up, "down": stream.down,
        }),
        Found::Perhaps => json!({}),
        Found::No => return Err(ApiError::ended()),
    };
    if !state.streams.ordered(tenant, connector, id, now) {
        return Err(ApiError::busy("too many streams of this connector are being ended; try again in a minute"));
    }
    let audience = StateAudience::Node(connector.clone());
    let value = serde_json::to_value(Kill { until: now.plus(KILL_SECONDS) }).map_err(ApiError::internal)?;
    let order = StateChange { audience: audience.clone(), key: kill_key(connector, id), value: Some(value) };
    let audit = caller.did(now, "stream.kill", format!("stream/{connector}/{id}"), detail);
    let mut set = ChangeSet::of(tenant).state(order).audit(audit);
    for key in outdated(state, tenant, connector, now).await? {
        set = set.state(StateChange { audience: audience.clone(), key, value: None });
    }
    match state.store.commit(set).await? {
        Commit::Done => Ok(()),
        Commit::Conflict => Err(ApiError::conflict()),
    }
}

/// Orders to this connector that nobody took back, because control was restarted meanwhile.
async fn outdated(
    state: &AdminState,
    tenant: &TenantId,
    connector: &NodeId,
    now: UnixTime,
) -> Result<Vec<String>, ApiError> {
    let audience = [StateAudience::Node(connector.clone())];
    let StatePage::Snapshot { entries, .. } = state.store.state(tenant, &audience, None).await? else {
        return Ok(Vec::new());
    };
    let prefix = kill_prefix(connector);
    let over = |key: &str, value: &Value| {
        key.strip_prefix(&prefix).is_some_and(|id| Kill::read(id, value).is_none_or(|(_, kill)| kill.until < now))
    };
    Ok(entries.into_iter().filter(|(key, value)| over(key, value)).map(|(key, _)| key).collect())
}
