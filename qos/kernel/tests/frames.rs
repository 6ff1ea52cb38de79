//! What the shapers queue: frames, also when the neighbour hands over super-packets of 64 KiB.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    env,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Command,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};
use sluice_qos_kernel::KernelWriter;
use sluice_qos_plan::{LanPort, Links, Mac, WanPort, admit};

const INSIDE: &str = "SLUICE_TEST_NAMESPACES";
const HUB_MAC: &str = "02:00:00:00:0b:07";
/// Sent each way; at 20 Mbit/s it takes about a second.
const BYTES: usize = 2 * 1024 * 1024;

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
}

/// Hub, edge and world; runs the named test again inside the edge.
fn inside_edge(test: &str) -> Option<[String; 2]> {
    if let Ok(names) = env::var(INSIDE) {
        let (hub, world) = names.split_once(' ').unwrap();
        return Some([hub.to_owned(), world.to_owned()]);
    }
    let [hub, edge, world] = ["hub", "edge", "world"].map(|name| format!("frames{}-{name}", std::process::id()));
    for name in [&hub, &edge, &world] {
        ip(&["netns", "add", name]);
    }
    ip(&["link", "add", "lan", "netns", &edge, "type", "veth", "peer", "name", "eth0", "netns", &hub]);
    ip(&["link", "add", "wan", "netns", &edge, "type", "veth", "peer", "name", "eth0", "netns", &world]);
    ip(&["-n", &hub, "link", "set", "eth0", "address", HUB_MAC]);
    for (name, port, address) in [
        (&hub, "eth0", "10.97.1.2/24"),
        (&edge, "lan", "10.97.1.1/24"),
        (&edge, "wan", "10.97.2.1/24"),
        (&world, "eth0", "10.97.2.2/24"),
    ] {
        ip(&["-n", name, "addr", "add", address, "dev", port]);
        ip(&["-n", name, "link", "set", port, "up"]);
    }
    ip(&["-n", &hub, "route", "add", "default", "via", "10.97.1.1"]);
    ip(&["-n", &world, "route", "add", "default", "via", "10.97.2.1"]);
    let status = Command::new("ip")
        .args(["netns", "exec", &edge])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, format!("{hub} {world}"))
        .status()
        .unwrap();
    for name in [&hub, &edge, &world] {
        ip(&["netns", "del", name]);
    }
    assert!(status.success(), "{test} failed inside its namespaces");
    None
}

fn within<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
}

/// (packets sent, units the shaper handed out) of all leaves of `port`.
fn sent(port: &str) -> (u64, u64) {
    let output = Command::new("tc").args(["-s", "class", "show", "dev", port]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number_before = |line: &str, word: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.iter().position(|at| *at == word).map_or(0, |at| words[at - 1].parse::<u64>().unwrap())
    };
    let number_after = |line: &str, word: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.iter().position(|at| *at == word).map_or(0, |at| words[at + 1].parse::<u64>().unwrap())
    };
    let leaves = text.split("class htb ").filter(|class| class.contains(" leaf "));
    leaves.flat_map(str::lines).fold((0, 0), |(packets, units), line| {
        let handed = number_after(line, "lended:") + number_after(line, "borrowed:");
        (packets + number_before(line, "pkt"), units + handed)
    })
}

#[test]
fn q2_super_packets_leave_as_single_frames_in_both_directions() {
    let Some([hub, world]) = inside_edge("q2_super_packets_leave_as_single_frames_in_both_directions") else { return };
    let links = Links {
        lan: LanPort { interface: "lan".parse().unwrap(), tcp_services: vec![], udp_services: vec![] },
        wan: WanPort { interface: "wan".parse().unwrap(), up_kbit: 20_000, down_kbit: Some(20_000) },
    };
    let _writer = KernelWriter::start(&links).unwrap();
    let mac: Mac = HUB_MAC.parse().unwrap();
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(admit(mac, "10.97.1.2".parse().unwrap()).as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success());

    let listener = within(&world, || TcpListener::bind("10.97.2.2:5000").unwrap()).join().unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut all = vec![0; BYTES];
        stream.read_exact(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let mut stream = within(&hub, || TcpStream::connect("10.97.2.2:5000").unwrap()).join().unwrap();
    let mut all = vec![7; BYTES];
    stream.write_all(&all).unwrap();
    stream.read_exact(&mut all).unwrap();
    echo.join().unwrap();

    for port in ["wan", "lan"] {
        let (packets, units) = sent(port);
        assert!(packets > 1_400, "{port}: only {packets} packets");
        assert_eq!(units, packets, "{port}: the shaper handed out {units} units for {packets} frames");
    }
}
