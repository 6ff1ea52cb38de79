//! What can happen to a tunnel between a customer's site and a gateway, with every role running and real programs at
//! both ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests that measure gaps"
)]

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use sluice_netns_tests::{
    site::{BIG, Cast, KerberosProxy, NodeKind, Outcome, Site},
    transport,
};

/// A moment in which nothing should have happened.
const MOMENT: Duration = Duration::from_secs(2);
/// After this much time everything must work again, whatever happened: five times what the product promises.
const RECOVERY: Duration = Duration::from_secs(15);

fn cast(gateways: usize, connectors: usize) -> Cast<'static> {
    let demo = Path::new(env!("CARGO_BIN_EXE_demo"));
    let sluice: &'static Path = Box::leak(demo.with_file_name("sluice").into_boxed_path());
    Cast { sluice, gateways, connectors }
}

fn build(gateways: usize, connectors: usize) -> Site {
    Site::build(&cast(gateways, connectors)).unwrap_or_else(|error| panic!("{error:#}"))
}

fn wait_for(site: &mut Site, wanted: &str) {
    site.wait_health(0, wanted, |health| transport(health) == Some(wanted)).unwrap_or_else(|error| panic!("{error:#}"));
}

fn ok(outcome: &Outcome) -> bool {
    outcome.status == 200
}

/// How long after `from` the first request was made from which on all were answered; printed, so that it can be read.
fn gap(outcomes: &[Outcome], from: Duration, what: &str) -> Duration {
    let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| !ok(outcome)).collect();
    let slowest = outcomes.iter().map(|outcome| outcome.took).max().unwrap_or_default();
    let last = failed.last().map_or(from, |outcome| outcome.at);
    let gap = last.saturating_sub(from);
    println!(
        "{what}: {} requests, {} failed, the last of those made {} ms after; slowest answer {} ms",
        outcomes.len(),
        failed.len(),
        gap.as_millis(),
        slowest.as_millis()
    );
    gap
}

fn nft(site: &Site, script: &str) {
    site.places.firewall.nft(script).unwrap();
}

/// Before any node starts: what may not leave the site.
fn filter(site: &Site, script: &str) -> anyhow::Result<String> {
    site.places.firewall.nft(script)?;
    Ok(String::new())
}

const NO_UDP: &str = "add rule inet site out meta l4proto udp drop\n";
const ALL: &str = "flush chain inet site out\n";

#[test]
fn c2_udp_blocked_means_tcp_and_quic_comes_when_it_is_let_through() {
    let mut site = Site::prepare(&cast(1, 1), |site| filter(site, NO_UDP)).unwrap();
    site.wait_for_page(0).unwrap();
    wait_for(&mut site, "tcp");
    let mut download = site.download(0, 30).unwrap();
    download.wait_beyond(0).unwrap();
    nft(&site, ALL);
    wait_for(&mut site, "quic");
    // What ran on TCP ends there, whole.
    let big = site.big();
    assert!(download.is_whole(&big).unwrap(), "the download did not survive the move to QUIC");
    site.wait_for_page(0).unwrap();
    site.no_errors().unwrap();
}

#[test]
fn c2_only_443_outwards_is_needed() {
    let only = "add rule inet site out meta l4proto tcp tcp dport 443 accept\n\
                add rule inet site out meta l4proto udp udp dport 443 accept\n\
                add rule inet site out counter drop\n";
    let mut site = Site::prepare(&cast(1, 1), |site| filter(site, only)).unwrap();
    site.wait_for_page(0).unwrap();
    site.no_errors().unwrap();
}

/// Packets of each mark that the firewall saw pass, by transport and direction; those of no class are counted as `odd`.
fn marks(site: &Site) -> BTreeMap<String, u64> {
    let told = site.places.firewall.command("nft").args(["-j", "list", "counters", "table", "inet", "marks"]).output();
    let told: Value = serde_json::from_slice(&told.unwrap().stdout).unwrap();
    let counters = told["nftables"].as_array().unwrap().iter().filter_map(|item| item.get("counter"));
    counters
        .map(|counter| (counter["name"].as_str().unwrap().to_owned(), counter["packets"].as_u64().unwrap()))
        .collect()
}

#[test]
fn c2_each_class_of_a_tunnel_has_its_mark_on_the_wire_both_ways_over_both_transports() {
    // Default's connection carries no mark, and neither do calls to control: they are not told apart.
    let mut script = "add table inet marks\n\
                      add chain inet marks pass { type filter hook forward priority 10; }\n"
        .to_owned();
    for (transport, port) in [("quic", "udp"), ("tcp", "tcp")] {
        for (way, device, side) in [("up", "br0", "dport"), ("down", "eth0", "sport")] {
            for (class, dscp) in [("interactive", "34"), ("standard", "0"), ("bulk", "1"), ("odd", "!= { 0, 1, 34 }")] {
                let name = format!("{transport}_{way}_{class}");
                script += &format!(
                    "add counter inet marks {name}\n\
                     add rule inet marks pass iifname {device} {port} {side} 443 ip dscp {dscp} counter name {name}\n"
                );
            }
        }
    }
    let mut site = Site::prepare(&cast(1, 1), |site| filter(site, &script)).unwrap();
    site.wait_for_page(0).unwrap();
    for (transport, rules) in [("quic", ALL), ("tcp", NO_UDP)] {
        nft(&site, rules);
        wait_for(&mut site, transport);
        let before = marks(&site);
        let grown = |site: &Site| {
            let now = marks(site);
            let ours = now.into_iter().filter(|(name, _)| name.starts_with(transport) && !name.ends_with("odd"));
            ours.map(|(name, packets)| packets - before[&name]).min()
        };
        let patience = Instant::now() + RECOVERY;
        while grown(&site).is_none_or(|least| least < 5) {
            assert!(Instant::now() < patience, "{transport}: {before:?}, then {:?}", marks(&site));
            thread::sleep(Duration::from_millis(200));
        }
    }
    let odd: Vec<_> =
        marks(&site).into_iter().filter(|(name, packets)| name.ends_with("odd") && *packets > 0).collect();
    assert!(odd.is_empty(), "{odd:?}");
    site.no_errors().unwrap();
}

#[test]
fn c2_a_gateway_that_restarts_has_its_tunnel_back() {
    let mut site = build(1, 1);
    for kill in [false, true] {
        if kill {
            site.kill(NodeKind::Gateway(0)).unwrap();
        } else {
            site.stop(NodeKind::Gateway(0)).unwrap();
        }
        site.start(NodeKind::Gateway(0)).unwrap();
        let back = Instant::now();
        site.wait_for_page(0).unwrap();
        println!("gateway started again: page after {} ms", back.elapsed().as_millis());
        assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
    }
    site.no_errors().unwrap();
}

#[test]
fn c5_a_draining_gateway_loses_no_request_and_the_other_goes_on() {
    let mut site = build(2, 1);
    site.wait_for_page(1).unwrap();
    let mut download = site.download(0, 8).unwrap();
    download.wait_beyond(0).unwrap();
    let [left, other] = [0, 1].map(|user| site.pulse(user).unwrap());
    thread::sleep(MOMENT);
    // Ends only when the download has.
    site.stop(NodeKind::Gateway(0)).unwrap();
    thread::sleep(MOMENT);
    let (at_left, outcomes) = (left.end().unwrap(), other.end().unwrap());
    // Whoever it let in was served; whoever came later was told at once to go elsewhere.
    assert!(at_left.iter().filter(|outcome| ok(outcome)).count() > 20, "{at_left:?}");
    let odd: Vec<&Outcome> = at_left.iter().filter(|outcome| !ok(outcome) && !outcome.refused()).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(at_left.last().is_some_and(Outcome::refused), "{at_left:?}");
    let big = site.big();
    assert!(download.is_whole(&big).unwrap(), "the draining gateway cut a running download");
    assert!(outcomes.len() > 20 && outcomes.iter().all(ok), "{outcomes:?}");
    site.no_errors().unwrap();
}

#[test]
fn c5_a_killed_connector_loses_only_its_open_streams() {
    let mut site = build(1, 2);
    site.wait_health(1, "a tunnel", |health| transport(health).is_some()).unwrap();
    let pulse = site.pulse(0).unwrap();
    thread::sleep(MOMENT);
    let killed = pulse.now();
    site.kill(NodeKind::Connector(0)).unwrap();
    thread::sleep(RECOVERY);
    let outcomes = pulse.end().unwrap();
    let gap = gap(&outcomes, killed, "connector killed");
    assert!(gap < Duration::from_secs(5), "requests failed for {gap:?}");
    let before = outcomes.iter().filter(|outcome| outcome.at + outcome.took < killed);
    assert!(before.clone().count() > 10 && before.clone().all(ok), "{outcomes:?}");
    site.no_errors().unwrap();
}

#[test]
fn c2_a_line_that_is_down_for_five_seconds_comes_back() {
    let site = build(1, 1);
    site.places.firewall.ip(&["link", "set", "con0", "down"]).unwrap();
    thread::sleep(Duration::from_secs(5));
    site.places.firewall.ip(&["link", "set", "con0", "up"]).unwrap();
    let pulse = site.pulse(0).unwrap();
    thread::sleep(RECOVERY);
    let outcomes = pulse.end().unwrap();
    let gap = gap(&outcomes, Duration::ZERO, "line back after 5 s");
    assert!(gap < RECOVERY, "{outcomes:?}");
    assert!(outcomes.last().is_some_and(ok), "{outcomes:?}");
    site.no_errors().unwrap();
}

fn change_address(site: &Site, from: &str, to: &str) {
    let connector = site.places.connector(0);
    // Else the new address would go with the old one, being second in the same network.
    connector.sysctl("net.ipv4.conf.eth0.promote_secondaries", "1").unwrap();
    connector.ip(&["addr", "add", to, "dev", "eth0"]).unwrap();
    connector.ip(&["addr", "del", from, "dev", "eth0"]).unwrap();
    connector.ip(&["route", "replace", "default", "via", "10.30.0.1"]).unwrap();
}

#[test]
fn c2_a_stream_on_quic_survives_a_new_address_and_tcp_is_dialled_again() {
    let mut site = build(1, 1);
    wait_for(&mut site, "quic");
    let mut download = site.download(0, 10).unwrap();
    download.wait_beyond(BIG as u64 / 10).unwrap();
    change_address(&site, "10.30.0.10/24", "10.30.0.77/24");
    let big = site.big();
    assert!(download.is_whole(&big).unwrap(), "the download did not survive the change of address");
    site.wait_for_page(0).unwrap();

    nft(&site, NO_UDP);
    wait_for(&mut site, "tcp");
    let pulse = site.pulse(0).unwrap();
    thread::sleep(MOMENT);
    let changed = pulse.now();
    change_address(&site, "10.30.0.77/24", "10.30.0.10/24");
    thread::sleep(RECOVERY);
    let outcomes = pulse.end().unwrap();
    let gap = gap(&outcomes, changed, "address changed on TCP");
    assert!(gap < RECOVERY && outcomes.last().is_some_and(ok), "{outcomes:?}");
    site.no_errors().unwrap();
}

#[test]
fn c2_a_path_of_1280_bytes_carries_everything() {
    for script in [ALL, NO_UDP] {
        let narrow = |site: &Site| {
            site.places.core.ip(&["link", "set", "fw0", "mtu", "1280"])?;
            site.places.firewall.ip(&["link", "set", "eth0", "mtu", "1280"])?;
            filter(site, script)
        };
        let mut site = Site::prepare(&cast(1, 1), narrow).unwrap();
        site.wait_for_page(0).unwrap();
        wait_for(&mut site, if script == ALL { "quic" } else { "tcp" });
        let download = site.download(0, 1).unwrap();
        let big = site.big();
        assert!(download.is_whole(&big).unwrap(), "the big file did not come whole over 1,280 bytes ({script})");
        site.no_errors().unwrap();
    }
}

#[test]
fn c3_where_only_a_kerberos_proxy_gets_out_the_tunnel_goes_through_it() {
    let mut proxy = None;
    let only = "add rule inet site out ip saddr != 10.30.0.30 drop\nadd rule inet site out meta l4proto udp drop\n";
    let mut site = Site::prepare(&cast(1, 1), |site| {
        filter(site, only)?;
        let started = KerberosProxy::start(&site.places.proxy, &site.folder().join("proxy"), &site.logs())?;
        Ok(proxy.insert(started).section())
    })
    .unwrap();
    site.wait_for_page(0).unwrap();
    wait_for(&mut site, "tcp");
    let download = site.download(0, 1).unwrap();
    let big = site.big();
    assert!(download.is_whole(&big).unwrap(), "the big file did not come whole through the proxy");
    site.no_errors().unwrap();
    site.stop(NodeKind::Connector(0)).unwrap();
    let log = proxy.unwrap().log();
    let tunnel = log.lines().find(|line| line.contains("CONNECT gw0.acme.test:443"));
    assert!(tunnel.is_some_and(|line| line.contains("robot@CORP.TEST")), "{log}");
}
