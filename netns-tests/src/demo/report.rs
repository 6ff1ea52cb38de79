//! What a step saw, how long it took, and what the person at the terminal reads of it.

use std::{collections::BTreeMap, time::Instant};

use anyhow::Result;
use serde::Serialize;

/// Collects what a step observes.
#[derive(Debug)]
pub(super) struct Evidence {
    started: Instant,
    observed: Vec<String>,
    figures: BTreeMap<String, f64>,
}

/// One step's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct StepReport {
    /// 1 to 11.
    pub number: u8,
    /// What the step is about.
    pub title: String,
    /// Whether everything it promises was observed.
    pub ok: bool,
    /// Sentences.
    pub observed: Vec<String>,
    /// Measured values by name; the name ends in the unit.
    pub figures: BTreeMap<String, f64>,
    /// How long the step took.
    pub seconds: f64,
    /// What was not observed, and why.
    pub error: Option<String>,
}

/// The whole demo's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// All steps were observed.
    pub ok: bool,
    /// The step whose world was sabotaged.
    pub broken: Option<u8>,
    /// Steps that ran.
    pub steps: Vec<StepReport>,
}

impl Evidence {
    pub(super) fn start() -> Self {
        Self { started: Instant::now(), observed: Vec::new(), figures: BTreeMap::new() }
    }

    /// Something seen, as a sentence.
    pub(super) fn saw(&mut self, sentence: impl Into<String>) {
        self.observed.push(sentence.into());
    }

    /// Something measured; the name ends in its unit.
    pub(super) fn measured(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), (value * 1000.0).round() / 1000.0);
    }

    pub(super) fn end(self, number: u8, title: &str, result: Result<()>) -> StepReport {
        StepReport {
            number,
            title: title.to_owned(),
            ok: result.is_ok(),
            observed: self.observed,
            figures: self.figures,
            seconds: (self.started.elapsed().as_secs_f64() * 10.0).round() / 10.0,
            error: result.err().map(|error| format!("{error:#}")),
        }
    }
}

impl StepReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let verdict = if self.ok { "ok" } else { "NOT OBSERVED" };
        let mut text = format!("{:>2}  {:<68} {verdict:>12} {:>6.1} s", self.number, self.title, self.seconds);
        for line in self.observed.iter().chain(&self.error) {
            text.push_str(&format!("\n      {}", line.trim_end().replace('\n', "\n        ")));
        }
        text
    }
}

impl Report {
    pub(super) fn new(broken: Option<u8>) -> Self {
        Self { ok: false, broken, steps: Vec::new() }
    }

    pub(super) fn conclude(&mut self, steps: u8) {
        self.ok = self.steps.len() == usize::from(steps) && self.steps.iter().all(|step| step.ok);
    }

    /// One closing line for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let seconds: f64 = self.steps.iter().map(|step| step.seconds).sum();
        match self.steps.iter().find(|step| !step.ok) {
            None => format!("all {} steps observed in {seconds:.0} s", self.steps.len()),
            Some(step) => format!("step {} was not observed: {}", step.number, step.title),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Report};

    #[test]
    fn a_demo_is_ok_only_with_every_step_observed() {
        let mut report = Report::new(None);
        report.steps.push(Evidence::start().end(1, "one", Ok(())));
        report.conclude(2);
        assert!(!report.ok, "a missing step is not an observed one");
        report.steps.push(Evidence::start().end(2, "two", Err(anyhow::anyhow!("no"))));
        report.conclude(2);
        assert!(!report.ok);
        assert!(report.summary().contains("step 2"));
    }
}
