//! LDAP, Kerberos and DNS of a real domain controller, through the tunnel and by no other way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use sluice_netns_tests::{
    process::{Process, output},
    samba::{Desk, HOST, Samba, Wire},
    topology::{Ns, Topology},
};

const PASSWORD: &str = "Ada-Passw0rd.1";
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The gateway's inner side. Not loopback, for whose peers OpenLDAP takes a ticket of its own machine.
const FRONT: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const GATE: &str = "10.77.0.1:8443";
const UP: Duration = Duration::from_secs(20);

/// A program of `sluice-benches`, built beside this test.
fn program(name: &str) -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().and_then(Path::parent).unwrap().to_owned();
    let found = folder.join(name);
    assert!(found.exists(), "{} is missing: cargo build -p sluice-benches --bins", found.display());
    found
}

/// office (users, and the gateway's inner side) — cable — site (agent and domain controller, no listener towards the cable).
struct World {
    samba: Samba,
    desk: Desk,
    office: Ns,
    _ends: [Process; 2],
    _work: tempfile::TempDir,
    _topology: Topology,
}

impl World {
    fn start() -> Self {
        let work = tempfile::tempdir().unwrap();
        let mut topology = Topology::new().unwrap();
        let (office, site) = (topology.namespace("office").unwrap(), topology.namespace("site").unwrap());
        topology.link((&office, "wan0"), (&site, "wan0")).unwrap();
        office.address("wan0", "10.77.0.1/24").unwrap();
        office.address("lo", &format!("{FRONT}/32")).unwrap();
        site.address("wan0", "10.77.0.2/24").unwrap();
        let samba = Samba::start(&site, work.path(), HERE, &[("ada", PASSWORD)]).unwrap();
        let house = work.path().join("house");
        output(std::process::Command::new(program("bench-house")).arg(&house)).unwrap();
        let places: Vec<(&str, u16)> =
            vec![("tcp", 53), ("udp", 53), ("tcp", 88), ("udp", 88), ("tcp", 389), ("tcp", 464), ("tcp", 636)];
        let mut gate = office.command(program("bench-gate"));
        gate.arg("--house").arg(&house).args(["--listen", GATE]);
        let mut agent = site.command(program("bench-agent"));
        agent.arg("--house").arg(&house).args(["--gateway", GATE, "--network", "127.0.0.1/32"]);
        for (protocol, port) in places {
            let target = format!("{protocol}:{HOST}:{port}");
            gate.args(["--forward", &format!("{protocol}:{FRONT}:{port}={target}")]);
            agent.args(["--allow", &target]);
        }
        let mut gate = Process::start("gate", gate, work.path()).unwrap();
        gate.wait_for_port(&office, GATE.parse().unwrap(), UP).unwrap();
        let mut agent = Process::start("agent", agent, work.path()).unwrap();
        agent.wait_for_line("tunnel is up", UP).unwrap();
        let desk = Desk::new(&office, work.path(), FRONT).unwrap();
        Self { samba, desk, office, _ends: [gate, agent], _work: work, _topology: topology }
    }
}

#[test]
fn c6_ldap_and_kerberos_of_a_real_domain_controller_pass_the_tunnel() {
    let world = World::start();
    let (desk, root) = (&world.desk, world.samba.root());
    // There is no other way: the controller listens on its own loopback only.
    let beside = SocketAddr::from(([10, 77, 0, 2], 389));
    let open = move || TcpStream::connect_timeout(&beside, Duration::from_secs(2)).is_ok();
    assert!(!world.office.enter(open).unwrap());
    // Kerberos over TCP and over UDP.
    let over_tcp = desk.sign_on("ada", PASSWORD, Wire::Tcp).unwrap();
    assert!(over_tcp.contains("Sending TCP request") && !over_tcp.contains("UDP"), "{over_tcp}");
    let over_udp = desk.sign_on("ada", PASSWORD, Wire::Udp).unwrap();
    assert!(over_udp.contains("from dgram 10.88.0.1:88"), "{over_udp}");
    assert!(desk.sign_on("ada", "wrong", Wire::Tcp).is_err());
    // LDAP: bound by ticket, by password in LDAPS, by password after StartTLS; never by password in the clear.
    desk.sign_on("ada", PASSWORD, Wire::Tcp).unwrap();
    let (plain, tls) = (format!("ldap://{HOST}"), format!("ldaps://{HOST}"));
    let ada = "CN=ada,CN=Users,DC=corp,DC=test";
    let search = |words: &[&str]| desk.search(&root, words, "ada");
    let by_password = ["-x", "-D", "ada@corp.test", "-w", PASSWORD];
    assert_eq!(search(&["-Q", "-Y", "GSSAPI", "-H", &plain]).unwrap(), ada);
    assert_eq!(search(&[&["-H", &tls][..], &by_password].concat()).unwrap(), ada);
    assert_eq!(search(&[&["-ZZ", "-H", &plain][..], &by_password].concat()).unwrap(), ada);
    let refused = search(&[&["-H", &plain][..], &by_password].concat()).unwrap_err();
    assert!(format!("{refused:#}").contains("Transport encryption required"), "{refused:#}");
    // A new password; Kerberos takes the old one no more.
    let new = "New-Passw0rd.22";
    let changed = desk.change_password("ada", PASSWORD, new).unwrap();
    assert!(changed.contains("from stream 10.88.0.1:464"), "{changed}");
    desk.sign_on("ada", new, Wire::Tcp).unwrap();
    assert!(desk.sign_on("ada", PASSWORD, Wire::Tcp).is_err());
    // Where a client that knows only the domain would look.
    for protocol in ["+notcp", "+tcp"] {
        let ask = ["@10.88.0.1", "+short", "+time=5", protocol, "SRV", "_ldap._tcp.corp.test"];
        let told = output(world.office.command("dig").args(ask)).unwrap();
        assert_eq!(told.trim(), format!("0 100 389 {HOST}."));
    }
}
