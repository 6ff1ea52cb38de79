//! Live streams.

use clap::Subcommand;
use hyper::Method;
use sluice_node_identity::{BadName, BadStreamId, NodeId, SiteId, StreamId, TenantId};
use thiserror::Error;

use super::call::{Call, Show};

/// Arguments of `sluice admin streams`.
#[derive(clap::Args)]
pub(super) struct Streams {
    #[arg(long)]
    tenant: TenantId,
    /// Of this connector only
    #[arg(long)]
    connector: Option<NodeId>,
    /// Of connectors at this site only
    #[arg(long)]
    site: Option<SiteId>,
    /// At most so many; all without it
    #[arg(long)]
    limit: Option<usize>,
}

impl Streams {
    pub(super) fn call(self) -> Call {
        let columns =
            &["stream", "subject", "caller", "resource", "target", "rule", "gateway", "transport", "up", "down"];
        let only = [("connector", self.connector.map(String::from)), ("site", self.site.map(String::from))];
        let query: Vec<String> =
            only.into_iter().filter_map(|(name, only)| Some(format!("{name}={}", only?))).collect();
        let path = format!("/tenants/{}/streams", self.tenant);
        let path = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
        Call::list(path, columns).up_to(self.limit)
    }
}

#[derive(Subcommand)]
pub(super) enum StreamDo {
    /// End a stream; its connector breaks both sides off within a second
    Kill {
        /// As `sluice admin streams` shows it: <connector>/<id>
        #[arg(value_name = "CONNECTOR/ID", value_parser = read)]
        stream: (NodeId, StreamId),
        #[arg(long)]
        tenant: TenantId,
    },
}

impl StreamDo {
    pub(super) fn call(self) -> Call {
        let Self::Kill { stream: (connector, id), tenant } = self;
        let done = Show::Done(format!("stream {connector}/{id} is being ended"));
        Call::new(Method::DELETE, format!("/tenants/{tenant}/streams/{connector}/{id}"), done)
    }
}

/// Not `<connector>/<id>`.
#[derive(Debug, Error)]
enum BadStream {
    #[error("a stream is <connector>/<id>, as `sluice admin streams` shows it")]
    Shape,
    #[error(transparent)]
    Connector(#[from] BadName),
    #[error(transparent)]
    Id(#[from] BadStreamId),
}

fn read(text: &str) -> Result<(NodeId, StreamId), BadStream> {
    let (connector, id) = text.split_once('/').ok_or(BadStream::Shape)?;
    Ok((connector.parse()?, id.parse()?))
}
