//! Load and probes on a line: `iperf3` fills it, `irtt` measures round trips beside it.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::Value;

use crate::{
    process::{Process, output, run},
    topology::Ns,
};

/// Port of the probe server; a policy names it to put the probes in a class.
pub const PROBE_PORT: u16 = 2112;
/// Port of the load server.
pub const LOAD_PORT: u16 = 5201;
/// Parallel flows of a load.
const FLOWS: &str = "4";
/// Time between probes.
const INTERVAL: &str = "10ms";
/// TCP payload in a full frame, and the frame: iperf3 counts payload, a shaper counts frames.
const PAYLOAD_PER_FRAME: (f64, f64) = (1448.0, 1514.0);

/// Probe and load servers in one namespace.
#[derive(Debug)]
pub struct Servers {
    ns: Ns,
    address: IpAddr,
    logs: PathBuf,
    loads: AtomicU32,
    _probe: Process,
}

/// Which way the load flows, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Client sends.
    Up,
    /// Server sends.
    Down,
}

/// What one measurement gave.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Measured {
    /// Median round trip, ms.
    pub p50_ms: f64,
    /// 99th percentile, ms.
    pub p99_ms: f64,
    /// Slowest, ms.
    pub max_ms: f64,
    /// Probes that came back.
    pub probes: usize,
    /// Probes that did not.
    pub lost: usize,
    /// Load in Mbit/s of frames on the wire; 0 without load.
    pub bulk_mbit: f64,
}

impl Servers {
    /// Starts the probe server in `ns`, listening on `address`; load servers come with each load.
    ///
    /// # Errors
    /// `irtt` is missing or cannot listen.
    pub fn start(ns: &Ns, address: IpAddr, logs: &Path) -> Result<Self> {
        let mut irtt = ns.command("irtt");
        irtt.args(["server", "-i", "1ms", "-b", &socket_text(address, PROBE_PORT)]);
        let mut probe = Process::start("irtt-server", irtt, logs)?;
        probe.wait_for_line("listener on", Duration::from_secs(10))?;
        Ok(Self { ns: ns.clone(), address, logs: logs.to_owned(), loads: AtomicU32::new(0), _probe: probe })
    }

    /// An `iperf3` server answers "busy" for a while after a test: each load gets a server of its own.
    fn load_server(&self) -> Result<Process> {
        let mut iperf = self.ns.command("iperf3");
        iperf.args(["-s", "-1", "--forceflush", "-B", &self.address.to_string(), "-p", &LOAD_PORT.to_string()]);
        let name = format!("iperf3-server-{}", self.loads.fetch_add(1, Ordering::Relaxed));
        let mut server = Process::start(&name, iperf, &self.logs)?;
        server.wait_for_line("Server listening", Duration::from_secs(10))?;
        Ok(server)
    }

    /// Probes from `client` for `seconds`, with four cubic flows in `direction` beside them if asked.
    ///
    /// # Errors
    /// A program failed, or no probe came back.
    pub fn measure(&self, client: &Ns, load: Option<Direction>, seconds: u32) -> Result<Measured> {
        /// Cubic needs this long to fill the line's buffer.
        const WARM_UP: Duration = Duration::from_secs(2);
        let server = load.map(|_| self.load_server()).transpose()?;
        let load = load.map(|direction| {
            let command = self.load(client, direction, seconds + 3);
            thread::spawn(move || output(&command))
        });
        if load.is_some() {
            thread::sleep(WARM_UP);
        }
        let round_trips = self.probe(client, seconds);
        let bulk = match load {
            Some(load) => bulk_mbit(&load.join().map_err(|_| anyhow::anyhow!("the load's thread panicked"))??)?,
            None => 0.0,
        };
        drop(server);
        let (mut times, lost) = round_trips?;
        times.sort_by(f64::total_cmp);
        Ok(Measured {
            p50_ms: percentile(&times, 50).context("no probe came back")?,
            p99_ms: percentile(&times, 99).context("no probe came back")?,
            max_ms: times.last().copied().context("no probe came back")?,
            probes: times.len(),
            lost,
            bulk_mbit: bulk,
        })
    }

    fn load(&self, client: &Ns, direction: Direction, seconds: u32) -> Command {
        let mut command = client.command("iperf3");
        command.args(["-c", &self.address.to_string(), "-p", &LOAD_PORT.to_string(), "-P", FLOWS, "-C", "cubic"]);
        command.args(["-t", &seconds.to_string(), "-O", "1", "--connect-timeout", "5000", "-J"]);
        if direction == Direction::Down {
            command.arg("-R");
        }
        command
    }

    fn probe(&self, client: &Ns, seconds: u32) -> Result<(Vec<f64>, usize)> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("probe.json");
        let mut command = client.command("irtt");
        command.args(["client", "-Q", "-i", INTERVAL, "-d", &format!("{seconds}s"), "-o"]).arg(&file);
        command.arg(socket_text(self.address, PROBE_PORT));
        let ended = run(&command, Duration::from_secs(u64::from(seconds) + 15))?;
        if ended.code != 0 {
            bail!("irtt client gave {}: {}{}", ended.code, ended.stderr, ended.stdout);
        }
        round_trips(&std::fs::read(&file).context("irtt wrote no result")?)
    }
}

/// Round trips in ms, and how many probes were lost, from irtt's JSON.
fn round_trips(json: &[u8]) -> Result<(Vec<f64>, usize)> {
    let report: Value = serde_json::from_slice(json).context("irtt's result is not JSON")?;
    let trips = report.get("round_trips").and_then(Value::as_array).context("irtt's result has no round trips")?;
    let times: Vec<f64> = trips
        .iter()
        .filter(|trip| trip.get("lost").and_then(Value::as_str) == Some("false"))
        .filter_map(|trip| trip.pointer("/delay/rtt").and_then(Value::as_f64))
        .map(|nanoseconds| nanoseconds / 1e6)
        .collect();
    let lost = trips.len() - times.len();
    Ok((times, lost))
}

fn bulk_mbit(json: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(json).context("iperf3's result is not JSON")?;
    let bits = report.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64);
    let (payload, frame) = PAYLOAD_PER_FRAME;
    Ok(bits.context("iperf3's result has no sum")? / 1e6 * frame / payload)
}

/// Nearest-rank percentile of sorted values.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn socket_text(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::{bulk_mbit, percentile, round_trips};

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50), Some(50.0));
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn lost_probes_are_counted_and_not_averaged() {
        let json = br#"{"round_trips":[{"lost":"false","delay":{"rtt":2000000}},{"lost":"true","delay":{}}]}"#;
        assert_eq!(round_trips(json).unwrap(), (vec![2.0], 1));
        assert!(round_trips(b"{}").is_err());
    }

    #[test]
    fn bulk_is_counted_in_frames() {
        let mbit = bulk_mbit(r#"{"end":{"sum_received":{"bits_per_second":14480000}}}"#).unwrap();
        assert!((mbit - 15.14).abs() < 1e-9, "{mbit}");
    }
}
