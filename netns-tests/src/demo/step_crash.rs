//! Step 11: control is killed in the middle of its work and comes back.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    report::Evidence,
    step_start,
    world::{ROUNDUP_URL, World},
};
use crate::{admin::items, process::output};

/// Acknowledged writes to wait for before the kill.
const WRITES: usize = 12;
/// Named by a traffic rule that is set after the restart.
const NEW_PORT: u16 = 40_961;
/// Longest wait for the writer to notice and for the nodes to be heard again.
const SETTLE: Duration = Duration::from_secs(60);

/// Step 11.
pub(super) fn survived(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let nodes = world.roles.node_pids()?;
    let hubs = world.admin.tenant(&["hub", "list"])?;
    let keys = world.admin.tenant(&["node", "list"])?;
    let before = snapshot(&world.roles.data())?;
    let acknowledged = write_until_killed(world)?;
    let page = world.bob.open(ROUNDUP_URL).context("the gateway does not serve while control is gone")?;
    ensure!(page.says("Hello, bob"), "while control is gone bob does not get his page: {} {}", page.status, page.url);
    evidence.saw("while control was gone bob's session and Roundup's page went on working");
    if world.breaks(11) {
        restore(&world.roles.data(), &before)?;
    }
    let began = Instant::now();
    world.roles.start_control(&world.places)?;
    let sites = world.admin.tenant(&["site", "list"])?;
    evidence.measured("answers_again_s", began.elapsed().as_secs_f64());
    let there: Vec<&str> = items(&sites).iter().filter_map(|site| site.get("id").and_then(Value::as_str)).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|site| !there.contains(&site.as_str())).collect();
    ensure!(lost.is_empty(), "acknowledged before the kill and gone after it: {lost:?}");
    ensure!(world.admin.tenant(&["hub", "list"])? == hubs, "the hubs are not what they were");
    evidence.measured("acknowledged_writes", acknowledged.len() as f64);
    evidence.saw(format!("all {} writes acknowledged up to the kill are there", acknowledged.len()));
    ensure!(world.admin.tenant(&["node", "list"])? == keys, "a node joined again or took a new key");
    ensure!(world.roles.node_pids()? == nodes, "a node was restarted");
    heard_again(world, evidence)
}

/// Adds sites as fast as it can; control is killed in the middle. Gives those whose addition was acknowledged.
fn write_until_killed(world: &mut World) -> Result<Vec<String>> {
    let (tell, heard) = mpsc::sync_channel(1024);
    thread::scope(|scope| {
        let admin = &world.admin;
        let writer = scope.spawn(move || {
            for number in 0.. {
                let site = format!("crash-{number}");
                let words = ["site", "add", &site, "--name", "written", "--time-zone", "Europe/Berlin"];
                if admin.tenant(&words).is_err() || tell.send(site).is_err() {
                    return;
                }
            }
        });
        let mut acknowledged = Vec::new();
        while acknowledged.len() < WRITES {
            acknowledged.push(heard.recv_timeout(SETTLE).context("control acknowledges no writes")?);
        }
        world.roles.control.take().context("control does not run")?.kill()?;
        writer.join().ok().context("the writer panicked")?;
        acknowledged.extend(heard.iter());
        Ok(acknowledged)
    })
}

/// The nodes' feeds are live again when changes made now arrive: a traffic rule in the edge's kernel, a sync through the
/// connector.
fn heard_again(world: &World, evidence: &mut Evidence) -> Result<()> {
    let began = Instant::now();
    let policy = step_start::traffic_policy(&[("udp", NEW_PORT, "realtime")]).to_string();
    let file = world.admin.secret("qos-after.json", &policy)?;
    world.admin.tenant(&["qos", "set", "--file", &file])?;
    let rules = || output(world.places.edge.command("nft").args(["list", "chain", "inet", "sluice", "classify"]));
    while !rules()?.contains(&NEW_PORT.to_string()) {
        ensure!(began.elapsed() < SETTLE, "a traffic rule set after the restart does not reach the edge's kernel");
        thread::sleep(Duration::from_millis(100));
    }
    evidence.measured("rule_in_edge_kernel_s", began.elapsed().as_secs_f64());
    evidence.saw("a traffic rule set after the restart is in the edge's kernel");
    let began = Instant::now();
    loop {
        let answer = world.admin.tenant(&["integration", "sync", "roundup"]);
        match answer {
            Ok(answer) => {
                evidence.measured("tunnel_usable_again_s", began.elapsed().as_secs_f64());
                evidence
                    .saw(format!("the same node processes serve on; a sync through the tunnel works again: {answer}"));
                return Ok(());
            }
            Err(error) if began.elapsed() > SETTLE => return Err(error.context("no sync after the restart")),
            Err(_) => thread::sleep(Duration::from_millis(250)),
        }
    }
}

/// A file and what was in it.
type Kept = (PathBuf, Vec<u8>);

/// Control's files as they were before the writes.
fn snapshot(folder: &Path) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    for path in files(folder)? {
        let content = fs::read(&path)?;
        kept.push((path, content));
    }
    Ok(kept)
}

/// Sabotage: the disk forgets what was written since.
fn restore(folder: &Path, kept: &[Kept]) -> Result<()> {
    for path in files(folder)? {
        match kept.iter().find(|(known, _)| *known == path) {
            // Written in place: owner and mode stay.
            Some((_, content)) => fs::write(&path, content)?,
            None => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

/// Every regular file below `folder`.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
