//! Logs: to standard error, as text or JSON, filtered by `RUST_LOG` (default `info`).

use std::{
    panic,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

/// How a line of log looks.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging for the whole process.
///
/// # Errors
/// When `RUST_LOG` is not a filter, or logging was started before.
pub(crate) fn start(format: Format) -> anyhow::Result<()> {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .from_env()
        .context("RUST_LOG is not a log filter; try RUST_LOG=info")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    report_panics();
    Ok(())
}

/// Panics of this process so far.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// A panic is a defect that costs one task: it is counted and logged where alarms look. What it says may hold what a
/// stranger sent, so only its place is told.
fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        let count = PANICS.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(panics = count, place, "a task has panicked; this is a defect of sluice, please report it");
    }));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::sync::atomic::Ordering;

    #[test]
    fn a_panic_is_counted_and_costs_its_own_thread_only() {
        super::report_panics();
        let before = super::PANICS.load(Ordering::Relaxed);
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err());
        assert_eq!(super::PANICS.load(Ordering::Relaxed), before + 1);
        drop(std::panic::take_hook());
    }
}
