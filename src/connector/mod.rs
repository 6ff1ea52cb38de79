//! `sluice connector`: the role itself, and commands for whoever stands at the connector's machine.

mod doctor;
mod explain;
mod local;
mod report;
mod serve;
mod streams;

use std::process::ExitCode;

use clap::Subcommand;

use crate::config::RoleArgs;

/// Arguments of `sluice connector`: a configuration to run with, or one of the commands.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Args {
    #[command(flatten)]
    role: Option<RoleArgs>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// Look at everything between this machine and a working tunnel, and say what is in the way
    Doctor(doctor::Args),
    /// Say which rule of the connector's allow-list decides about a target, and why
    Explain(explain::Args),
    /// Show the streams that run through this connector now
    Streams(streams::Args),
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    match (args.what, args.role) {
        (Some(What::Doctor(args)), _) => doctor::run(&args),
        (Some(What::Explain(args)), _) => explain::run(&args),
        (Some(What::Streams(args)), _) => streams::run(&args),
        (None, Some(role)) => serve::run(&role),
        (None, None) => anyhow::bail!("--config is missing: name the connector's configuration file"),
    }
}
