//! The project's own commands: what the README promises to do in one line each.

mod build;
mod gate;
mod install;
mod peers;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Commands for people who build sluice.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Command {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the demo and the tests need (Debian packages, Roundup in the cache folder), naming each
    Install,
    /// Bring the whole story up in network namespaces and print what was observed, step by step
    Demo(Demo),
    /// Measure one claim beside its peers, in network namespaces; fails when a bar is missed
    Bench(Bench),
    /// The gate: everything that must pass before a change goes in
    Test {
        /// Run the full-size versions: ten times the budgets, every step of the demo broken once
        #[arg(long)]
        long: bool,
    },
}

/// Arguments handed on to the demo.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// End after the last step; exit 0 only if every step was observed
    #[arg(long)]
    once: bool,
    /// Sabotage the world of one step (1 to 11), to see that the demo notices
    #[arg(long, value_name = "STEP")]
    r#break: Option<u8>,
    /// Copy every program's log into this folder at the end
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments handed on to the bench.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Which claim
    #[arg(value_enum)]
    claim: Claim,
    /// Also write the result to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Run only the cases whose name holds this
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// Run only the systems whose name holds this; may be repeated
    #[arg(long = "system", value_name = "NAME")]
    systems: Vec<String>,
    /// One short run of each case: for development, not for publishing
    #[arg(long)]
    quick: bool,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Claim {
    /// The connector's tunnel beside rathole, rusnel, bore and ssh -R
    Tunnel,
}

fn main() -> ExitCode {
    let result = match Command::parse().task {
        Task::Install => install::install().map(|()| true),
        Task::Demo(arguments) => build::demo(&arguments),
        Task::Bench(arguments) => build::bench(&arguments),
        Task::Test { long } => gate::run(long),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// One line for the person at the terminal.
#[expect(clippy::print_stderr, reason = "this command talks to a terminal")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
