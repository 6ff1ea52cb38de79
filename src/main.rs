//! The `sluice` command: one binary, four roles and a command line for administrators.

mod admin;
mod config;
mod confine;
mod connector;
mod control;
mod edge;
mod gateway;
mod logging;
mod node;
mod web_proxy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted gateway appliance with its control service.
#[derive(Parser)]
#[command(name = "sluice", version, propagate_version = true)]
struct Command {
    /// How log lines look; RUST_LOG says which appear (default: info)
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log: logging::Format,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Control service: identity store, PKI, enrolment, wallet, sync, feed, admin API and console
    Control(control::Args),
    /// DMZ: TLS termination, single sign-on, reverse proxy, far end of the connectors' tunnels
    Gateway(gateway::Args),
    /// Branch appliance: discovery and QoS
    Edge(edge::Args),
    /// Outbound-only agent next to the applications
    Connector(connector::Args),
    /// Command line over the admin API
    Admin(admin::Args),
    /// Started by the connector; of no use by hand
    #[command(hide = true)]
    WebProxyHelper(web_proxy::Args),
}

fn main() -> ExitCode {
    let command = Command::parse();
    let result = logging::start(command.log).and_then(|()| match command.role {
        Role::Control(args) => control::run(args),
        Role::Gateway(args) => gateway::run(args),
        Role::Edge(args) => edge::run(args),
        Role::Connector(args) => connector::run(args),
        Role::Admin(args) => admin::run(args),
        Role::WebProxyHelper(args) => web_proxy::run(&args),
    });
    result.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        if error.is::<config::ConfigError>() { ExitCode::from(config::ConfigError::EXIT) } else { ExitCode::FAILURE }
    })
}
