//! Step 9: the line is full; what do probes of the interactive class feel, without and with our plan?

use anyhow::{Context, Result, ensure};

use super::{
    report::Evidence,
    world::{EDGE_LAN, LINE_KBIT, Places, World},
};
use crate::probe::{Direction, Measured, Servers};

/// Seconds of probing per measurement.
const SECONDS: u32 = 4;
/// How much better the median must be than without the plan.
const FACTOR: f64 = 5.0;
/// A line this slow under load is really full.
const FULL_MS: f64 = 40.0;
/// Share of probes that may be lost with the plan.
const LOSS: f64 = 0.02;
/// Share of the line that bulk must keep.
const BULK_SHARE: f64 = 0.8;

/// The line before any sluice ran: the hub's cable with a hand-set address, a plain router, one queue.
pub(super) fn before(places: &Places, servers: &Servers) -> Result<[Measured; 3]> {
    places.hub.address("eth0", "10.20.0.200/24")?;
    places.hub.route("default", &EDGE_LAN.0.to_string())?;
    let measured = [
        servers.measure(&places.hub, None, 1)?,
        servers.measure(&places.hub, Some(Direction::Up), SECONDS)?,
        servers.measure(&places.hub, Some(Direction::Down), SECONDS)?,
    ];
    places.hub.ip(&["addr", "flush", "dev", "eth0", "scope", "global"])?;
    Ok(measured)
}

/// Step 9.
pub(super) fn full(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let [idle, up, down] = world.before;
    evidence.saw(format!("idle, before sluice: {}", shown(&idle)));
    evidence.measured("idle_p50_ms", idle.p50_ms);
    for (direction, name, without) in [(Direction::Up, "up", up), (Direction::Down, "down", down)] {
        let with =
            world.servers.measure(world.hub.ns(), Some(direction), SECONDS).context("measuring with the plan")?;
        evidence.saw(format!("four cubic flows {name}, without: {}", shown(&without)));
        evidence.saw(format!("four cubic flows {name}, with:    {}", shown(&with)));
        for (case, measured) in [("without", without), ("with", with)] {
            evidence.measured(&format!("{name}_{case}_p50_ms"), measured.p50_ms);
            evidence.measured(&format!("{name}_{case}_p99_ms"), measured.p99_ms);
            evidence.measured(&format!("{name}_{case}_bulk_mbit"), measured.bulk_mbit);
        }
        ensure!(without.p50_ms > FULL_MS, "the line was not full without the plan ({name}): nothing is shown");
        ensure!(
            with.p50_ms * FACTOR < without.p50_ms,
            "{name}: probes take {:.1} ms with the plan and {:.1} ms without",
            with.p50_ms,
            without.p50_ms
        );
        let loss = with.lost as f64 / (with.probes + with.lost) as f64;
        ensure!(loss <= LOSS, "{name}: with the plan {} of {} probes are lost", with.lost, with.probes + with.lost);
        let share = with.bulk_mbit * 1000.0 / f64::from(LINE_KBIT);
        ensure!(share > BULK_SHARE, "{name}: bulk keeps only {:.0} % of the line", share * 100.0);
    }
    Ok(())
}

fn shown(measured: &Measured) -> String {
    let Measured { p50_ms, p99_ms, max_ms, probes, lost, bulk_mbit } = measured;
    let bulk = if *bulk_mbit > 0.0 { format!(", bulk {bulk_mbit:.1} Mbit/s of frames") } else { String::new() };
    format!("p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms, max {max_ms:.1} ms, {lost} of {} lost{bulk}", probes + lost)
}
