//! Logs: to standard error, as text or JSON, filtered by `RUST_LOG` (default `info`).

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
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))
}
