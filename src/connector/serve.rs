//! The role: the node client and the agent, wired together.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::Context;
use ipnetwork::IpNetwork;
use serde::Deserialize;
use sluice_connector_agent::{Agent, DnsSettings, Limits, Pieces};
use sluice_connector_wire::{ALPN_TUNNEL, ConnectorDocument};
use sluice_node_client::{Judge, Node, Ready};
use sluice_node_identity::{ConfigEnvelope, Role};

use crate::{
    config::{self, ConfigError, RoleArgs, connector::ConnectorConfig},
    node,
};

/// Runs it.
pub(super) fn run(args: &RoleArgs) -> anyhow::Result<ExitCode> {
    let config: ConnectorConfig = config::load(&args.config)?;
    let limits = config.agent().map_err(|error| ConfigError::invalid(&args.config, error))?;
    let dns = config.dns().map_err(|error| ConfigError::invalid(&args.config, error))?;
    if args.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ready = Ready::new(config.control.settings(&config.state_dir))?;
    node::confine("connector", &config.state_dir, &config.user)?;
    node::runtime()?.block_on(serve(ready, config.state_dir, config.gateway_networks, dns, limits))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    ready: Ready,
    state_dir: PathBuf,
    gateway_networks: Vec<IpNetwork>,
    dns: DnsSettings,
    limits: Limits,
) -> anyhow::Result<()> {
    let stop = node::shutdown()?;
    let Some(node) = node::start(ready, Role::Connector, &stop).await? else { return Ok(()) };
    let agent = Agent::open(pieces(&node, state_dir, gateway_networks, dns, limits))?;
    let judge: Judge = {
        let agent = agent.clone();
        Arc::new(move |envelope| apply(&agent, envelope))
    };
    tokio::join!(node.run_judging(stop.clone(), judge), agent.run(stop));
    Ok(())
}

fn pieces(
    node: &Node,
    state_dir: PathBuf,
    gateway_networks: Vec<IpNetwork>,
    dns: DnsSettings,
    limits: Limits,
) -> Pieces {
    let (client, server) = (node.clone(), node.clone());
    Pieces {
        name: node::spiffe(node.name()),
        policy_thumbprint: node.name().policy_thumbprint.clone(),
        node_root: node.root_der(),
        client: Arc::new(move || client.client_config(&[ALPN_TUNNEL]).context("the node's TLS cannot be set up")),
        server: Arc::new(move || server.server_config_with(&[]).context("the node's TLS cannot be set up")),
        state_dir,
        gateway_networks,
        dns,
        limits,
    }
}

/// Takes a document into use, all or nothing.
fn apply(agent: &Agent, envelope: &ConfigEnvelope) -> Result<(), String> {
    let document = ConnectorDocument::deserialize(&envelope.document).map_err(|error| error.to_string())?;
    agent.apply(&document).map_err(|error| error.to_string())
}
