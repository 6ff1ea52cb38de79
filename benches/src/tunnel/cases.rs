//! What is done to each system, and what is read off.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    systems::{Running, System},
    usage::{cpu_seconds, resident},
    world::{GATE_FOR_USERS, World},
};
use crate::load::{opens::Opens, requests::Answers};

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// One TCP flow from the user to the server.
    FlowUp,
    /// One TCP flow from the server to the user.
    FlowDown,
    /// Ten TCP flows from the user to the server.
    TenFlows,
    /// 4,000 requests a second of 1 KB on 64 connections, open loop.
    Requests,
    /// Connections opened one after the other, then 16 at a time.
    Opens,
    /// 100 small requests a second, first alone and then beside one TCP flow that fills the line.
    Desktop,
    /// Resident memory: idle, and with many idle streams. Starts the system anew.
    Memory,
}

/// Every case, in the order in which they run.
pub(crate) const ALL: [Case; 7] =
    [Case::Memory, Case::FlowUp, Case::FlowDown, Case::TenFlows, Case::Requests, Case::Opens, Case::Desktop];

/// One figure: metric, unit, value.
pub(crate) type Figure = (&'static str, &'static str, f64);

/// What a run may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Seconds of a flow or of requests.
    pub(crate) seconds: u32,
    /// Idle streams.
    pub(crate) streams: usize,
}

/// Metric names that the bars speak of.
pub(crate) const THROUGHPUT: &str = "throughput";
/// 99 of 100 requests took no longer.
pub(crate) const P99: &str = "p99";
/// Streams opened for each second of the agent's processor time.
pub(crate) const OPENS_PER_CPU: &str = "opens per agent CPU second";
/// Half of the connections opened one by one took no longer.
pub(crate) const OPEN_P50: &str = "p50, one by one";

const GIGA: f64 = 1e9;
const MIB: f64 = 1024.0 * 1024.0;
/// Connections being opened at a time.
const WORKERS: &str = "16";
/// Until memory has settled.
const SETTLE: Duration = Duration::from_millis(500);
/// How much longer than planned a load maker may take.
const SLACK: Duration = Duration::from_secs(20);

impl Case {
    /// As in tables.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::FlowUp => "one flow up",
            Self::FlowDown => "one flow down",
            Self::TenFlows => "ten flows up",
            Self::Requests => "4,000 requests/s of 1 KB",
            Self::Opens => "opening streams",
            Self::Desktop => "a desktop beside a copy",
            Self::Memory => "memory",
        }
    }

    /// Runs it once on a running system.
    ///
    /// # Errors
    /// The load maker failed.
    pub(crate) fn run(self, world: &World, system: System, running: &Running, effort: &Effort) -> Result<Vec<Figure>> {
        match self {
            Self::FlowUp => flow(world, system, running, &[], effort),
            Self::FlowDown => flow(world, system, running, &["-R"], effort),
            Self::TenFlows => flow(world, system, running, &["-P", "10"], effort),
            Self::Requests => requests(world, system, running, effort),
            Self::Opens => opens(world, system, running, effort),
            Self::Desktop => desktop(world, system, running, effort),
            Self::Memory => memory(world, system, running, effort),
        }
    }
}

/// What we need of iperf3's report.
#[derive(Deserialize)]
struct Iperf {
    end: IperfEnd,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct IperfEnd {
    sum_received: Option<IperfSum>,
}

#[derive(Deserialize)]
struct IperfSum {
    bytes: f64,
    bits_per_second: f64,
}

fn flow(world: &World, system: System, running: &Running, args: &[&str], effort: &Effort) -> Result<Vec<Figure>> {
    let mut command = world.user.command("iperf3");
    let port = system.ports().bulk.to_string();
    command.args(["-c", &GATE_FOR_USERS.to_string(), "-p", &port, "-J", "-t", &effort.seconds.to_string()]).args(args);
    let pids = both(running);
    let deadline = Instant::now() + SLACK;
    let (sum, spent) = loop {
        let before = cpu_seconds(&pids);
        let report: Iperf = world.json(&command, Duration::from_secs(effort.seconds.into()) + SLACK)?;
        let spent = cpu_seconds(&pids) - before;
        match report.end.sum_received {
            Some(sum) => break (sum, spent),
            // What the run before left in some tunnel's buffers has not reached the server yet.
            None if Instant::now() < deadline => thread::sleep(SETTLE),
            None => anyhow::bail!("iperf3: {}", report.error),
        }
    };
    ensure!(sum.bytes > 0.0, "nothing arrived");
    Ok(vec![
        (THROUGHPUT, "Gbit/s", sum.bits_per_second / GIGA),
        ("CPU of both ends", "s/GB", spent / (sum.bytes / GIGA)),
    ])
}

fn requests(world: &World, system: System, running: &Running, effort: &Effort) -> Result<Vec<Figure>> {
    let (to, seconds) = (echo(system), effort.seconds.to_string());
    let pids = both(running);
    let before = cpu_seconds(&pids);
    let limit = Duration::from_secs(effort.seconds.into()) + SLACK;
    let answers: Answers = world.load(&["requests", &to, "--seconds", &seconds], limit)?;
    let spent = cpu_seconds(&pids) - before;
    let micros = |value: u64| f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / 1000.0;
    let due = f64::from(u32::try_from(answers.due).unwrap_or(u32::MAX));
    let unanswered = f64::from(u32::try_from(answers.unanswered).unwrap_or(u32::MAX));
    Ok(vec![
        ("p50", "ms", micros(answers.p50_us)),
        (P99, "ms", micros(answers.p99_us)),
        ("p99.9", "ms", micros(answers.p999_us)),
        ("unanswered", "requests", unanswered),
        ("CPU of both ends", "µs/request", spent * 1e6 / due),
    ])
}

fn opens(world: &World, system: System, running: &Running, effort: &Effort) -> Result<Vec<Figure>> {
    let (to, seconds) = (echo(system), (f64::from(effort.seconds) / 2.0).to_string());
    let limit = Duration::from_secs(effort.seconds.into()) + SLACK;
    let one: Opens = world.load(&["opens", &to, "--seconds", &seconds], limit)?;
    let (near, far) = (running.near(), running.far());
    let (near_before, far_before) = (cpu_seconds(&near), cpu_seconds(&far));
    let many: Opens = world.load(&["opens", &to, "--seconds", &seconds, "--workers", WORKERS], limit)?;
    // Two clock ticks at the least: less cannot be told from nothing.
    let near_spent = (cpu_seconds(&near) - near_before).max(0.02);
    let far_spent = (cpu_seconds(&far) - far_before).max(0.02);
    let count = f64::from(u32::try_from(many.opened).unwrap_or(u32::MAX));
    let failed = f64::from(u32::try_from(one.failed + many.failed).unwrap_or(u32::MAX));
    Ok(vec![
        ("opens, 16 at a time", "1/s", many.per_second),
        (OPENS_PER_CPU, "1/s", count / far_spent),
        ("opens per gateway CPU second", "1/s", count / near_spent),
        (OPEN_P50, "ms", f64::from(u32::try_from(one.p50_us).unwrap_or(u32::MAX)) / 1000.0),
        ("failed", "opens", failed),
    ])
}

fn desktop(world: &World, system: System, running: &Running, effort: &Effort) -> Result<Vec<Figure>> {
    let (to, seconds) = (echo(system), effort.seconds.to_string());
    let keys = ["requests", &to, "--rate", "100", "--size", "200", "--connections", "1", "--seconds", &seconds];
    let limit = Duration::from_secs(effort.seconds.into()) + SLACK;
    let alone: Answers = world.load(&keys, limit)?;
    let copying = Effort { seconds: effort.seconds + 2, ..*effort };
    let (copied, beside) = thread::scope(|scope| {
        let copy = scope.spawn(|| flow(world, system, running, &[], &copying));
        // Until the copy has filled the line.
        thread::sleep(Duration::from_secs(1));
        let beside: Result<Answers> = world.load(&keys, limit);
        (copy.join(), beside)
    });
    let (copied, beside) = (copied.map_err(|_| anyhow::anyhow!("a copy panicked"))??, beside?);
    let millis = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
    let speed = copied.iter().find(|(metric, _, _)| *metric == THROUGHPUT).map_or(f64::NAN, |(_, _, value)| *value);
    Ok(vec![
        ("p50, alone", "ms", millis(alone.p50_us)),
        ("p99, alone", "ms", millis(alone.p99_us)),
        ("p50, beside the copy", "ms", millis(beside.p50_us)),
        ("p99, beside the copy", "ms", millis(beside.p99_us)),
        ("the copy", "Mbit/s", speed * 1000.0),
    ])
}

fn memory(world: &World, system: System, running: &Running, effort: &Effort) -> Result<Vec<Figure>> {
    thread::sleep(SETTLE);
    let (near, far) = (resident(&running.near()), resident(&running.far()));
    let held = Held::open(world, &echo(system), effort.streams)?;
    thread::sleep(SETTLE);
    let (near_full, far_full) = (resident(&running.near()), resident(&running.far()));
    drop(held);
    let count = f64::from(u32::try_from(effort.streams).unwrap_or(u32::MAX));
    Ok(vec![
        ("gateway's side, idle", "MiB", near / MIB),
        ("agent's side, idle", "MiB", far / MIB),
        ("gateway's side, per stream", "KiB", (near_full - near) / 1024.0 / count),
        ("agent's side, per stream", "KiB", (far_full - far) / 1024.0 / count),
    ])
}

/// Idle connections, held by a load maker.
struct Held(Child);

impl Held {
    fn open(world: &World, to: &str, count: usize) -> Result<Self> {
        let mut command = world.user.command(world.program("bench-load"));
        command.args(["idle", to, "--count", &count.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut held = Self(child);
        let mut line = String::new();
        BufReader::new(held.0.stdout.take().context("no output")?).read_line(&mut line)?;
        if line.trim() != "ready" {
            let mut said = String::new();
            if let Some(mut stderr) = held.0.stderr.take() {
                std::io::Read::read_to_string(&mut stderr, &mut said)?;
            }
            anyhow::bail!("idle streams could not be opened: {}", said.trim());
        }
        Ok(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The end of its input tells it to go; after that nothing can be done for it.
        if let Some(mut input) = self.0.stdin.take() {
            let _flushed = input.flush();
        }
        let _ended = self.0.wait();
    }
}

fn both(running: &Running) -> Vec<u32> {
    [running.near(), running.far()].concat()
}

fn echo(system: System) -> String {
    format!("{GATE_FOR_USERS}:{}", system.ports().echo)
}
