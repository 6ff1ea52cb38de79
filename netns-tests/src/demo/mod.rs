//! The whole story in eleven steps on real programs; each step says what it observed, or the demo fails.

mod confinement;
pub mod hostile;
mod hub;
pub mod peer;
mod reach;
mod report;
mod roles;
mod step_application;
mod step_crash;
mod step_hub;
mod step_line;
mod step_start;
mod world;

use std::path::PathBuf;

use anyhow::Result;

pub use self::report::{Report, StepReport};
use self::{report::Evidence, world::World};

/// What is asked of the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `sluice` binary.
    pub sluice: PathBuf,
    /// The demo's own binary, whose subcommands run inside the namespaces.
    pub demo: PathBuf,
    /// Sabotage the world (never the verdict) of this step.
    pub broken: Option<u8>,
    /// Copy every program's log here at the end.
    pub keep_logs: Option<PathBuf>,
}

/// One step.
struct Step {
    title: &'static str,
    run: fn(&mut World, &mut Evidence) -> Result<()>,
}

/// How many steps there are.
pub const STEPS: u8 = 11;

const STORY: [Step; STEPS as usize] = [
    Step { title: "control, gateway, connector and edge are up, joined by code", run: step_start::joined },
    Step { title: "the data centre has no port that answers from outside", run: step_start::no_inbound },
    Step { title: "the hub has a lease, is recognised, reaches nothing but staging", run: step_hub::staged },
    Step { title: "the hub discovers, enrols by EST, checks in and leaves staging", run: step_hub::enrolled },
    Step { title: "full sync of Roundup's issues through the tunnel", run: step_application::synced },
    Step { title: "one sign-on opens Roundup's page through the gateway", run: step_application::signed_in },
    Step { title: "an assignment becomes a card of that user and of nobody else", run: step_application::carded },
    Step { title: "\"resolve\" changes Roundup as that user and closes the card", run: step_application::resolved },
    Step { title: "probes stay fast while four bulk flows fill the line", run: step_line::full },
    Step { title: "a revoked hub's traffic stops", run: step_hub::revoked },
    Step { title: "control killed and restarted: nothing lost, nodes never noticed", run: step_crash::survived },
];

/// A demo that has told its story; its world is still up.
#[derive(Debug)]
pub struct Told {
    /// What was observed.
    pub report: Report,
    world: Option<World>,
    keep_logs: Option<PathBuf>,
}

impl Told {
    /// Where to look around while the world is up.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        self.world.as_ref().map(World::places).unwrap_or_default()
    }

    /// Takes the world down and keeps the logs if that was asked for, or if a step failed.
    ///
    /// # Errors
    /// The logs cannot be copied.
    pub fn end(mut self) -> Result<Option<PathBuf>> {
        match self.world.take() {
            Some(world) => world.end(self.keep_logs.take(), !self.report.ok),
            None => Ok(None),
        }
    }
}

/// Builds the world and runs the steps until one is not observed. `tell` hears of each step as it ends.
///
/// # Errors
/// The world itself cannot be built (not root, a program is missing).
pub fn run(options: &Options, mut tell: impl FnMut(&StepReport)) -> Result<Told> {
    let mut world = World::build(options)?;
    let mut report = Report::new(options.broken);
    for (number, step) in (1..).zip(&STORY) {
        let mut evidence = Evidence::start();
        let result = (step.run)(&mut world, &mut evidence).and_then(|()| world.roles.no_errors());
        let ended = evidence.end(number, step.title, result);
        tell(&ended);
        let ok = ended.ok;
        report.steps.push(ended);
        if !ok {
            break;
        }
    }
    report.conclude(STEPS);
    Ok(Told { report, world: Some(world), keep_logs: options.keep_logs.clone() })
}
