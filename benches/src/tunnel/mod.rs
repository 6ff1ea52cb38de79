//! `bench tunnel`: our tunnel beside its peers, between the same namespaces, over a cable and over a bad line.

mod bars;
mod cases;
mod systems;
mod usage;
mod world;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use sluice_netns_tests::{
    emulator::{Direction, Shape},
    process::Process,
};
use tempfile::TempDir;

use crate::report::{Host, Report, Samples};
use cases::{Case, Effort};
use systems::{Running, System};
use world::{Line, World};

/// What to measure and how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder of the peers that `cargo xtask` installed.
    pub peers: PathBuf,
    /// Folder of `bench-gate`, `bench-agent` and `bench-load`.
    pub programs: PathBuf,
    /// Only cases whose name holds this.
    pub only: Option<String>,
    /// Only systems whose name holds this, ours and theirs.
    pub systems: Vec<String>,
    /// Fewer and shorter runs: for development, not for publishing.
    pub quick: bool,
}

/// A plain cable.
const CABLE: Line = Line { name: "0 ms", shape: None, by_priority: None };
/// 40 ms there and back, one packet of a hundred lost each way.
const BAD_LINE: Line = Line {
    name: "40 ms, 1 % loss",
    shape: Some(Shape {
        delay: Duration::from_millis(20),
        loss_ppm: 10_000,
        rate: Some(500_000_000),
        queue: 2_500_000,
        mtu: 1500,
        seed: 40,
    }),
    by_priority: None,
};
/// A branch's line, 20 ms there and back.
const BRANCH: Line = Line {
    name: "20 Mbit/s",
    shape: Some(Shape {
        delay: Duration::from_millis(10),
        loss_ppm: 0,
        rate: Some(20_000_000),
        queue: 250_000,
        mtu: 1500,
        seed: 20,
    }),
    by_priority: Some(19_000_000),
};
/// Runs of each case that count.
const RUNS: usize = 5;
const QUICK_RUNS: usize = 1;

/// Measures, interleaved: every run of a case goes through all systems before the next one begins.
///
/// # Errors
/// The world cannot be built, or one of our own systems fails.
pub fn run(options: &Options) -> Result<Report> {
    let mut bench = Bench::new(options)?;
    for line in [&CABLE, &BAD_LINE, &BRANCH] {
        bench.measure(line).with_context(|| format!("at {}", line.name))?;
    }
    let mut report =
        Report { bench: "tunnel".to_owned(), host: Host::here(), rows: bench.samples.into_rows(), ratios: Vec::new() };
    ensure!(!report.rows.is_empty(), "no case of any system is wanted, or none gave a figure");
    report.ratios = bars::judge(&report, &[CABLE.name, BAD_LINE.name]);
    Ok(report)
}

struct Bench<'a> {
    options: &'a Options,
    folder: TempDir,
    systems: Vec<(System, String)>,
    cases: Vec<Case>,
    runs: usize,
    samples: Samples,
    began: Instant,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let wanted = |system: &System| {
            options.systems.is_empty() || options.systems.iter().any(|name| system.name().contains(name.as_str()))
        };
        let systems: Result<Vec<_>> = systems::ALL
            .into_iter()
            .filter(wanted)
            .map(|system| Ok((system, system.version(&options.peers)?)))
            .collect();
        Ok(Self {
            options,
            folder: tempfile::tempdir()?,
            systems: systems?,
            cases: cases::ALL.to_vec(),
            runs: if options.quick { QUICK_RUNS } else { RUNS },
            samples: Samples::default(),
            began: Instant::now(),
        })
    }

    /// A long line needs longer runs, because every flow starts slowly, and takes longer to open streams.
    fn effort(&self, world: &World) -> Effort {
        let (seconds, streams) = if world.emulator.is_some() { (3, 100) } else { (2, systems::MOST_STREAMS) };
        Effort { seconds: if self.options.quick { 1 } else { seconds }, streams }
    }

    /// Whether `--only` wants this case on this line.
    fn wanted(&self, case: Case, line: &Line) -> bool {
        let name = case_name(case, line);
        // A desktop beside a copy is what a branch's line is there for.
        (case == Case::Desktop) == (*line == BRANCH)
            && self.options.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    fn measure(&mut self, line: &Line) -> Result<()> {
        let cases: Vec<Case> = self.cases.iter().copied().filter(|case| self.wanted(*case, line)).collect();
        if cases.is_empty() {
            return Ok(());
        }
        let folder = self.folder.path().join(line.name.split(' ').next().unwrap_or_default());
        fs::create_dir_all(&folder)?;
        if *line == BAD_LINE {
            let ceiling = ceiling(&folder, &self.options.programs)?;
            self.tell(&format!("the line emulator alone carries {ceiling:.2} Gbit/s of single frames"));
        }
        let world = World::new(line, &folder, &self.options.programs)?;
        self.tell(&format!("line: {}; TCP congestion control everywhere: {}", line.name, world.congestion_control()?));
        if cases.contains(&Case::Memory) {
            self.measure_memory(&world, line)?;
        }
        let mut running = Vec::new();
        if cases.iter().any(|case| *case != Case::Memory) {
            for (system, _) in &self.systems {
                running.push(system.start(&world, &self.options.peers)?);
            }
        }
        for case in cases.into_iter().filter(|case| *case != Case::Memory) {
            self.interleave(case, &world, line, &running)?;
        }
        self.check_line(&world)
    }

    /// Each run starts the system anew, so that no other load has grown it.
    fn measure_memory(&mut self, world: &World, line: &Line) -> Result<()> {
        for run in 0..self.runs {
            for (system, version) in self.systems.clone() {
                let figures = system
                    .start(world, &self.options.peers)
                    .and_then(|running| Case::Memory.run(world, system, &running, &self.effort(world)));
                self.take(Case::Memory, line, run, (system, &version), figures)?;
            }
        }
        Ok(())
    }

    fn interleave(&mut self, case: Case, world: &World, line: &Line, running: &[Running]) -> Result<()> {
        for run in 0..self.runs {
            for ((system, version), running) in self.systems.clone().iter().zip(running) {
                let figures = case.run(world, *system, running, &self.effort(world));
                self.take(case, line, run, (*system, version), figures)?;
            }
        }
        Ok(())
    }

    /// Books one run. A peer's failure is told and leaves a gap; one of ours ends the bench.
    fn take(
        &mut self,
        case: Case,
        line: &Line,
        run: usize,
        (system, version): (System, &str),
        figures: Result<Vec<cases::Figure>>,
    ) -> Result<()> {
        let name = case_name(case, line);
        let figures = match figures {
            Ok(figures) => figures,
            Err(error) if system.ours() => {
                return Err(error.context(format!("{name}, {}", system.name())));
            }
            Err(error) => {
                self.tell(&format!("{name}, {}: run {} failed: {error:#}", system.name(), run + 1));
                return Ok(());
            }
        };
        let shown: Vec<String> =
            figures.iter().map(|(metric, unit, value)| format!("{metric} {value:.3} {unit}")).collect();
        self.tell(&format!("{name} {}/{}: {:<14} {}", run + 1, self.runs, system.name(), shown.join(", ")));
        for (metric, unit, value) in figures {
            self.samples.add(&name, (system.name(), version), (metric, unit), value);
        }
        Ok(())
    }

    /// An emulator that dropped frames of its own accord has measured itself.
    fn check_line(&self, world: &World) -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let Some(emulator) = &world.emulator else { return Ok(()) };
        for direction in [Direction::Forth, Direction::Back] {
            let counters = emulator.counters(direction);
            let (taken, overrun) = (counters.taken.load(Relaxed), counters.overrun.load(Relaxed));
            let (lost, dropped) = (counters.lost.load(Relaxed), counters.dropped.load(Relaxed));
            self.tell(&format!(
                "line, {direction:?}: {taken} frames, {lost} lost, {dropped} dropped by its queue, {overrun} overrun"
            ));
            if overrun > taken / 10_000 {
                bail!("the emulator was too slow: {overrun} of {taken} frames overran it");
            }
        }
        Ok(())
    }

    fn tell(&self, text: &str) {
        say(&format!("[{:>4.0} s] {text}", self.began.elapsed().as_secs_f64()));
    }
}

fn case_name(case: Case, line: &Line) -> String {
    format!("{}, {}", case.name(), line.name)
}

/// Gbit/s of one TCP flow through an emulator that adds nothing: what a measurement over it can at most show.
fn ceiling(folder: &Path, programs: &Path) -> Result<f64> {
    #[derive(Deserialize)]
    struct Sum {
        bits_per_second: f64,
    }
    #[derive(Deserialize)]
    struct End {
        sum_received: Sum,
    }
    #[derive(Deserialize)]
    struct Iperf {
        end: End,
    }
    let line = Line { name: "emulator", shape: Some(Shape::default()), by_priority: None };
    let world = World::new(&line, folder, programs)?;
    let mut server = world.agent.command("iperf3");
    server.args(["-s", "-p", &world::BULK_PORT.to_string()]);
    let mut server = Process::start("ceiling", server, folder)?;
    let place = SocketAddr::from((world::AGENT_FOR_GATE, world::BULK_PORT));
    server.wait_for_port(&world.agent, place, Duration::from_secs(10))?;
    let mut client = world.gate.command("iperf3");
    client.args(["-c", &world::AGENT_FOR_GATE.to_string(), "-p", &world::BULK_PORT.to_string(), "-J", "-t", "2"]);
    let report: Iperf = world.json(&client, Duration::from_secs(20))?;
    Ok(report.end.sum_received.bits_per_second / 1e9)
}

/// One line for the person at the terminal.
#[expect(clippy::print_stderr, reason = "the bench talks to a terminal; its result goes to standard output")]
fn say(text: &str) {
    eprintln!("{text}");
}
