//! Programs that the benches measure us beside, built from crates.io into the cache folder.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{build::cache, say};

/// A crate that installs a program.
struct Peer {
    name: &'static str,
    version: &'static str,
    /// Whether its own lock file still compiles. rathole 0.5.0 pins a `time` that compilers since 1.80 refuse.
    locked: bool,
}

const TUNNELS: [Peer; 3] = [
    Peer { name: "rathole", version: "0.5.0", locked: false },
    Peer { name: "rusnel", version: "0.11.2", locked: true },
    Peer { name: "bore-cli", version: "0.6.0", locked: true },
];

/// Builds what is missing, each into `<folder>/<name>-<version>`; gives the folder.
pub(crate) fn tunnels() -> Result<PathBuf> {
    let folder = cache()?.join("peers");
    for Peer { name, version, locked } in TUNNELS {
        let root = folder.join(format!("{name}-{version}"));
        // cargo writes this file last.
        if root.join(".crates.toml").exists() {
            continue;
        }
        say(&format!("building {name} {version} from crates.io into {} (a few minutes)", root.display()));
        fs::create_dir_all(&root)?;
        let mut install = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // Outside the workspace, whose settings are not theirs.
        install.current_dir(&folder).args(["install", "--version", version, name, "--root"]).arg(&root);
        if locked {
            install.arg("--locked");
        }
        if !install.status().context("cannot start cargo")?.success() {
            bail!("{name} {version} could not be built");
        }
    }
    Ok(folder)
}
