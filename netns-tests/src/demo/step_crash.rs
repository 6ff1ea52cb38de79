//! Step 11: control is killed in the middle of its work and comes back.

use std::{
    fs,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    admin::items,
    report::Evidence,
    world::{ROUNDUP_URL, World},
};

/// Acknowledged writes to wait for before the kill.
const WRITES: usize = 12;
/// Longest wait for the writer to notice and for the nodes to be heard again.
const SETTLE: Duration = Duration::from_secs(60);

/// Step 11.
pub(super) fn survived(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let nodes = world.roles.node_pids()?;
    let hubs = world.admin.tenant(&["hub", "list"])?;
    let before = snapshot(world)?;
    let acknowledged = write_until_killed(world)?;
    let page = world.bob.open(ROUNDUP_URL).context("the gateway does not serve while control is gone")?;
    ensure!(page.says("Hello, bob"), "while control is gone bob does not get his page: {} {}", page.status, page.url);
    evidence.saw("while control was gone bob's session and Roundup's page went on working");
    if world.breaks(11) {
        restore(world, &before)?;
    }
    let began = Instant::now();
    world.roles.start_control(&world.places)?;
    evidence.measured("restart_s", began.elapsed().as_secs_f64());
    let sites = world.admin.tenant(&["site", "list"])?;
    let there: Vec<&str> = items(&sites).iter().filter_map(|site| site.get("id").and_then(Value::as_str)).collect();
    let lost: Vec<_> = acknowledged.iter().filter(|site| !there.contains(&site.as_str())).collect();
    ensure!(lost.is_empty(), "acknowledged before the kill and gone after it: {lost:?}");
    ensure!(world.admin.tenant(&["hub", "list"])? == hubs, "the hubs are not what they were");
    evidence.measured("acknowledged_writes", acknowledged.len() as f64);
    evidence.saw(format!("all {} writes acknowledged up to the kill are there", acknowledged.len()));
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

/// The nodes' feeds are live again when a change made now arrives: a QoS document reaches the edge's kernel.
fn heard_again(world: &World, evidence: &mut Evidence) -> Result<()> {
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

/// The store's files as they were before the writes.
fn snapshot(world: &World) -> Result<Vec<(std::path::PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(world.roles.data())? {
        let path = entry?.path();
        if path.is_file() {
            files.push((path.clone(), fs::read(&path)?));
        }
    }
    Ok(files)
}

/// Sabotage: the disk forgets what was written since.
fn restore(world: &World, files: &[(std::path::PathBuf, Vec<u8>)]) -> Result<()> {
    for entry in fs::read_dir(world.roles.data())? {
        let path = entry?.path();
        if path.is_file() {
            fs::remove_file(path)?;
        }
    }
    for (path, content) in files {
        fs::write(path, content)?;
    }
    Ok(())
}
