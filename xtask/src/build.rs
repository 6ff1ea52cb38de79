//! Cargo calls: where things are built and how the demo is started.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{Bench, Claim, Demo, install, peers, say};

/// Cargo, in the workspace, building into [`target_folder`].
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?).env("CARGO_TARGET_DIR", target_folder()?);
    Ok(command)
}

/// The workspace's folder.
pub(crate) fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(Path::to_owned).context("xtask lies in no workspace")
}

/// The folder that outlives a checkout: `$XDG_CACHE_HOME/sluice` or `~/.cache/sluice`.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("sluice"))
}

/// What was asked for; in CI the cache (fresh checkouts share it), else `target`.
fn target_folder() -> Result<PathBuf> {
    match env::var_os("CARGO_TARGET_DIR") {
        Some(asked) => Ok(root()?.join(asked)),
        None if env::var_os("CI").is_some() => Ok(cache()?.join("target")),
        None => Ok(root()?.join("target")),
    }
}

/// Installs, builds and runs the demo; true when it exited with 0.
pub(crate) fn demo(arguments: &Demo) -> Result<bool> {
    install::install()?;
    binaries()?;
    Ok(demo_command(arguments)?.status().context("cannot start the demo")?.success())
}

/// Builds the two binaries the demo consists of.
pub(crate) fn binaries() -> Result<()> {
    say("building sluice and the demo");
    let built = cargo()?.args(["build", "--locked", "-p", "sluice", "-p", "sluice-netns-tests", "--bins"]).status()?;
    if !built.success() {
        bail!("the build failed");
    }
    Ok(())
}

/// Installs, builds for speed and runs a bench; true when every bar was reached.
pub(crate) fn bench(arguments: &Bench) -> Result<bool> {
    install::install()?;
    let Claim::Tunnel = arguments.claim;
    let peers = peers::tunnels()?;
    say("building the bench for release");
    let built = cargo()?.args(["build", "--locked", "--release", "-p", "sluice-benches", "--bins"]).status()?;
    if !built.success() {
        bail!("the build failed");
    }
    let mut command = Command::new(target_folder()?.join("release/bench"));
    command.args(["tunnel", "--peers"]).arg(peers);
    if let Some(file) = &arguments.json {
        command.arg("--json").arg(file);
    }
    if let Some(only) = &arguments.only {
        command.args(["--only", only]);
    }
    for system in &arguments.systems {
        command.args(["--system", system]);
    }
    if arguments.quick {
        command.arg("--quick");
    }
    Ok(command.status().context("cannot start the bench")?.success())
}

pub(crate) fn demo_command(arguments: &Demo) -> Result<Command> {
    let binaries = target_folder()?.join("debug");
    let mut command = Command::new(binaries.join("demo"));
    command.arg("--sluice").arg(binaries.join("sluice"));
    if arguments.once {
        command.arg("--once");
    }
    if arguments.json {
        command.arg("--json");
    }
    if let Some(step) = arguments.r#break {
        command.args(["--break", &step.to_string()]);
    }
    if let Some(folder) = &arguments.keep_logs {
        command.arg("--keep-logs").arg(folder);
    }
    Ok(command)
}
