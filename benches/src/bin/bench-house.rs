//! Makes the keys and certificates that `bench-gate` and `bench-agent` show each other.

use std::path::PathBuf;

use clap::Parser;
use sluice_benches::house::House;

/// Make keys and certificates of one gateway and one connector
#[derive(Parser)]
#[command(name = "bench-house")]
struct Arguments {
    /// Folder to write them to; must not hold any yet
    folder: PathBuf,
}

fn main() -> anyhow::Result<()> {
    House::make(&Arguments::parse().folder).map(drop)
}
