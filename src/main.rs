//! The `sluice` command: one binary, four roles and a command line for administrators.

mod admin;
mod config;
mod confine;
mod connector;
mod control;
mod edge;
mod gateway;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Self-hosted gateway appliance with its control service.
#[derive(Parser)]
#[command(name = "sluice", version, propagate_version = true)]
struct Command {
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
}

fn main() -> ExitCode {
    let result = match Command::parse().role {
        Role::Control(args) => control::run(args),
        Role::Gateway(args) => gateway::run(args),
        Role::Edge(args) => edge::run(args),
        Role::Connector(args) => connector::run(args),
        Role::Admin(args) => admin::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
