//! Live streams, and a page that names one and ends it. Refreshes itself, without a script, until paused.

use askama::Template;
use axum::{
    Extension, Form,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use serde::Deserialize;
use sluice_node_identity::{BadName, LiveStream, NodeId, SiteId, StreamId, TenantId};

use super::{
    ConsoleState, CsrfForm, SignedIn, stale_form,
    tables::{failed, when},
};
use crate::{
    admin_api::{ApiError, StreamView, StreamsWanted, TellerView, kill_stream, look_at_stream, look_at_streams},
    pages,
};

/// Seconds between two looks.
const REFRESH: &str = "5";

/// What the form above the table asks for; its empty fields come as empty text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    connector: String,
    site: String,
    after: Option<String>,
    /// Whether the page stands still, for those who read slowly or walk through it by keyboard.
    paused: Option<String>,
}

impl Asked {
    fn wanted(&self) -> Result<StreamsWanted, BadName> {
        let given = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        Ok(StreamsWanted {
            connector: given(&self.connector).map(NodeId::try_from).transpose()?,
            site: given(&self.site).map(|site| site.parse()).transpose()?,
            after: self.after.clone(),
            limit: None,
        })
    }
}

#[derive(Template)]
#[template(path = "console/streams.html")]
struct StreamsPage {
    csrf: String,
    owner: bool,
    tenant: TenantId,
    connector: String,
    site: String,
    paused: bool,
    refresh: &'static str,
    at: String,
    streams: Vec<Row>,
    next: Option<String>,
    tellers: Vec<Teller>,
    /// Whether every connector has told.
    whole: bool,
}

/// What one connector told, and when.
struct Teller {
    teller: TellerView,
    told: Option<String>,
}

struct Row {
    stream: StreamView,
    since: String,
    up: String,
    down: String,
}

impl Row {
    fn of(stream: StreamView) -> Self {
        Self { since: when(stream.since), up: size(stream.up), down: size(stream.down), stream }
    }
}

/// Bytes for people: three digits and a binary unit.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let (mut scaled, mut unit) = (bytes, UNITS[0]);
    for next in UNITS.iter().skip(1) {
        if scaled < 1024 * 1024 {
            break;
        }
        (scaled, unit) = (scaled / 1024, next);
    }
    let tenths = scaled.saturating_mul(10) / 1024;
    format!("{}.{} {unit}", tenths / 10, tenths % 10)
}

/// `GET /t/{tenant}/streams`
pub(super) async fn streams(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path(tenant): Path<TenantId>,
    Query(asked): Query<Asked>,
) -> Response {
    let found = match asked.wanted().map_err(ApiError::from) {
        Ok(wanted) => look_at_streams(&state.admin, &person.caller, &tenant, &wanted).await,
        Err(error) => Err(error),
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return failed(&error),
    };
    let paused = asked.paused.is_some();
    let page = StreamsPage {
        csrf: person.csrf,
        owner: person.caller.tenant.is_none(),
        tenant,
        connector: asked.connector,
        site: asked.site,
        paused,
        refresh: REFRESH,
        at: when(state.admin.now()),
        streams: found.items.into_iter().map(Row::of).collect(),
        next: found.next,
        whole: found.connectors.iter().all(|one| one.told.is_some()),
        tellers: found.connectors.into_iter().map(|teller| Teller { told: teller.told.map(when), teller }).collect(),
    };
    let mut response = pages::page(StatusCode::OK, &page);
    if !paused {
        response.headers_mut().insert(header::REFRESH, HeaderValue::from_static(REFRESH));
    }
    response
}

/// What the list showed when somebody chose a stream, to be shown again afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Back {
    connector: String,
    site: String,
    paused: Option<String>,
}

impl Back {
    /// The query of the list. What is no name asked for nothing.
    fn query(&self) -> String {
        let connector = self.connector.parse::<NodeId>().map_or(String::new(), |id| id.to_string());
        let site = self.site.parse::<SiteId>().map_or(String::new(), |id| id.to_string());
        let paused = if self.paused.is_some() { "&paused=1" } else { "" };
        format!("connector={connector}&site={site}{paused}")
    }
}

#[derive(Template)]
#[template(path = "console/kill.html")]
struct KillPage {
    csrf: String,
    owner: bool,
    tenant: TenantId,
    name: String,
    stream: Option<LiveStream>,
    since: String,
    back: Back,
    query: String,
}

/// `GET /t/{tenant}/streams/{connector}/{id}/kill`: stands still and names the stream, so that nobody ends another one.
pub(super) async fn confirm(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path((tenant, connector, id)): Path<(TenantId, NodeId, StreamId)>,
    Query(back): Query<Back>,
) -> Response {
    let stream = match look_at_stream(&state.admin, &person.caller, &tenant, &connector, id) {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let page = KillPage {
        csrf: person.csrf,
        owner: person.caller.tenant.is_none(),
        tenant,
        name: format!("{connector}/{id}"),
        since: stream.as_ref().map(|stream| when(stream.since)).unwrap_or_default(),
        stream,
        query: back.query(),
        back,
    };
    pages::page(StatusCode::OK, &page)
}

/// Body of the button.
#[derive(Deserialize)]
pub(super) struct KillForm {
    csrf: String,
    #[serde(flatten)]
    back: Back,
}

/// `POST /t/{tenant}/streams/{connector}/{id}/kill`
pub(super) async fn kill(
    State(state): State<ConsoleState>,
    Extension(person): Extension<SignedIn>,
    Path((tenant, connector, id)): Path<(TenantId, NodeId, StreamId)>,
    headers: HeaderMap,
    Form(KillForm { csrf, back }): Form<KillForm>,
) -> Response {
    if !person.ours(&headers, &CsrfForm { csrf }) {
        return stale_form();
    }
    match kill_stream(&state.admin, &person.caller, &tenant, &connector, id).await {
        Ok(()) => Redirect::to(&format!("/t/{tenant}/streams?{}", back.query())).into_response(),
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_short_and_grow() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_048_576, "1.0 MiB"),
            (5_905_580_032, "5.5 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
