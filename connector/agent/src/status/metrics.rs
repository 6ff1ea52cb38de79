//! The numbers of `/metrics`.

use std::collections::BTreeMap;

use super::{
    exposition::{Exposition, Kind},
    health::Health,
    seen::{Process, Seen},
};

/// Prometheus's text about `seen`; about the process alone before the connector has joined.
pub(super) fn render(seen: Option<&Seen>, process: &Process) -> String {
    let mut text = Exposition::default();
    let healthy = u8::from(Health::of(seen).ok);
    text.family("sluice_connector_healthy", Kind::Gauge, "Whether /health answers 200.").sample(&[], healthy);
    if let Some(seen) = seen {
        tunnels(&mut text, seen);
        streams(&mut text, seen);
        rights(&mut text, seen);
    }
    if let Some(resident) = process.resident {
        text.family("process_resident_memory_bytes", Kind::Gauge, "Resident memory.").sample(&[], resident);
    }
    if let Some(files) = process.files {
        text.family("process_open_fds", Kind::Gauge, "Open files.").sample(&[], files);
    }
    text.done()
}

fn tunnels(text: &mut Exposition, seen: &Seen) {
    let mut tunnel =
        text.family("sluice_connector_tunnel_up", Kind::Gauge, "Whether a connection to the gateway is up.");
    for gateway in &seen.gateways {
        let up = seen.tunnels.up.iter().any(|leg| leg.gateway == *gateway);
        tunnel.sample(&[("gateway", gateway.as_str())], u8::from(up));
    }
    // A pair may have an old connection beside its new one; they count together, and the quicker one's time is told.
    let mut legs: BTreeMap<_, (u64, Option<f64>)> = BTreeMap::new();
    for leg in &seen.tunnels.up {
        let sum = legs.entry((leg.gateway.as_str(), leg.transport.as_str(), leg.pair.as_str())).or_default();
        let rtt = leg.rtt().map(|rtt| rtt.as_secs_f64());
        *sum = (sum.0 + 1, rtt.into_iter().chain(sum.1).reduce(f64::min));
    }
    let mut connections = text.family("sluice_connector_connections", Kind::Gauge, "Connections of tunnels.");
    for (&(gateway, transport, pair), (count, _)) in &legs {
        connections.sample(&[("gateway", gateway), ("transport", transport), ("pair", pair)], count);
    }
    let mut rtt = text.family("sluice_connector_rtt_seconds", Kind::Gauge, "Round-trip time last measured.");
    for (&(gateway, transport, pair), (_, seconds)) in &legs {
        if let Some(seconds) = seconds {
            rtt.sample(&[("gateway", gateway), ("transport", transport), ("pair", pair)], seconds);
        }
    }
    text.family("sluice_connector_redials_total", Kind::Counter, "Connections that came up again.")
        .sample(&[], seen.tunnels.redials);
    let mut failures =
        text.family("sluice_connector_dial_failures_total", Kind::Counter, "Dials that failed and tunnels that broke.");
    for (hurdle, count) in &seen.tunnels.hindered {
        failures.sample(&[("reason", hurdle.as_str())], count);
    }
}

fn streams(text: &mut Exposition, seen: &Seen) {
    let sums = &seen.sums;
    text.family("sluice_connector_streams", Kind::Gauge, "Streams that run.").sample(&[], seen.streams);
    text.family("sluice_connector_streams_limit", Kind::Gauge, "Most streams at a time.")
        .sample(&[], seen.streams_limit);
    text.family("sluice_connector_streams_opened_total", Kind::Counter, "Streams that were let pass and connected.")
        .sample(&[], sums.opened);
    text.family("sluice_connector_streams_killed_total", Kind::Counter, "Streams ended by an administrator.")
        .sample(&[], sums.killed);
    let mut refused = text.family("sluice_connector_streams_refused_total", Kind::Counter, "Streams refused.");
    for (code, count) in &sums.refused {
        refused.sample(&[("code", code)], count);
    }
    let mut bytes = text.family("sluice_connector_bytes_total", Kind::Counter, "Bytes to (up) and from targets.");
    for (pair, (up, down)) in &sums.bytes {
        bytes.sample(&[("pair", pair.as_str()), ("direction", "up")], up);
        bytes.sample(&[("pair", pair.as_str()), ("direction", "down")], down);
    }
}

fn rights(text: &mut Exposition, seen: &Seen) {
    text.family("sluice_connector_list_seconds_left", Kind::Gauge, "Until the allow-list ends; 0 without one.")
        .sample(&[], seen.list_left());
    if seen.contact.heard.0 > 0 {
        text.family("sluice_connector_control_silent_seconds", Kind::Gauge, "Since control was last heard of.")
            .sample(&[], seen.now.since(seen.contact.heard));
    }
    let mut spent = text.family("sluice_connector_spent_tokens", Kind::Gauge, "Tokens remembered of each caller.");
    for (caller, count) in &seen.spent {
        spent.sample(&[("caller", caller)], count);
    }
    text.family("sluice_connector_spent_tokens_limit", Kind::Gauge, "Most tokens remembered of one caller.")
        .sample(&[], seen.spent_limit);
}
