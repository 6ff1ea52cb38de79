//! Live streams.

use serde::{Deserialize, Serialize};
use sluice_node_identity::{NodeId, ResourceId, SiteId, StreamId, UnixTime};
use utoipa::{IntoParams, ToSchema};

use crate::streams::Running;

/// Which streams, and which page of them.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamsWanted {
    /// Of this connector only.
    #[param(value_type = Option<String>)]
    pub connector: Option<NodeId>,
    /// Of connectors at this site only.
    #[param(value_type = Option<String>)]
    pub site: Option<SiteId>,
    /// `next` of the page before.
    pub after: Option<String>,
    /// At most 1,000; 100 unless told otherwise.
    pub limit: Option<u32>,
}

/// A page of the streams that run, and how far it can be relied on.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamsView {
    /// The streams, by connector.
    pub items: Vec<StreamView>,
    /// `after` of the next page, when there may be one.
    pub next: Option<String>,
    /// Every connector that was asked about, on every page.
    pub connectors: Vec<TellerView>,
}

/// What one connector told of its streams.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TellerView {
    /// Who.
    #[schema(value_type = String)]
    pub connector: NodeId,
    /// Where.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// How many run; absent while it has not told.
    pub total: Option<u32>,
    /// When it told so.
    #[schema(value_type = Option<u64>)]
    pub told: Option<UnixTime>,
    /// Present when not all that runs there is listed: why.
    pub words: Option<String>,
}

/// A stream that runs now.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StreamView {
    /// `<connector>/<id>`, as `sluice admin stream kill` takes it.
    pub stream: String,
    /// Who carries it.
    #[schema(value_type = String)]
    pub connector: NodeId,
    /// Where.
    #[schema(value_type = String)]
    pub site: SiteId,
    /// Its name at this connector.
    #[schema(value_type = String)]
    pub id: StreamId,
    /// When it was opened.
    #[schema(value_type = u64)]
    pub since: UnixTime,
    /// `direct`, or `sealed` when control calls through TLS that the gateway cannot read.
    pub kind: String,
    /// Who asked: `control` or a gateway.
    pub caller: String,
    /// On whose behalf.
    pub subject: String,
    /// What was asked for.
    #[schema(value_type = String)]
    pub resource: ResourceId,
    /// Protocol, host and port that were asked for.
    pub target: String,
    /// Address and port that were dialled.
    pub dialled: String,
    /// Rule of the allow-list that let it pass.
    pub rule: String,
    /// Gateway whose tunnel carries it.
    #[schema(value_type = String)]
    pub gateway: NodeId,
    /// `tcp` or `quic`.
    pub transport: String,
    /// Pair of traffic classes.
    pub pair: String,
    /// Bytes to the target.
    pub up: u64,
    /// Bytes from the target.
    pub down: u64,
    /// When the connector told so; it tells every 10 s, and every second while somebody looks.
    #[schema(value_type = u64)]
    pub told: UnixTime,
}

impl From<Running> for StreamView {
    fn from(running: Running) -> Self {
        let Running { connector, site, stream, told } = running;
        Self {
            stream: format!("{connector}/{}", stream.id),
            connector,
            site,
            id: stream.id,
            since: stream.since,
            kind: if stream.sealed { "sealed" } else { "direct" }.to_owned(),
            caller: stream.caller,
            subject: stream.subject,
            resource: stream.resource,
            target: stream.target,
            dialled: stream.dialled,
            rule: stream.rule,
            gateway: stream.gateway,
            transport: stream.transport,
            pair: stream.pair,
            up: stream.up,
            down: stream.down,
            told,
        }
    }
}
