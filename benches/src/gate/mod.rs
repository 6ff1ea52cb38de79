//! The gateway's end of a tunnel without the product's proxy: doors for agents, plain listeners for users.

mod doors;
mod users;

use std::net::SocketAddr;

use anyhow::Result;
use clap::ValueEnum;
use sluice_connector_server::{Limits, TunnelServer};
use tokio::task::JoinSet;

use crate::{
    forward::Forward,
    house::{House, gateway_name},
};

/// By which transports agents may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Doors {
    /// Both; the agent chooses.
    #[default]
    Auto,
    /// TLS over TCP only.
    Tcp,
    /// QUIC only.
    Quic,
}

/// What a gate is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Keys and certificates.
    pub house: House,
    /// Where agents come, by TCP and UDP.
    pub listen: SocketAddr,
    /// By which of them.
    pub doors: Doors,
    /// Where users come and where that goes.
    pub forwards: Vec<Forward>,
    /// Bounds.
    pub limits: Limits,
}

/// Runs until something cannot go on.
///
/// # Errors
/// An address cannot be listened on, or the house is broken.
pub async fn run(settings: Settings) -> Result<()> {
    let Settings { house, listen, doors, forwards, limits } = settings;
    let server = TunnelServer::new(gateway_name()?, house.signer()?, limits);
    let mut tasks = JoinSet::new();
    if doors != Doors::Quic {
        tasks.spawn(doors::tcp(house.clone(), listen, server.clone()));
    }
    if doors != Doors::Tcp {
        tasks.spawn(doors::quic(house, listen, server.clone()));
    }
    for forward in forwards {
        tasks.spawn(users::carry_all(forward, server.clone()));
    }
    match tasks.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}
