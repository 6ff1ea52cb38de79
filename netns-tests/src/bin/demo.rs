//! The demo's command: `cargo xtask demo` builds and starts it.

use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use sluice_netns_tests::demo::{self, Options};

/// The whole story in eleven steps, in network namespaces of its own.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    #[command(subcommand)]
    inside: Option<Inside>,
    /// The `sluice` binary; the one beside this program unless told otherwise
    #[arg(long, value_name = "FILE")]
    sluice: Option<PathBuf>,
    /// End after the last step instead of staying up
    #[arg(long)]
    once: bool,
    /// Sabotage the world of one step; the demo must then fail there
    #[arg(long, value_name = "STEP", value_parser = clap::value_parser!(u8).range(1..=i64::from(demo::STEPS)))]
    r#break: Option<u8>,
    /// Copy every program's log into this folder at the end
    #[arg(long, value_name = "DIR")]
    keep_logs: Option<PathBuf>,
    /// Print the report as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// What the demo starts inside its namespaces.
#[derive(Subcommand)]
enum Inside {
    /// Echo server
    #[command(hide = true)]
    Echo { addresses: Vec<SocketAddr> },
    /// One byte back and forth
    #[command(hide = true)]
    Stream { to: SocketAddr, beats: PathBuf },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.inside {
        Some(Inside::Echo { addresses }) => demo::peer::echo(addresses).map(|()| true),
        Some(Inside::Stream { to, beats }) => demo::peer::stream(*to, beats).map(|()| true),
        None => tell(arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("demo: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn tell(arguments: Arguments) -> Result<bool> {
    let sluice = match arguments.sluice {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("sluice"),
    };
    let options =
        Options { sluice, demo: std::env::current_exe()?, broken: arguments.r#break, keep_logs: arguments.keep_logs };
    say("building the world: namespaces, cables, Roundup, and the line as it is without sluice");
    let told = demo::run(&options, |step| say(&step.text()))?;
    say(&format!("\n{}", told.report.summary()));
    if arguments.json {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &told.report)?;
        writeln!(out)?;
    }
    let ok = told.report.ok;
    if ok && !arguments.once {
        stay_up(&told.places())?;
    }
    if let Some(folder) = told.end()? {
        say(&format!("logs: {}", folder.display()));
    }
    Ok(ok)
}

fn stay_up(places: &[String]) -> Result<()> {
    say("\nThe world stays up until Ctrl-C:");
    for place in places {
        say(&format!("  {place}"));
    }
    let mut end = SigSet::empty();
    end.add(Signal::SIGINT);
    end.add(Signal::SIGTERM);
    end.thread_block()?;
    end.wait()?;
    Ok(())
}

#[expect(clippy::print_stderr, reason = "this command talks to a terminal")]
fn say(text: &str) {
    eprintln!("{text}");
}
