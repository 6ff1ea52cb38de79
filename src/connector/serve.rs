//! The role: the node client and the agent, wired together.

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use sluice_connector_agent::{Agent, Contact, DnsSettings, Limits, Pieces, serve_status};
use sluice_connector_wire::{ALPN_TUNNEL, ConnectorDocument};
use sluice_node_client::{Judge, Node, Ready};
use sluice_node_identity::{ConfigEnvelope, Role};
use tokio::{net::TcpListener, sync::watch};

use super::report;
use crate::{
    config::{self, ConfigError, RoleArgs, connector::ConnectorConfig, status::StatusListen},
    node,
    web_proxy::{self, ToControl, ToGateways},
};

/// Runs it.
pub(super) fn run(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let config: ConnectorConfig = config::load(&args.config)?;
    let limits = config.agent().map_err(|error| ConfigError::invalid(&args.config, error))?;
    let dns = config.dns().map_err(|error| ConfigError::invalid(&args.config, error))?;
    let setup = web_proxy::setup(&config).map_err(|error| ConfigError::invalid(&args.config, format!("{error:#}")))?;
    if args.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let status = status(config.status.listen)?;
    let (egress, helper) = web_proxy::egress(setup, &config.user)?;
    let ready = Ready::new(config.settings()?)?.through(Arc::new(ToControl(egress.clone())));
    let way_out = Arc::new(ToGateways { egress, direct_udp: config.web_proxy.direct_udp });
    node::confine_with("connector", &config.state_dir, &config.user, config.token_paths())?;
    let own = Own {
        state_dir: config.state_dir,
        gateway_networks: config.gateway_networks,
        forbidden_networks: config.forbidden_networks,
        dns,
        limits,
        max_stale: Duration::from_secs(config.control.max_stale_seconds),
    };
    let serving = serve(ready, own, status, way_out);
    node::runtime()?.block_on(async {
        tokio::select! {
            served = serving => served,
            lost = web_proxy::helper_lost(helper) => Err(lost),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What only this machine's owner says.
struct Own {
    state_dir: PathBuf,
    gateway_networks: Vec<IpNetwork>,
    forbidden_networks: Vec<IpNetwork>,
    dns: DnsSettings,
    limits: Limits,
    max_stale: Duration,
}

async fn serve(
    ready: Ready,
    own: Own,
    status: Option<std::net::TcpListener>,
    way_out: Arc<ToGateways>,
) -> anyhow::Result<()> {
    let stop = node::shutdown()?;
    let (about, seen) = watch::channel(None);
    if let Some(listener) = status {
        tokio::spawn(serve_status(TcpListener::from_std(listener)?, seen, stop.clone()));
    }
    let Some(node) = node::start(ready, Role::Connector, &stop).await? else { return Ok(()) };
    let max_stale = own.max_stale;
    let agent = Agent::open_through(pieces(&node, own), way_out)?;
    let judge: Judge = {
        let agent = agent.clone();
        Arc::new(move |envelope| apply(&agent, envelope))
    };
    let told = node.clone();
    let contact = move || Contact { heard: told.silent_since(), refused: told.refusal(), stale: told.stale(max_stale) };
    about.send_replace(Some((agent.clone(), Arc::new(contact))));
    // While the last streams end, too: a lock, an order to end one, or a list must reach them.
    let (_on, on) = watch::channel(false);
    tokio::select! {
        () = agent.run(stop) => {}
        () = node.run_judging(on, judge) => {}
        () = report::keep(&node, &agent) => {}
    }
    Ok(())
}

/// The status page's socket. A busy port of its own choice ends the start; a busy default does not, for a second
/// connector on one machine is no mistake.
fn status(listen: StatusListen) -> anyhow::Result<Option<std::net::TcpListener>> {
    let StatusListen::At(address) = listen else { return Ok(None) };
    match std::net::TcpListener::bind(address) {
        Ok(listener) => {
            listener.set_nonblocking(true)?;
            tracing::info!(address = %listener.local_addr()?, "status page");
            Ok(Some(listener))
        }
        Err(error) if listen == StatusListen::default() => {
            tracing::warn!(%address, %error, "no status page; set status.listen to a free loopback port, or to \"off\"");
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("status.listen: cannot listen on {address}")),
    }
}

fn pieces(node: &Node, own: Own) -> Pieces {
    let Own { state_dir, gateway_networks, forbidden_networks, dns, limits, max_stale } = own;
    let (client, server, contact) = (node.clone(), node.clone(), node.clone());
    Pieces {
        name: node::spiffe(node.name()),
        policy_thumbprint: node.name().policy_thumbprint.clone(),
        node_root: node.root_der(),
        client: Arc::new(move || client.client_config(&[ALPN_TUNNEL]).context("the node's TLS cannot be set up")),
        server: Arc::new(move || server.server_config_with(&[]).context("the node's TLS cannot be set up")),
        state_dir,
        gateway_networks,
        forbidden_networks,
        dns,
        stale: Arc::new(move || contact.stale(max_stale)),
        limits,
    }
}

/// Takes a document into use, all or nothing.
fn apply(agent: &Agent, envelope: &ConfigEnvelope) -> Result<(), String> {
    let document = ConnectorDocument::deserialize(&envelope.document).map_err(|error| error.to_string())?;
    agent.apply(&document).map_err(|error| error.to_string())
}
