//! Measures one claim beside its peers: `cargo xtask bench` builds and starts it.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sluice_benches::tunnel::{self, Options};

/// Measure one claim beside its peers
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Throughput, delay, opening rate and memory of a tunnel from user to server
    Tunnel {
        /// Folder of the peers
        #[arg(long, value_name = "DIR")]
        peers: PathBuf,
        /// Also write the result to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
        /// Run only the cases whose name holds this: "one flow", "requests", "memory, 0 ms"
        #[arg(long, value_name = "CASE")]
        only: Option<String>,
        /// Run only the systems whose name holds this; may be repeated
        #[arg(long = "system", value_name = "NAME")]
        systems: Vec<String>,
        /// One short run of each case: for development
        #[arg(long)]
        quick: bool,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().bench) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            complain(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is the output")]
fn run(bench: Bench) -> Result<bool> {
    let Bench::Tunnel { peers, json, only, systems, quick } = bench;
    let programs = std::env::current_exe()?.parent().context("this program lies nowhere")?.to_owned();
    let report = tunnel::run(&Options { peers, programs, only, systems, quick })?;
    if let Some(file) = json {
        fs::write(&file, serde_json::to_string_pretty(&report)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    println!("{}", report.text());
    Ok(report.passed())
}

#[expect(clippy::print_stderr, reason = "the terminal is where a failure is told")]
fn complain(text: &str) {
    eprintln!("{text}");
}
