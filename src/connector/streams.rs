//! `sluice connector streams`: what runs through this connector now.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::Context;
use serde_json::Value;

use super::local;
use crate::{
    admin::table,
    config::{self, connector::ConnectorConfig},
};

const COLUMNS: [&str; 10] =
    ["id", "subject", "caller", "resource", "target", "dialled", "gateway", "transport", "up", "down"];

/// Arguments of `sluice connector streams`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The connector's configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/sluice/connector.toml")]
    config: PathBuf,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// Prints them.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config: ConnectorConfig = config::load(&args.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")?;
    let (_, streams): (_, Value) = runtime.block_on(local::ask(config.status.listen, "/streams"))?;
    let text = if args.json {
        format!("{}\n", serde_json::to_string_pretty(&streams)?)
    } else {
        let items = streams.get("streams").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let total = streams.get("total").and_then(Value::as_u64).unwrap_or_default();
        format!("{}{total} streams, {} shown\n", table(&COLUMNS, items), items.len())
    };
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output is closed")?;
    Ok(ExitCode::SUCCESS)
}
