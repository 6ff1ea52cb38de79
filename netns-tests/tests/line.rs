//! The harness itself, on real programs: a line that is as slow as it says, a firewall that drops, a tracker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    net::{IpAddr, TcpListener, TcpStream},
    time::Duration,
};

use sluice_netns_tests::{
    probe::{Direction, Servers},
    roundup::{Installed, Roundup, listen, work_folder},
    topology::Topology,
};

#[test]
fn a_full_line_of_twenty_megabits_delays_unclassified_probes() {
    let logs = tempfile::tempdir().unwrap();
    let mut topology = Topology::new().unwrap();
    let (a, b) = (topology.namespace("a").unwrap(), topology.namespace("b").unwrap());
    topology.link((&a, "eth0"), (&b, "eth0")).unwrap();
    a.address("eth0", "10.9.0.1/24").unwrap();
    b.address("eth0", "10.9.0.2/24").unwrap();
    a.line("eth0", 20_000, 425_000).unwrap();
    let server: IpAddr = "10.9.0.2".parse().unwrap();
    let servers = Servers::start(&b, server, logs.path()).unwrap();
    let idle = servers.measure(&a, None, 1).unwrap();
    let full = servers.measure(&a, Some(Direction::Up), 3).unwrap();
    assert!(idle.p50_ms < 20.0, "{idle:?}");
    assert!(full.p50_ms > 50.0, "{full:?}");
    assert!((10.0..22.0).contains(&full.bulk_mbit), "{full:?}");
}

#[test]
fn namespaces_are_apart_and_leave_nothing_behind() {
    let (name, etc) = {
        let mut topology = Topology::new().unwrap();
        let ns = topology.namespace("alone").unwrap();
        let port = ns.enter(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = port.local_addr().unwrap();
        let inside = move || TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok();
        assert!(ns.enter(inside).unwrap());
        assert!(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err());
        (ns.name().to_owned(), ns.etc())
    };
    assert!(!std::path::Path::new("/run/netns").join(name).exists());
    assert!(!etc.exists());
}

#[test]
fn roundup_is_filled_changes_and_keeps_its_history() {
    let mut topology = Topology::new().unwrap();
    let ns = topology.namespace("sor").unwrap();
    ns.address("lo", "10.9.1.1/32").unwrap();
    let work = work_folder().unwrap();
    let public = "https://roundup.acme.test/roundup/";
    let address = listen("10.9.1.1".parse().unwrap());
    let roundup = Roundup::start(&ns, &Installed::find().unwrap(), work.path(), address, public, 20).unwrap();
    assert_eq!(roundup.issues().unwrap(), 20);
    roundup.assign("alice", "7", "bob", public).unwrap();
    let history = roundup.history("7").unwrap();
    assert!(history.contains("alice") && history.contains("assignedto"), "{history}");
}
