//! Steps 1 and 2: everything is up and joined, and nothing in the data centre answers strangers.

use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    confinement,
    reach::{self, Answer, Knock},
    report::Evidence,
    roles::START,
    world::{CONNECTOR, FIREWALL, GATEWAY, ROUNDUP, World},
};
use crate::{
    admin::{TENANT, items, text},
    health,
    probe::{LOAD_PORT, PROBE_PORT},
    process::output,
};

/// Step 1.
pub(super) fn joined(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let started = Instant::now();
    let link = world.roles.init_control(&world.places)?;
    world.roles.start_control(&world.places)?;
    evidence.measured("control_up_s", started.elapsed().as_secs_f64());
    let root = std::fs::read_to_string(world.roles.data().join("node-root.pem"))
        .context("control init left no node-root.pem for administrators to pin")?;
    world.admin.claim(&link, &root).context("the owner link does not work")?;
    tenant(world)?;
    for (id, role) in [("gw-1", "gateway"), ("con-1", "connector"), ("edge-1", "edge")] {
        let began = Instant::now();
        let mut code = join_code(world, id, role)?;
        if world.breaks(1) && role == "connector" {
            // The code of somebody else's connector: its right names another role.
            code = join_code(world, "stray-1", "edge")?;
        }
        match role {
            "gateway" => world.roles.start_gateway(&world.places, &world.authority, &code)?,
            "connector" => world.roles.start_connector(&world.places, &code)?,
            _ => world.roles.start_edge(&world.places, &code)?,
        }
        wait_joined(world, role, id)?;
        evidence.measured(&format!("{role}_joined_s"), began.elapsed().as_secs_f64());
    }
    resources(world)?;
    let nodes = world.admin.tenant(&["node", "list"])?;
    let states: Vec<String> =
        items(&nodes).iter().map(|node| format!("{} {}", field(node, "id"), field(node, "state"))).collect();
    evidence.saw(format!("control lists {}", states.join(", ")));
    wait_tunnel(world, evidence)?;
    confinement::seen(&world.roles, evidence)
}

fn field<'a>(node: &'a Value, name: &str) -> &'a str {
    node.get(name).and_then(Value::as_str).unwrap_or("?")
}

/// Tenant, sites, hub class, QoS policy.
fn tenant(world: &World) -> Result<()> {
    let admin = &world.admin;
    admin.json(&[
        "tenant",
        "add",
        TENANT,
        "--name",
        "Acme",
        "--login-host",
        "login.acme.test",
        "--est-host",
        "est.acme.test",
        "--checkin-host",
        "checkin.acme.test",
        "--feed-host",
        "feed.acme.test",
    ])?;
    for site in ["branch-1", "dc-1", "dmz-1"] {
        admin.tenant(&["site", "add", site, "--name", site, "--time-zone", "Europe/Berlin"])?;
    }
    admin.tenant(&["class", "set", "--class", "m7=SluiceHub:"])?;
    let policy = traffic_policy(&[("udp", PROBE_PORT, "interactive"), ("tcp", LOAD_PORT, "bulk")]);
    let policy = admin.secret("qos.json", &policy.to_string())?;
    admin.tenant(&["qos", "set", "--file", &policy]).map(drop)
}

/// A policy of one rule per (transport, port, class).
pub(super) fn traffic_policy(rules: &[(&str, u16, &str)]) -> Value {
    let rule = |(transport, port, class): &(&str, u16, &str)| json!({"when": {"transport": transport, "ports": [port, port], "network": null}, "class": class});
    json!({ "rules": rules.iter().map(rule).collect::<Vec<_>>() })
}

fn join_code(world: &World, id: &str, role: &str) -> Result<String> {
    let site = match role {
        "gateway" => "dmz-1",
        "connector" => "dc-1",
        _ => "branch-1",
    };
    let mut words = vec!["node", "add", id, "--role", role, "--site", site];
    let addresses = GATEWAY.both().map(|address| address.to_string());
    if role == "gateway" {
        words.extend(["--host", "gw.acme.test"]);
        for address in &addresses {
            words.extend(["--ip", address]);
        }
    }
    text(&world.admin.tenant(&words)?, "code")
}

fn wait_joined(world: &mut World, role: &str, id: &str) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let nodes = world.admin.tenant(&["node", "list"])?;
        if items(&nodes).iter().any(|node| field(node, "id") == id && field(node, "state") == "joined") {
            return Ok(());
        }
        world.roles.still_runs(role)?;
        ensure!(Instant::now() < deadline, "{id} did not join within {START:?}: {nodes}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// What the connector may reach, and what users open.
fn resources(world: &World) -> Result<()> {
    let admin = &world.admin;
    let target = format!("tcp:roundup.dc.acme.test:{}", world.roundup.address().port());
    admin.tenant(&[
        "resource",
        "add",
        "roundup",
        "--site",
        "dc-1",
        "--target",
        &target,
        "--network",
        "10.30.0.0/24",
        "--for-users",
        "--for-control",
    ])?;
    admin.tenant(&[
        "app",
        "add",
        "roundup",
        "--name",
        "Roundup",
        "--host",
        "roundup.acme.test",
        "--resource",
        "roundup",
        "--group",
        "staff",
        "--user-header",
        crate::roundup::USER_HEADER,
    ])?;
    for user in ["bob", "carol"] {
        let password = admin.secret(&format!("{user}.password"), &login_password(user))?;
        let mail = format!("{user}@acme.test");
        admin.tenant(&[
            "user",
            "add",
            user,
            "--email",
            &mail,
            "--name",
            user,
            "--group",
            "staff",
            "--password-file",
            &password,
        ])?;
    }
    Ok(())
}

/// What a user types at the gateway (not what Roundup knows).
pub(super) fn login_password(user: &str) -> String {
    format!("{user}-at-the-gateway")
}

/// The connector holds connections to the gateway, by its own account; nothing could have dialled it (step 2).
fn wait_tunnel(world: &World, evidence: &mut Evidence) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let told = health::health(&world.places.connector);
        if let Some(transport) = told.as_ref().ok().and_then(health::transport) {
            evidence.saw(format!("the connector's tunnel is up by {transport}, dialled from inside the data centre"));
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no tunnel within {START:?}; the connector says: {told:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Step 2.
pub(super) fn no_inbound(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let _door = if world.breaks(2) { Some(open_door(world)?) } else { None };
    let listening = listening_ports(world)?;
    ensure!(
        listening.contains(&world.roundup.address().port()),
        "Roundup listens nowhere: the scan would prove nothing"
    );
    let inside = reach::knock(&world.places.connector, Knock::Tcp(world.roundup.address()))?;
    ensure!(inside == Answer::Open, "Roundup does not answer inside the data centre: the scan would prove nothing");
    let mut ports: Vec<u16> = (1..=1024).chain([3389, 5432, 8080, 8443]).chain(listening.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    let before = refused(world)?;
    let targets = [FIREWALL.both(), CONNECTOR.both(), ROUNDUP.both()].concat();
    let mut attempts = 0;
    for target in &targets {
        let (open, refused) = reach::scan(&world.places.user, *target, ports.clone())?;
        ensure!(open.is_empty(), "{target} answers from outside on {open:?}");
        ensure!(refused == 0, "{target} says no on {refused} ports instead of nothing");
        attempts += ports.len();
    }
    let dropped = refused(world)?.saturating_sub(before);
    ensure!(
        dropped >= attempts as u64,
        "the firewall dropped {dropped} packets of {attempts} attempts: who took the rest?"
    );
    evidence.measured("attempts", attempts as f64);
    evidence.measured("dropped_packets", dropped as f64);
    evidence.saw(format!(
        "{attempts} TCP attempts on {} addresses (v4 and v6), {} listening ports among them: none open, none refused, {dropped} packets dropped",
        targets.len(),
        listening.len()
    ));
    Ok(())
}

/// Sabotage: a hole in the firewall and somebody listening behind it.
fn open_door(world: &World) -> Result<TcpListener> {
    world.places.firewall.nft("insert rule inet demo input tcp dport 22 accept\n")?;
    world.places.firewall.enter(|| TcpListener::bind("[::]:22"))?.context("cannot listen on port 22")
}

/// Ports on which anything in the data centre listens.
fn listening_ports(world: &World) -> Result<Vec<u16>> {
    let places = &world.places;
    let mut ports = Vec::new();
    for ns in [&places.firewall, &places.connector, &places.roundup] {
        let listed = output(ns.command("ss").args(["-Hltn"]))?;
        let locals = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
        ports.extend(locals.filter_map(|local| local.rsplit(':').next()?.parse::<u16>().ok()));
    }
    ports.sort_unstable();
    ports.dedup();
    Ok(ports)
}

/// Packets the firewall has dropped so far.
fn refused(world: &World) -> Result<u64> {
    let listed = output(world.places.firewall.command("nft").args(["list", "counter", "inet", "demo", "refused"]))?;
    let words: Vec<&str> = listed.split_whitespace().collect();
    let packets = words.iter().position(|word| *word == "packets").and_then(|at| words.get(at + 1));
    packets.and_then(|count| count.parse().ok()).context("the firewall's counter cannot be read")
}
