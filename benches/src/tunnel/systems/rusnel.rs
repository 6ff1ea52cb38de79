//! `rusnel`: streams of one QUIC connection.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

use super::Ends;
use crate::tunnel::world::GATE_FOR_AGENTS;

pub(super) fn program(peers: &Path) -> PathBuf {
    peers.join("rusnel-0.11.2/bin/rusnel")
}

pub(super) fn start(ends: &mut Ends<'_>, peers: &Path) -> Result<()> {
    let rusnel = program(peers);
    // As its help advises: cubic on a clean line, BBR on a long or lossy one.
    let congestion = if ends.world.emulator.is_some() { "bbr" } else { "cubic" };
    let port = ends.ports.control.to_string();
    let state = ends.folder.join("state");
    ends.near(&rusnel, |command| {
        command.args(["server", "--host", &GATE_FOR_AGENTS.to_string(), "--port", &port, "--allow-reverse"]);
        command.args(["--congestion", congestion, "--tls-self-signed", "--tls-state-dir"]).arg(state);
    })?;
    let near = ends.running.near.first_mut().context("nothing was started")?;
    let line = near.wait_for_line("sha256:", Duration::from_secs(15))?;
    let print = line.split_whitespace().find_map(|word| Some(word.get(word.find("sha256:")?..)?.to_owned()));
    let print = print.context("rusnel's server names no fingerprint")?;
    let targets = ends.targets();
    ends.far(&rusnel, |command| {
        command.args(["client", "--tls-fingerprint", &print, "--congestion", congestion]);
        command.arg(format!("{GATE_FOR_AGENTS}:{port}"));
        command.args(targets.iter().map(|(port, target)| format!("R:0.0.0.0:{port}:{target}")));
    })
}
