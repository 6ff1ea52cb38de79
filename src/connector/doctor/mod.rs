//! `sluice connector doctor`: looks at everything between this machine and a working tunnel, and says what is in the way.
//!
//! It changes nothing and may run beside the connector. It shows no certificate of its own, so that control takes it
//! for a stranger and nothing of the node's identity is used.

mod control;
mod gateways;
mod line;
mod own;
mod report;
mod targets;

use std::{io::Write, path::PathBuf, process::ExitCode, time::SystemTime};

use anyhow::Context;
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use sluice_connector_egress::Egress;
use sluice_connector_wire::{ConnectorDocument, GatewayEndpoint};
use sluice_node_client::Kept;
use sluice_node_identity::{Role, UnixTime};

use self::{
    control::Anchor,
    report::{Report, Step},
};
use crate::{
    config::{self, connector::ConnectorConfig},
    web_proxy,
};

/// Arguments of `sluice connector doctor`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The connector's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/connector.toml")]
    config: PathBuf,
    /// Print JSON instead of words
    #[arg(long)]
    json: bool,
}

/// Looks, and prints what it found. Success means that nothing is in the way.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if let Some((config, egress)) = prepare(&mut report, args) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("start the runtime")?.block_on(examine(&mut report, &config, &egress));
    }
    let text = if args.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { report.words() };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is closed")?;
    Ok(if report.well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads the configuration. The way out may need helper processes, which are started before there is a runtime.
fn prepare(report: &mut Report, args: &Args) -> Option<(ConnectorConfig, Egress)> {
    let read = config::load(&args.config).map_err(|error| error.to_string()).and_then(|config: ConnectorConfig| {
        config.agent().map_err(str::to_owned)?;
        config.dns().map_err(|error| error.to_string())?;
        let egress = web_proxy::setup(&config).and_then(|setup| web_proxy::egress(setup, &config.user));
        // For one question the helper process lives long enough.
        let (egress, _helper) = egress.map_err(|error| format!("{error:#}"))?;
        Ok((config, egress))
    });
    match read {
        Ok(read) => {
            report.add(Step::good("configuration", format!("{} reads", args.config.display())));
            // A module is loaded before there are threads.
            own::key(report, &read.0);
            Some(read)
        }
        Err(error) => {
            report.add(Step::bad("configuration", error, "docs/configuration.md lists every key"));
            None
        }
    }
}

async fn examine(report: &mut Report, config: &ConnectorConfig, egress: &Egress) {
    report.add(own::state_dir(&config.state_dir, config.token_paths()));
    report.add(own::running(config.status.listen).await);
    match sluice_node_client::kept(&config.state_dir) {
        Ok(kept) => joined(report, config, egress, &kept).await,
        Err(error) if config.state_dir.join("identity.json").exists() => {
            report.add(Step::bad("identity", format!("{error:#}"), "run this as root or as the connector's account"));
        }
        Err(_) => stranger(report, config, egress).await,
    }
}

/// Of a connector that has an identity.
async fn joined(report: &mut Report, config: &ConnectorConfig, egress: &Egress, kept: &Kept) {
    let now = UnixTime::from(SystemTime::now());
    if !report.add(own::identity(kept, now)) && kept.joined.role != Role::Connector {
        return;
    }
    let root = pem::parse(&kept.joined.root).map(|root| CertificateDer::from(root.into_contents()));
    let Ok(root) = root else {
        report.add(Step::bad("identity", "the kept root certificate is damaged", "join anew with a fresh code"));
        return;
    };
    control::look(report, config, egress, &kept.url, Anchor::Root(root.clone())).await;
    let (step, list) = own::list(config, now);
    report.add(step);
    let known = gateways::Known { config, egress, joined: &kept.joined, root: &root };
    known.look(report, &endpoints(kept)).await;
    match list {
        Some(list) => targets::look(report, config, &list.rules).await,
        None => drop(report.add(Step::skipped("targets", "there is no list that names any"))),
    }
}

fn endpoints(kept: &Kept) -> Vec<GatewayEndpoint> {
    let document = kept.document.as_ref().and_then(|kept| ConnectorDocument::deserialize(&kept.document).ok());
    document.map(|document| document.gateways).unwrap_or_default()
}

/// Of a connector that has yet to join.
async fn stranger(report: &mut Report, config: &ConnectorConfig, egress: &Egress) {
    let (step, plan) = own::join_plan(&config.control.settings(&config.state_dir));
    report.add(step);
    if let Some(plan) = plan {
        control::look(report, config, egress, &plan.url, Anchor::Pin(plan.root_pin)).await;
    }
    report.add(Step::skipped("list, gateways, targets", "known after joining"));
}
