//! The gateway role: listener, tunnels and node client, wired together.

mod doors;
mod keys;
mod report;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use serde::Deserialize;
use sluice_connector_server::{Limits, TunnelServer};
use sluice_gateway_access::{GatewayDocument, Plan};
use sluice_gateway_proxy::{Bound, Gateway, Parts};
use sluice_node_client::{Judge, Ready};
use sluice_node_identity::{ConfigEnvelope, Role, TenantId};
use tokio::sync::watch;

use self::{
    doors::{Direct, Factors, Tls, Tunnels},
    keys::Keys,
};
use crate::{
    config::{self, ConfigError, RoleArgs, gateway::GatewayConfig},
    node,
};

/// Open files that connections may not take.
const FILES_KEPT: usize = 256;

/// Arguments of `sluice gateway`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config: GatewayConfig = config::load(&args.role.config)?;
    let invalid = |error| ConfigError::invalid(&args.role.config, error);
    let mut settings = config.proxy().map_err(invalid)?;
    let limits = config.tunnels().map_err(invalid)?;
    if args.role.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let ready = Ready::new(config.control.settings(&config.state_dir))?;
    settings.limits.connections = affordable(settings.limits.connections, node::open_files()?);
    let bound = Gateway::bind(settings)?;
    for address in bound.addresses()? {
        tracing::info!(%address, "listening");
    }
    node::confine("gateway", &config.state_dir, &config.user)?;
    let max_stale = Duration::from_secs(config.control.max_stale_seconds);
    node::runtime()?.block_on(serve(bound, ready, limits, config.state_dir, max_stale))?;
    Ok(ExitCode::SUCCESS)
}

/// So many connections that files are never used up: each takes two (the browser's and the app's), and some are kept
/// for calls to control, the state directory and tunnels' own needs.
fn affordable(wanted: usize, files: usize) -> usize {
    let most = (files.saturating_sub(FILES_KEPT) / 2).max(1);
    if wanted > most {
        tracing::warn!(wanted, most, "limits.connections is more than the limit on open files allows; raise that one");
    }
    wanted.min(most)
}

async fn serve(
    bound: Bound,
    ready: Ready,
    limits: Limits,
    state_dir: PathBuf,
    max_stale: Duration,
) -> anyhow::Result<()> {
    let stop = node::shutdown()?;
    let Some(node) = node::start(ready, Role::Gateway, &stop).await? else { return Ok(()) };
    let keys = Keys::load_or_make(&state_dir, &node.name().id, &node.join())?;
    let public = keys.public()?;
    let tunnels = TunnelServer::new(node::spiffe(node.name()), keys.caller, limits);
    let plan = watch::Sender::new(None);
    let judge = judge(node.name().tenant.clone(), plan.clone());
    let parts = Parts {
        plan: plan.subscribe(),
        state: node.state(),
        node: Arc::new(Tls::new(&node)?),
        factors: Arc::new(Factors::new(node.clone(), max_stale)),
        direct: Arc::new(Direct::new(tunnels.clone())),
        tunnels: Arc::new(Tunnels::new(node.clone(), tunnels.clone())),
        assertion_key: Arc::new(keys.assertion),
        reset_key: keys.reset,
    };
    // Until everything has ended: what is revoked meanwhile must end at once.
    let (_on, on) = watch::channel(false);
    let following = async {
        tokio::join!(node.run_judging(on, judge), report::keep(node.clone(), tunnels, public));
    };
    // Without its listener a gateway is nothing: it must not live on for the others' sake.
    tokio::select! {
        served = bound.serve(parts, stop.clone()) => served,
        () = following => anyhow::bail!("the gateway stopped following control"),
    }
}

/// Takes good documents into use.
fn judge(tenant: TenantId, plan: watch::Sender<Option<Arc<Plan>>>) -> Judge {
    Arc::new(move |envelope| {
        let read = read(&tenant, envelope).map_err(|reason| format!("{reason:#}"))?;
        plan.send_replace(Some(read));
        Ok(())
    })
}

fn read(tenant: &TenantId, envelope: &ConfigEnvelope) -> anyhow::Result<Arc<Plan>> {
    let document = GatewayDocument::deserialize(&envelope.document).context("not a gateway's document")?;
    let plan = Plan::try_from(document)?;
    anyhow::ensure!(plan.tenant() == tenant, "the document is for tenant {}", plan.tenant());
    Ok(Arc::new(plan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_never_use_up_the_open_files() {
        assert_eq!(affordable(16_384, 1_048_576), 16_384);
        assert_eq!(affordable(16_384, 1_024), 384);
        assert_eq!(affordable(16_384, 100), 1);
    }
}
