//! The project's own commands: what the README promises to do in one line each.

mod build;
mod gate;
mod install;

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

fn main() -> ExitCode {
    let result = match Command::parse().task {
        Task::Install => install::install().map(|()| true),
        Task::Demo(arguments) => build::demo(&arguments),
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
