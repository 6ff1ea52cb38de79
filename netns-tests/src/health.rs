//! What a connector says of itself on loopback.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{process, topology::Ns};

/// Asks the connector that runs in `place`.
pub(crate) fn health(place: &Ns) -> Result<Value> {
    let mut curl = place.command("curl");
    let ended = process::run(curl.args(["-s", "-m", "5", "http://127.0.0.1:9464/health"]), Duration::from_secs(10))?;
    serde_json::from_str(&ended.stdout)
        .with_context(|| format!("no health from the connector in {}: {}", place.name(), ended.stdout))
}

/// Transport that new ordinary streams to its first gateway take: the youngest connection's.
#[must_use]
pub fn transport(health: &Value) -> Option<&str> {
    let connections = health["gateways"].as_array()?.first()?["connections"].as_array()?;
    let ordinary = connections.iter().filter(|connection| connection["pair"] == "standard");
    ordinary.min_by_key(|connection| connection["seconds"].as_u64())?["transport"].as_str()
}
