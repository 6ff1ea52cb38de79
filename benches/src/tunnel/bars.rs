//! Which figure is compared with whose, and what it must reach (docs/performance.md, "Bars").

use super::{
    cases::{Case, OPEN_P50, OPENS_PER_CPU, P99, THROUGHPUT},
    systems::System,
};
use crate::report::{Better, Ratio, Report};

/// Streams an agent must open for each second of its processor time.
const OPENS_PROMISED: f64 = 3000.0;
/// Milliseconds in which half of the streams must be open on a plain cable.
const OPEN_PROMISED_MS: f64 = 1.0;
/// A bar that says "no worse".
const NO_WORSE: Option<f64> = Some(1.0);

/// Everything that is compared, on each of the named lines.
#[must_use]
pub(super) fn judge(report: &Report, lines: &[&str]) -> Vec<Ratio> {
    let mut ratios = Vec::new();
    for line in lines {
        for case in [Case::FlowUp, Case::FlowDown, Case::TenFlows] {
            compare(report, (case, line), (THROUGHPUT, Better::Higher), throughput_bar, &mut ratios);
        }
        compare(report, (Case::Requests, line), (P99, Better::Lower), p99_bar, &mut ratios);
        promise(report, line, (OPENS_PER_CPU, Better::Higher, OPENS_PROMISED, "3,000/s"), NO_WORSE, &mut ratios);
        // The round trips of a long line are not ours to shorten.
        if lines.first() == Some(line) {
            promise(report, line, (OPEN_P50, Better::Lower, OPEN_PROMISED_MS, "1 ms"), NO_WORSE, &mut ratios);
        }
    }
    ratios
}

/// Over TCP we are measured by encrypted rathole, over QUIC by rusnel. Ten flows are shown only.
fn throughput_bar(case: Case, ours: System, theirs: System) -> Option<f64> {
    let rivals = match ours {
        System::SluiceTcp => matches!(theirs, System::RatholeNoise | System::RatholeTls),
        _ => theirs == System::Rusnel,
    };
    if rivals && case != Case::TenFlows { NO_WORSE } else { None }
}

/// Over TCP we are measured by everything over TCP, over QUIC by rusnel.
fn p99_bar(_: Case, ours: System, theirs: System) -> Option<f64> {
    if (ours == System::SluiceTcp) == (theirs == System::Rusnel) { None } else { NO_WORSE }
}

fn compare(
    report: &Report,
    (case, line): (Case, &str),
    (metric, better): (&str, Better),
    bar: fn(Case, System, System) -> Option<f64>,
    ratios: &mut Vec<Ratio>,
) {
    let name = format!("{}, {line}", case.name());
    for ours in super::systems::ALL.into_iter().filter(|system| system.ours()) {
        let Some(own) = report.median(&name, ours.name(), metric) else { continue };
        for theirs in super::systems::ALL.into_iter().filter(|system| !system.ours()) {
            let Some(other) = report.median(&name, theirs.name(), metric) else { continue };
            ratios.push(Ratio {
                case: format!("{name} ({})", ours.name()),
                metric: metric.to_owned(),
                better,
                against: theirs.name().to_owned(),
                ratio: Ratio::of(better, own, other),
                bar: bar(case, ours, theirs),
            });
        }
    }
}

fn promise(
    report: &Report,
    line: &str,
    (metric, better, promised, words): (&str, Better, f64, &str),
    bar: Option<f64>,
    ratios: &mut Vec<Ratio>,
) {
    let name = format!("{}, {line}", Case::Opens.name());
    for ours in super::systems::ALL.into_iter().filter(|system| system.ours()) {
        let Some(own) = report.median(&name, ours.name(), metric) else { continue };
        ratios.push(Ratio {
            case: format!("{name} ({})", ours.name()),
            metric: metric.to_owned(),
            better,
            against: words.to_owned(),
            ratio: Ratio::of(better, own, promised),
            bar,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::judge;
    use crate::report::{Host, Report, Samples};

    fn report(figures: &[(&str, &str, &str, f64)]) -> Report {
        let mut samples = Samples::default();
        for (case, system, metric, value) in figures {
            samples.add(case, (system, "1"), (metric, "x"), *value);
        }
        let host = Host { cpus: 2, kernel: String::new() };
        let mut report = Report { bench: "tunnel".to_owned(), host, rows: samples.into_rows(), ratios: Vec::new() };
        report.ratios = judge(&report, &["0 ms"]);
        report
    }

    #[test]
    fn slower_than_encrypted_rathole_is_a_miss_and_slower_than_plain_rathole_is_not() {
        let case = "one flow up, 0 ms";
        let ours = (case, "sluice tcp", "throughput", 2.0);
        assert!(report(&[ours, (case, "rathole plain", "throughput", 5.0)]).passed());
        assert!(report(&[ours, (case, "rathole TLS", "throughput", 2.0)]).passed());
        assert!(!report(&[ours, (case, "rathole TLS", "throughput", 2.1)]).passed());
    }

    #[test]
    fn a_longer_tail_than_any_peers_is_a_miss() {
        let case = "4,000 requests/s of 1 KB, 0 ms";
        let ours = (case, "sluice tcp", "p99", 2.0);
        assert!(report(&[ours, (case, "ssh -R", "p99", 2.5)]).passed());
        assert!(!report(&[ours, (case, "ssh -R", "p99", 1.5)]).passed());
    }

    #[test]
    fn promises_are_kept_by_our_own_figures() {
        let case = "opening streams, 0 ms";
        let kept = report(&[
            (case, "sluice tcp", "opens per agent CPU second", 3001.0),
            (case, "sluice tcp", "p50, one by one", 0.9),
        ]);
        assert!(kept.passed() && kept.ratios.len() == 2, "{:?}", kept.ratios);
        assert!(!report(&[(case, "sluice tcp", "p50, one by one", 1.1)]).passed());
    }
}
