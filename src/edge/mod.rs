//! The edge role: two processes of this binary. The kernel writer keeps CAP_NET_ADMIN and reads nothing from the
//! network; the wire side talks to the network and has no rights. Between them: typed messages over one socket.

mod kernel;
mod supervise;
mod uplink;
mod wire;

use std::process::ExitCode;

use crate::config::{self, ConfigError, RoleArgs, edge::EdgeConfig};

/// Arguments of `sluice edge`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    role: RoleArgs,
    /// Be the wire side: standard input is the socket to the kernel writer. Started by the edge itself
    #[arg(long, hide = true)]
    wire_side: bool,
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config: EdgeConfig = config::load(&args.role.config)?;
    let (links, lan) = config.parts().map_err(|error| ConfigError::invalid(&args.role.config, error))?;
    if args.role.check {
        config::print_effective(&config)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.wire_side { wire::run(&config, lan) } else { supervise::run(&links) }
}
