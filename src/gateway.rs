//! The gateway role.

use std::process::ExitCode;

use crate::config::{self, RoleArgs, gateway::GatewayConfig};

/// Arguments of `sluice gateway`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config: GatewayConfig = config::load(&args.role.config)?;
    if args.role.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("not built yet")
}
