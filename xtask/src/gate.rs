//! The gate: suites with declared budgets, run one after the other, and a closing table.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    build::{self, cargo},
    install, say,
};

/// One suite: what it is called, how many minutes it may take, what it runs.
struct Suite {
    name: &'static str,
    minutes: u64,
    run: fn() -> Result<Command>,
}

/// Every suite of the gate, in order; the minutes add up to less than 40. The first to compile pays for the C libraries.
const SUITES: [Suite; 8] = [
    Suite { name: "format", minutes: 1, run: || cargo_with(&["fmt", "--all", "--check"]) },
    Suite { name: "lints", minutes: 10, run: || cargo_with(&LINTS) },
    Suite { name: "build", minutes: 6, run: || cargo_with(&BUILD) },
    Suite { name: "tests", minutes: 9, run: || cargo_with(&TESTS) },
    Suite { name: "namespaces", minutes: 3, run: || cargo_with(&NAMESPACES) },
    Suite { name: "tunnels", minutes: 5, run: || cargo_with(&TUNNELS) },
    Suite { name: "demo", minutes: 2, run: whole_demo },
    Suite { name: "broken demos", minutes: 3, run: || cargo_with(&BROKEN) },
];

const LINTS: [&str; 7] = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
const BUILD: [&str; 5] = ["build", "--locked", "--workspace", "--bins", "--tests"];
const TESTS: [&str; 7] =
    ["test", "--locked", "--no-fail-fast", "--quiet", "--workspace", "--exclude", "sluice-netns-tests"];
const NAMESPACES: [&str; 13] = [
    "test",
    "--locked",
    "--no-fail-fast",
    "-p",
    "sluice-netns-tests",
    "--lib",
    "--bins",
    "--test=walls",
    "--test=requirements",
    "--test=line",
    "--test=directory",
    "--test=emulator",
    "--test=hostile",
];
/// One after the other: each has a fleet of its own, and what they tell of gaps should not tell of their neighbours.
const TUNNELS: [&str; 8] =
    ["test", "--locked", "--no-fail-fast", "-p", "sluice-netns-tests", "--test=tunnel", "--", "--test-threads=1"];
const BROKEN: [&str; 6] = ["test", "--locked", "-p", "sluice-netns-tests", "--test", "broken_demo"];

/// Full-size versions may take this many times a suite's budget.
const LONG: u64 = 10;

/// What became of a suite.
struct Outcome {
    suite: &'static Suite,
    passed: bool,
    took: Duration,
}

/// Installs, runs every suite to its end or its budget, prints the table; true when all passed.
pub(crate) fn run(long: bool) -> Result<bool> {
    install::install()?;
    let mut outcomes = Vec::new();
    for (number, suite) in SUITES.iter().enumerate() {
        say(&format!("== {}/{} {} (budget {} min)", number + 1, SUITES.len(), suite.name, suite.minutes));
        let started = Instant::now();
        let passed = within_budget(suite, long)?;
        let took = started.elapsed();
        say(&format!("== {}: {} after {}", suite.name, verdict(passed), minutes(took)));
        outcomes.push(Outcome { suite, passed, took });
    }
    print_table(&outcomes);
    Ok(outcomes.iter().all(|outcome| outcome.passed))
}

/// Runs the suite; one that outlives its budget is ended and has failed.
fn within_budget(suite: &Suite, long: bool) -> Result<bool> {
    let mut command = (suite.run)()?;
    let mut seconds = suite.minutes * 60;
    if long {
        command.env("SLUICE_LONG", "1");
        seconds *= LONG;
    }
    let mut timed = Command::new("timeout");
    timed.args(["--kill-after=20", &seconds.to_string()]);
    timed.arg(command.get_program()).args(command.get_args());
    timed.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    if let Some(folder) = command.get_current_dir() {
        timed.current_dir(folder);
    }
    let status = timed.status().with_context(|| format!("cannot start suite {}", suite.name))?;
    if status.code() == Some(124) {
        say(&format!("{} used up its budget of {} min and was ended", suite.name, seconds / 60));
    }
    Ok(status.success())
}

fn cargo_with(arguments: &[&str]) -> Result<Command> {
    let mut command = cargo()?;
    command.args(arguments);
    Ok(command)
}

fn whole_demo() -> Result<Command> {
    build::demo_command(&crate::Demo { once: true, r#break: None, keep_logs: None, json: false })
}

fn print_table(outcomes: &[Outcome]) {
    say("\nsuite          result  took      budget");
    for Outcome { suite, passed, took } in outcomes {
        say(&format!("{:<14} {:<7} {:<9} {} min", suite.name, verdict(*passed), minutes(*took), suite.minutes));
    }
    let total: Duration = outcomes.iter().map(|outcome| outcome.took).sum();
    say(&format!("total {}", minutes(total)));
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn minutes(time: Duration) -> String {
    format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::SUITES;

    #[test]
    fn budgets_add_up_to_less_than_forty_minutes() {
        assert!(SUITES.iter().map(|suite| suite.minutes).sum::<u64>() < 40);
    }
}
