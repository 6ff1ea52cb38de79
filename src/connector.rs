//! The connector role.

use std::process::ExitCode;

use crate::config::{self, RoleArgs, connector::ConnectorConfig};

/// Arguments of `sluice connector`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    role: RoleArgs,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config: ConnectorConfig = config::load(&args.role.config)?;
    if args.role.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!("not built yet")
}
