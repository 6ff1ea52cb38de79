//! Load maker and echo server of the benches; results go to standard output as one line of JSON.

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;
use sluice_benches::load::{
    echo, idle, opens,
    requests::{self, Plan},
};

/// Make load, or answer it
#[derive(Parser)]
#[command(name = "bench-load")]
enum Arguments {
    #[command(flatten)]
    Task(Task),
}

#[derive(Subcommand)]
enum Task {
    /// Send back what comes over TCP
    Echo {
        /// Where to listen
        listen: SocketAddr,
    },
    /// Send requests at a fixed rate, open loop, and print percentiles
    Requests {
        /// An echo server, or the way to one
        to: SocketAddr,
        /// Requests per second
        #[arg(long, default_value_t = 4000)]
        rate: u32,
        /// Bytes of a request
        #[arg(long, default_value_t = 1024)]
        size: usize,
        /// How long
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Connections they are spread over
        #[arg(long, default_value_t = 64)]
        connections: usize,
    },
    /// Open connections as fast as they come and print the rate
    Opens {
        /// An echo server, or the way to one
        to: SocketAddr,
        /// Connections being opened at a time
        #[arg(long, default_value_t = 1)]
        workers: usize,
        /// How long
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
    },
    /// Hold connections open until standard input ends
    Idle {
        /// An echo server, or the way to one
        to: SocketAddr,
        /// How many
        #[arg(long, default_value_t = 1000)]
        count: usize,
    },
}

fn main() -> Result<()> {
    let Arguments::Task(task) = Arguments::parse();
    match task {
        Task::Echo { listen } => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(echo::serve(listen))
        }
        Task::Requests { to, rate, size, seconds, connections } => {
            print(&requests::run(&Plan { to, rate, size, seconds, connections })?)
        }
        Task::Opens { to, workers, seconds } => print(&opens::run(to, workers, seconds)?),
        Task::Idle { to, count } => idle::hold(to, count),
    }
}

#[expect(clippy::print_stdout, reason = "the result is the output")]
fn print(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    Ok(())
}
