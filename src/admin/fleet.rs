//! Nodes and hubs.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use sluice_control_server::admin_api::{AddHub, AddNode, ImportHubs};
use sluice_node_identity::{HubId, NodeId, Role, SiteId, TenantId};

use super::call::{Call, Show, read_data, read_text};

#[derive(Subcommand)]
pub(super) enum NodeDo {
    /// Add a node; prints its join code alone on standard output (good for 15 minutes, once)
    Add {
        id: NodeId,
        #[arg(long)]
        tenant: TenantId,
        /// gateway, edge or connector
        #[arg(long)]
        role: Role,
        /// Where it stands
        #[arg(long)]
        site: SiteId,
        /// Gateways: host name under which connectors, edges and control reach it
        #[arg(long)]
        host: Option<String>,
        /// Gateways: address of that host; may be repeated
        #[arg(long = "ip", alias = "address-of", value_name = "IP")]
        addresses: Vec<IpAddr>,
        /// Write the code to this new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        save: Option<PathBuf>,
    },
    /// List nodes
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Give a node a new join code
    Code {
        id: NodeId,
        #[arg(long)]
        tenant: TenantId,
    },
    /// Revoke a node's key, everywhere within a second
    Revoke {
        id: NodeId,
        #[arg(long)]
        tenant: TenantId,
    },
}

impl NodeDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { id, tenant, role, site, host, addresses, save } => {
                let body = AddNode { id, role, site, host, addresses };
                Ok(Call { save, ..Call::post(format!("/tenants/{tenant}/nodes"), &body, Show::Alone("code"))? })
            }
            Self::List { tenant, limit } => {
                let columns = &["id", "role", "site", "state", "alarmed", "generation", "config", "refused", "host"];
                Ok(Call::list(format!("/tenants/{tenant}/nodes"), columns).up_to(limit))
            }
            Self::Code { id, tenant } => {
                Ok(Call::new(Method::POST, format!("/tenants/{tenant}/nodes/{id}/code"), Show::Alone("code")))
            }
            Self::Revoke { id, tenant } => {
                let done = Show::Done(format!("node {id} revoked"));
                Ok(Call::new(Method::POST, format!("/tenants/{tenant}/nodes/{id}/revoke"), done))
            }
        }
    }
}

#[derive(Subcommand)]
pub(super) enum HubDo {
    /// Add a hub; prints its enrolment code alone on standard output (the hub's EST password)
    Add {
        id: HubId,
        #[arg(long)]
        tenant: TenantId,
        /// Where it belongs
        #[arg(long)]
        site: SiteId,
        /// Maker's serial number
        #[arg(long)]
        serial: Option<String>,
        /// Days the code is good for
        #[arg(long, default_value_t = 30)]
        days: u32,
    },
    /// Add a list of hubs, all or none; prints each with its code
    Import {
        #[arg(long)]
        tenant: TenantId,
        /// CSV (*.csv: id;site;serial, or with commas; a first line "id;…" is skipped), else a JSON array of
        /// {"id", "site", "serial"}
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
    /// List hubs
    List {
        #[arg(long)]
        tenant: TenantId,
        /// At most so many; all without it
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Give a hub a new enrolment code
    Code {
        id: HubId,
        #[arg(long)]
        tenant: TenantId,
    },
    /// Revoke a hub; its traffic stops within a second
    Revoke {
        id: HubId,
        #[arg(long)]
        tenant: TenantId,
    },
}

impl HubDo {
    pub(super) fn call(self) -> anyhow::Result<Call> {
        match self {
            Self::Add { id, tenant, site, serial, days } => {
                let body = AddHub { id, site, serial, days: Some(days) };
                Call::post(format!("/tenants/{tenant}/hubs"), &body, Show::Alone("code"))
            }
            Self::Import { tenant, file } => {
                let body = ImportHubs { hubs: hubs_in(&file)? };
                Call::post(format!("/tenants/{tenant}/hubs/import"), &body, Show::Codes)
            }
            Self::List { tenant, limit } => {
                let columns = &["id", "site", "serial", "state", "seen", "address", "mac"];
                Ok(Call::list(format!("/tenants/{tenant}/hubs"), columns).up_to(limit))
            }
            Self::Code { id, tenant } => {
                Ok(Call::new(Method::POST, format!("/tenants/{tenant}/hubs/{id}/code"), Show::Alone("code")))
            }
            Self::Revoke { id, tenant } => {
                let done = Show::Done(format!("hub {id} revoked"));
                Ok(Call::new(Method::POST, format!("/tenants/{tenant}/hubs/{id}/revoke"), done))
            }
        }
    }
}

fn hubs_in(file: &Path) -> anyhow::Result<Vec<AddHub>> {
    if file.extension().is_none_or(|end| end != "csv") {
        return serde_json::from_value(read_data(file)?)
            .with_context(|| format!("{} is no list of hubs", file.display()));
    }
    let text = read_text(file)?;
    let rows = text.lines().enumerate().map(|(index, line)| (index.saturating_add(1), line.trim()));
    let heading = |number: usize, line: &str| number == 1 && line.split([';', ',']).next() == Some("id");
    rows.filter(|(number, line)| !line.is_empty() && !heading(*number, line))
        .map(|(number, line)| row(line).with_context(|| format!("{} line {number}: \"{line}\"", file.display())))
        .collect()
}

pub(super) fn row(line: &str) -> anyhow::Result<AddHub> {
    anyhow::ensure!(!line.contains('"'), "quoted cells are not understood; write id;site;serial");
    let cells: Vec<&str> = line.split([';', ',']).map(str::trim).collect();
    let (id, site, serial) = match cells.as_slice() {
        [id, site] => (id, site, None),
        [id, site, serial] => (id, site, Some(serial.to_string()).filter(|serial| !serial.is_empty())),
        _ => anyhow::bail!("a line is id;site or id;site;serial"),
    };
    Ok(AddHub { id: id.parse()?, site: site.parse()?, serial, days: None })
}
