//! The control role: `sluice control` and what an operator does on its own machine.

mod backup;
mod break_glass;
mod handed_over;
mod home;
mod init;
mod reach;
mod restore;
mod run;
mod services;
mod wallet;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Subcommand;

use crate::config::{self, control::ControlConfig};

/// Arguments of `sluice control`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Configuration file (TOML); docs/configuration.md lists every key
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Validate the configuration, print what is in effect, and stop
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    what: Option<What>,
}

const EXAMPLES: &str = "\
Examples:
  sluice control init --config control.toml --owner-link-file owner.link
  sluice control --config control.toml
  sluice control backup --config control.toml --to /backup/control.tar";

#[derive(Subcommand)]
enum What {
    /// Make the data directory, keys and certificate authority; prints the owner link (10 minutes, once)
    Init {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Write the owner link to this new file (mode 0600) instead of standard output
        #[arg(long, value_name = "FILE")]
        owner_link_file: Option<PathBuf>,
    },
    /// Ask the running control, over its local socket, for a new owner link (break-glass; audited)
    OwnerLink {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Copy the store, the caches and the wallet's records, all still sealed, while control runs. No key is in it:
    /// keep keystore/, wallet/kek and wallet/tenants/ apart from it
    Backup {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// New file (tar)
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Put a backup into a data directory that holds only the keys that were kept apart
    Restore {
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
    /// The wallet's process; started by control
    #[command(hide = true)]
    Wallet {
        #[arg(long)]
        dir: PathBuf,
    },
}

/// Runs it.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // Whatever is made from here on is ours alone.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    match args.what {
        Some(What::Init { config, owner_link_file }) => {
            init::run(&ControlConfig::load(&config)?, owner_link_file.as_deref())?;
        }
        Some(What::OwnerLink { config }) => break_glass::ask(&ControlConfig::load(&config)?)?,
        Some(What::Backup { config, to }) => backup::run(&ControlConfig::load(&config)?, &to)?,
        Some(What::Restore { config, from }) => restore::run(&ControlConfig::load(&config)?, &from)?,
        Some(What::Wallet { dir }) => wallet::run(&dir)?,
        None => {
            let path = args.config.context("--config is missing: name control's configuration file")?;
            let config = ControlConfig::load(&path)?;
            if args.check {
                config::print_effective(&config)?;
            } else {
                run::run(&config)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
