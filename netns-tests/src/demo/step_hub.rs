//! Steps 3, 4 and 10: a hub arrives, enrols itself, and is thrown out again.

use std::{
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    hub::{NAME, VENDOR_CLASS},
    peer::{Echo, Stream, now_ms},
    reach::{Answer, Knock, knock},
    report::Evidence,
    world::{CONTROL, EDGE_LAN, GATEWAY, USER, World},
};
use crate::admin::{CONTROL_PORT, TENANT, text};

/// The name hubs check in at.
const CHECKIN: &str = "checkin.acme.test";
/// The name hubs enrol at.
const EST: &str = "est.acme.test";
/// Longest wait for a change to arrive at the edge.
const SETTLE: Duration = Duration::from_secs(20);
/// A stream without a byte for this long has stopped.
const QUIET: Duration = Duration::from_millis(1500);

/// What a hub in staging must not reach, though it is there.
fn forbidden() -> Vec<Knock> {
    let mut knocks = Vec::new();
    for to in USER.sockets(Echo::PORT) {
        knocks.extend([Knock::Tcp(to), Knock::Udp(to)]);
    }
    knocks.extend(USER.both().map(Knock::Ping));
    knocks.extend(CONTROL.sockets(CONTROL_PORT).map(Knock::Tcp));
    knocks.push(Knock::Ping(GATEWAY.0.into()));
    knocks
}

/// Step 3.
pub(super) fn staged(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    if world.breaks(3) {
        cable_around_the_edge(world)?;
    }
    let began = Instant::now();
    let lease = wait_for_lease(world)?;
    evidence.measured("lease_s", began.elapsed().as_secs_f64());
    ensure!(lease.router == EDGE_LAN.0.to_string(), "the lease names router {}", lease.router);
    ensure!(lease.dns.contains(&EDGE_LAN.0.to_string()), "the lease names resolver {}", lease.dns);
    let discovery = lease.discovery.clone().context("option 43 has no URL: the hub was not recognised")?;
    evidence.saw(format!(
        "udhcpc says option 60 \"{VENDOR_CLASS}\": lease {}, option 43 {discovery}, option 143 {}",
        lease.address,
        lease.bootstrap.as_deref().unwrap_or("-")
    ));
    let stranger = world.hub.lease_as("MSFT 5.0")?;
    ensure!(stranger.discovery.is_none(), "a device of no hub class is told where to enrol: {:?}", stranger.discovery);
    evidence.saw("the same device saying \"MSFT 5.0\" is told nothing");
    let v6 = wait_for_v6(world)?;
    evidence.saw(format!("the router advertisement gave it {v6}"));
    let elsewhere = &world.places.edge;
    for there in forbidden() {
        let reachable = knock(elsewhere, there)?;
        ensure!(
            reachable == Answer::Open,
            "{there} does not answer the edge itself: that it does not answer the hub would prove nothing"
        );
        let answer = knock(world.hub.ns(), there)?;
        ensure!(answer != Answer::Open, "a hub in staging reaches {there}");
    }
    let est = knock(world.hub.ns(), Knock::Tcp(GATEWAY.v4(443)))?;
    ensure!(est == Answer::Open, "a hub in staging does not reach the EST door at {}", GATEWAY.v4(443));
    evidence.saw(format!(
        "{} destinations (TCP, UDP, ping; v4 and v6) that answer the edge do not answer the hub; the EST door does",
        forbidden().len()
    ));
    Ok(())
}

fn wait_for_lease(world: &World) -> Result<super::hub::Lease> {
    let deadline = Instant::now() + SETTLE;
    loop {
        match world.hub.lease() {
            Ok(lease) if lease.discovery.is_some() || Instant::now() > deadline => return Ok(lease),
            Err(error) if Instant::now() > deadline => return Err(error),
            _ => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn wait_for_v6(world: &World) -> Result<IpAddr> {
    let deadline = Instant::now() + SETTLE;
    loop {
        if let Some(address) = world.hub.global_v6()? {
            return Ok(address);
        }
        ensure!(Instant::now() < deadline, "no IPv6 address from a router advertisement within {SETTLE:?}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// Sabotage: a second cable, past the edge.
fn cable_around_the_edge(world: &World) -> Result<()> {
    let places = &world.places;
    places.hub.ip(&["link", "add", "eth1", "type", "veth", "peer", "name", "stray0", "netns", places.core.name()])?;
    places.hub.ip(&["link", "set", "eth1", "up"])?;
    places.core.ip(&["link", "set", "stray0", "up"])?;
    places.hub.address("eth1", "198.51.100.130/30")?;
    places.core.address("stray0", "198.51.100.129/30")?;
    places.hub.route("203.0.113.0/24", "198.51.100.129")
}

/// Step 4.
pub(super) fn enrolled(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let added = world.admin.tenant(&["hub", "add", NAME, "--site", "branch-1", "--serial", "M7-0001"])?;
    let code = text(&added, "code")?;
    let root = if world.breaks(4) {
        // An image for somebody else's hubs: its pin is another authority's.
        std::fs::read_to_string(world.authority.root())?
    } else {
        text(&world.admin.json(&["tenant", "show", TENANT])?, "hub_root")?
    };
    world.hub.image(&code, &root)?;
    let lease = world.hub.lease()?;
    let url = lease.discovery.context("discovery gave no URL")?;
    ensure!(url.contains(EST), "discovery points to {url}, not to {EST}");
    let addresses = world.hub.resolve(EST)?;
    ensure!(addresses.contains(&GATEWAY.0.into()), "the edge's resolver answers {EST} with {addresses:?}");
    let document = world.hub.discovery(&lease.router)?;
    ensure!(document.contains(EST), "the discovery document does not name {EST}: {document}");
    evidence.saw(format!(
        "hint: {url} (option 43), {EST} is {addresses:?} (edge's DNS), discovery document {}",
        document.split_whitespace().collect::<Vec<_>>().join(" ")
    ));
    evidence
        .saw("right used: the one-time code in the hub's image; trust used: the hub root pinned in the hub's image");
    let began = Instant::now();
    let ended = world.hub.enrol(&url)?;
    ensure!(ended.code == 0, "EST enrolment failed: {}{}", ended.stdout, ended.stderr);
    evidence.measured("enrolment_s", began.elapsed().as_secs_f64());
    let names = world.hub.certificate_names()?;
    ensure!(names.contains("/tenant/acme/hub/hub-0001"), "the certificate names somebody else: {names}");
    evidence
        .saw(format!("strongSwan's pki has a certificate: {}", names.split_whitespace().collect::<Vec<_>>().join(" ")));
    let target = Knock::Tcp((USER.0, Echo::PORT).into());
    ensure!(knock(world.hub.ns(), target)? != Answer::Open, "the hub left staging without a check-in");
    leave_staging(world, evidence)
}

/// Checks in until the edge lets traffic pass; both families must.
fn leave_staging(world: &World, evidence: &mut Evidence) -> Result<()> {
    let began = Instant::now();
    loop {
        let ended = world.hub.check_in(CHECKIN)?;
        let status = ended.stdout.trim().rsplit('\n').next().unwrap_or_default().to_owned();
        let passes = knock(world.hub.ns(), Knock::Tcp((USER.0, Echo::PORT).into()))? == Answer::Open;
        if ended.code == 0 && status.starts_with('2') && passes {
            break;
        }
        // The state feed may still be on its way to the edge.
        if began.elapsed() > SETTLE {
            bail!("check-in gave {status} {}{}; traffic passes: {passes}", ended.stdout, ended.stderr);
        }
        thread::sleep(Duration::from_millis(200));
    }
    evidence.measured("left_staging_s", began.elapsed().as_secs_f64());
    for there in USER.sockets(Echo::PORT).map(Knock::Tcp) {
        let answer = knock(world.hub.ns(), there)?;
        ensure!(answer == Answer::Open, "an admitted hub does not reach {there}: {answer:?}");
    }
    evidence.saw("checked in with that certificate; the same destinations answer now, v4 and v6");
    Ok(())
}

/// Step 10.
pub(super) fn revoked(world: &mut World, evidence: &mut Evidence) -> Result<()> {
    let to = (USER.0, Echo::PORT).into();
    let mut stream = Stream::start(&world.demo, world.hub.ns(), to, world.folder(), &world.logs())?;
    thread::sleep(Duration::from_secs(1));
    ensure!(stream.flows(QUIET), "the hub's stream stopped before the hub was revoked");
    let asked = now_ms();
    if !world.breaks(10) {
        world.admin.tenant(&["hub", "revoke", NAME])?;
    }
    let acknowledged = now_ms();
    let deadline = Instant::now() + SETTLE;
    while stream.flows(QUIET) {
        ensure!(Instant::now() < deadline, "the revoked hub's stream still flows after {SETTLE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let last = stream.last_beat().context("the stream left no trace")?;
    let (call, after) = (acknowledged.saturating_sub(asked), last.saturating_sub(asked));
    evidence.measured("last_byte_after_asking_ms", after as f64);
    evidence.measured("revocation_call_ms", call as f64);
    evidence.saw(format!(
        "the running stream's last byte came back {after} ms after the revocation was asked for ({call} ms for the command)"
    ));
    for there in USER.sockets(Echo::PORT).map(Knock::Tcp) {
        ensure!(
            knock(&world.places.edge, there)? == Answer::Open,
            "{there} does not answer the edge either: that the hub's stream stopped proves nothing"
        );
        ensure!(knock(world.hub.ns(), there)? != Answer::Open, "the revoked hub reaches {there}");
    }
    // The edge itself must say no: an edge that is gone would look the same from here.
    let ended = world.hub.check_in(CHECKIN)?;
    let status = ended.stdout.trim().rsplit('\n').next().unwrap_or_default().to_owned();
    ensure!(status == "403", "the revoked hub's check-in was answered with {status}: {}{}", ended.stdout, ended.stderr);
    world.roles.node_pids()?;
    evidence.saw(format!("new connections fail, a new check-in is refused ({status}); the edge serves on"));
    Ok(())
}
