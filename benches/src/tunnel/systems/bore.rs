//! `bore`: one bare TCP connection through the tunnel for each user's connection.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Ends;
use crate::tunnel::world::{BULK_PORT, ECHO_PORT, GATE_FOR_AGENTS, SERVER};

/// Where its clients come; it cannot be changed.
pub(super) const CONTROL: u16 = 7835;

pub(super) fn program(peers: &Path) -> PathBuf {
    peers.join("bore-cli-0.6.0/bin/bore")
}

pub(super) fn start(ends: &mut Ends<'_>, peers: &Path) -> Result<()> {
    let bore = program(peers);
    ends.near(&bore, |command| {
        // It refuses a secret in a file; without one anybody may use it, which costs it nothing here.
        command.args(["server", "--bind-addr", &GATE_FOR_AGENTS.to_string(), "--bind-tunnels", "0.0.0.0"]);
    })?;
    // Its clients end when the server is not there yet.
    let place = std::net::SocketAddr::from((GATE_FOR_AGENTS, CONTROL));
    let gate = ends.world.gate.clone();
    if let Some(near) = ends.running.near.first_mut() {
        near.wait_for_port(&gate, place, std::time::Duration::from_secs(15))?;
    }
    for (port, target) in [(ends.ports.bulk, BULK_PORT), (ends.ports.echo, ECHO_PORT)] {
        ends.far(&bore, |command| {
            command.args(["local", &target.to_string(), "--local-host", &SERVER.to_string()]);
            command.args(["--to", &GATE_FOR_AGENTS.to_string(), "--port", &port.to_string()]);
        })?;
    }
    Ok(())
}
