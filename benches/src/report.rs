//! What a bench found: rows, ratios and bars, as JSON and as tables.

use std::{collections::BTreeMap, fmt::Write};

use serde::{Deserialize, Serialize};

use crate::stats::median;

/// A bench's whole result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which bench.
    pub bench: String,
    /// Where it ran.
    pub host: Host,
    /// One for each figure.
    pub rows: Vec<Row>,
    /// Us beside others.
    pub ratios: Vec<Ratio>,
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Processors.
    pub cpus: usize,
    /// Kernel release.
    pub kernel: String,
}

/// One figure of one system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was done.
    pub case: String,
    /// By whom.
    pub system: String,
    /// Of which version.
    pub version: String,
    /// What was measured.
    pub metric: String,
    /// In what.
    pub unit: String,
    /// Every run's value, in order.
    pub samples: Vec<f64>,
    /// The middle one.
    pub median: f64,
}

/// Us against another, or against a promise; at least 1 always means that we win.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What was done, and which of our systems did it.
    pub case: String,
    /// What was measured.
    pub metric: String,
    /// Which way is better.
    pub better: Better,
    /// Who is compared with, or what was promised.
    pub against: String,
    /// Ours over theirs, or theirs over ours, so that more is better.
    pub ratio: f64,
    /// What it must reach; none: it is only shown.
    pub bar: Option<f64>,
}

/// Which way a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

impl Host {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self { cpus, kernel: kernel.trim().to_owned() }
    }
}

impl Ratio {
    /// Of two values.
    #[must_use]
    pub fn of(better: Better, ours: f64, theirs: f64) -> f64 {
        match better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        }
    }

    /// Whether its bar was missed; what is not a number misses every bar.
    #[must_use]
    pub fn misses(&self) -> bool {
        self.bar.is_some_and(|bar| self.ratio.is_nan() || self.ratio < bar)
    }
}

/// Collects samples; figures keep the order in which they first came.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    rows: Vec<Row>,
}

impl Samples {
    /// One run's value.
    pub fn add(&mut self, case: &str, (system, version): (&str, &str), (metric, unit): (&str, &str), value: f64) {
        let same = |row: &&mut Row| row.case == case && row.system == system && row.metric == metric;
        if let Some(row) = self.rows.iter_mut().find(same) {
            row.samples.push(value);
            return;
        }
        self.rows.push(Row {
            case: case.to_owned(),
            system: system.to_owned(),
            version: version.to_owned(),
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            samples: vec![value],
            median: value,
        });
    }

    /// Every figure with its median.
    #[must_use]
    pub fn into_rows(self) -> Vec<Row> {
        let with_median = |row: Row| Row { median: median(&row.samples).unwrap_or(f64::NAN), ..row };
        self.rows.into_iter().map(with_median).collect()
    }
}

impl Report {
    /// The median of one figure.
    #[must_use]
    pub fn median(&self, case: &str, system: &str, metric: &str) -> Option<f64> {
        let found = self.rows.iter().find(|row| row.case == case && row.system == system && row.metric == metric);
        found.map(|row| row.median)
    }

    /// Whether every bar was reached.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.ratios.iter().any(Ratio::misses)
    }

    /// For people: one table (Markdown) for each case, one line for each comparison.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{} on {} processors, Linux {}\n", self.bench, self.host.cpus, self.host.kernel);
        let mut cases: Vec<&str> = Vec::new();
        for row in &self.rows {
            if !cases.contains(&row.case.as_str()) {
                cases.push(&row.case);
            }
        }
        for case in cases {
            self.table(case, &mut text);
        }
        text.push_str("\n| ours | metric | against | ratio | bar | |\n|---|---|---|---:|---:|---|\n");
        for ratio in &self.ratios {
            let verdict = match (ratio.bar, ratio.misses()) {
                (None, _) => "",
                (Some(_), true) => "**missed**",
                (Some(_), false) => "ok",
            };
            let bar = ratio.bar.map_or_else(String::new, |bar| format!("{bar}"));
            let Ratio { case, metric, against, ratio, .. } = ratio;
            // Writing to a String cannot fail.
            let _written = writeln!(text, "| {case} | {metric} | {against} | {ratio:.2} | {bar} | {verdict} |");
        }
        text
    }

    fn table(&self, case: &str, text: &mut String) {
        let rows: Vec<&Row> = self.rows.iter().filter(|row| row.case == case).collect();
        let mut metrics: Vec<String> = Vec::new();
        let mut systems: Vec<(&str, BTreeMap<String, f64>)> = Vec::new();
        for row in rows {
            let metric = format!("{}, {}", row.metric, row.unit);
            if !metrics.contains(&metric) {
                metrics.push(metric.clone());
            }
            let name = row.system.as_str();
            match systems.iter_mut().find(|(system, _)| *system == name) {
                Some((_, cells)) => drop(cells.insert(metric, row.median)),
                None => systems.push((name, BTreeMap::from([(metric, row.median)]))),
            }
        }
        let _written = writeln!(text, "\n| {case} | {} |", metrics.join(" | "));
        let _written = writeln!(text, "|---|{}", "---:|".repeat(metrics.len()));
        for (system, cells) in systems {
            let cells: Vec<String> = metrics.iter().map(|metric| cell(cells.get(metric))).collect();
            let _written = writeln!(text, "| {system} | {} |", cells.join(" | "));
        }
    }
}

/// Three significant digits.
fn cell(value: Option<&f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::{Value, json};

    use super::{Better, Host, Ratio, Report, Samples};

    fn report(ratio: f64, bar: Option<f64>) -> Report {
        let mut samples = Samples::default();
        for value in [3.0, 1.0, 2.0] {
            samples.add("one flow", ("ours", "0.1"), ("throughput", "Gbit/s"), value);
        }
        samples.add("one flow", ("theirs", "9"), ("throughput", "Gbit/s"), 4.0);
        let ratio = Ratio {
            case: "one flow (ours)".to_owned(),
            metric: "throughput".to_owned(),
            better: Better::Higher,
            against: "theirs".to_owned(),
            ratio,
            bar,
        };
        let host = Host { cpus: 2, kernel: "6.1".to_owned() };
        Report { bench: "tunnel".to_owned(), host, rows: samples.into_rows(), ratios: vec![ratio] }
    }

    #[test]
    fn the_json_has_the_shape_that_was_promised() {
        let json = serde_json::to_value(report(0.5, Some(1.0))).unwrap();
        let row = json!({"case": "one flow", "system": "ours", "version": "0.1", "metric": "throughput",
            "unit": "Gbit/s", "samples": [3.0, 1.0, 2.0], "median": 2.0});
        let ratio = json!({"case": "one flow (ours)", "metric": "throughput", "better": "higher",
            "against": "theirs", "ratio": 0.5, "bar": 1.0});
        assert_eq!(json.get("host"), Some(&json!({"cpus": 2, "kernel": "6.1"})));
        assert_eq!(json.pointer("/rows/0"), Some(&row));
        assert_eq!(json.pointer("/ratios/0"), Some(&ratio));
        assert_eq!(json.get("bench"), Some(&Value::from("tunnel")));
    }

    #[test]
    fn a_missed_bar_fails_and_a_missing_bar_does_not() {
        assert!(report(1.0, Some(1.0)).passed());
        assert!(!report(0.999, Some(1.0)).passed());
        assert!(!report(f64::NAN, Some(1.0)).passed());
        assert!(report(0.1, None).passed());
    }

    #[test]
    fn a_ratio_of_at_least_one_means_that_we_win_whichever_way_is_better() {
        assert!(Ratio::of(Better::Higher, 3.0, 2.0) > 1.0);
        assert!(Ratio::of(Better::Lower, 3.0, 2.0) < 1.0);
    }

    #[test]
    fn the_table_names_every_system_and_every_miss() {
        let text = report(0.5, Some(1.0)).text();
        assert!(text.contains("| ours | 2.00 |") && text.contains("| theirs | 4.00 |"), "{text}");
        assert!(text.contains("**missed**"), "{text}");
    }
}
