//! The scripts are accepted by the real `nft` and `tc`, and do what they say, in a network namespace of their own.
#![allow(clippy::disallowed_methods, reason = "the crate is pure; its tests ask nft and tc")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::Write,
    process::{Command, Stdio},
};

use sluice_qos_plan::{
    ADMITTED_SECONDS, Capabilities, Generation, LanPort, Links, Match, Pinhole, QosPolicy, QosRule, TcTree,
    TrafficClass, Transport, WanPort, admit, base, classify, pinholes, restage, restage_all,
};

struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("qosplan-{}-{name}", std::process::id());
        run("ip", &["netns", "add", &name], "");
        let namespace = Self(name);
        for (port, peer) in [("lan", "lanp"), ("wan", "wanp")] {
            namespace.tool("ip", &["link", "add", port, "type", "veth", "peer", "name", peer], "");
            namespace.tool("ip", &["link", "set", port, "up"], "");
        }
        namespace
    }

    fn tool(&self, program: &str, args: &[&str], input: &str) -> String {
        let mut all = vec!["netns", "exec", &self.0, program];
        all.extend(args);
        run("ip", &all, input)
    }

    fn nft(&self, script: &str) {
        self.tool("nft", &["-f", "-"], script);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}\n{input}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn links() -> Links {
    Links {
        lan: LanPort {
            interface: "lan".parse().unwrap(),
            tcp_services: vec![53, 80, 443],
            udp_services: vec![53, 67, 123],
        },
        wan: WanPort { interface: "wan".parse().unwrap(), up_kbit: 20_000, down_kbit: Some(50_000) },
    }
}

fn rule(transport: Transport, ports: (u16, u16), class: TrafficClass) -> QosRule {
    QosRule { when: Match { transport, ports, network: None }, class }
}

#[test]
fn table_is_accepted_and_replaces_itself() {
    let namespace = Namespace::new("base");
    namespace.nft(&base(&links()));
    namespace.nft(&base(&links()));
    let listed = namespace.tool("nft", &["list", "table", "inet", "sluice"], "");
    assert!(listed.contains("ether saddr . ip saddr @admitted4 accept"), "{listed}");
    assert_eq!(listed.matches("chain forward").count(), 1);
}

#[test]
fn admission_and_restaging_are_idempotent_in_both_families() {
    let namespace = Namespace::new("admit");
    namespace.nft(&base(&links()));
    let mac = "02:00:00:00:00:01".parse().unwrap();
    for address in ["10.1.0.7", "fd00:1::7"] {
        let address = address.parse().unwrap();
        namespace.nft(&restage(mac, address));
        namespace.nft(&admit(mac, address));
        namespace.nft(&admit(mac, address));
        let listed = namespace.tool("nft", &["list", "table", "inet", "sluice"], "");
        assert!(listed.contains(&format!("02:00:00:00:00:01 . {address}")), "{listed}");
        namespace.nft(&restage(mac, address));
        let listed = namespace.tool("nft", &["list", "table", "inet", "sluice"], "");
        assert!(!listed.contains("02:00:00:00:00:01"), "{listed}");
    }
    namespace.nft(&admit(mac, "10.1.0.7".parse().unwrap()));
    namespace.nft(&restage_all());
    let listed = namespace.tool("nft", &["list", "table", "inet", "sluice"], "");
    assert!(!listed.contains("10.1.0.7"), "{listed}");
}

#[test]
fn e7_an_admission_that_is_not_repeated_ends_by_itself() {
    let namespace = Namespace::new("expiry");
    namespace.nft(&base(&links()));
    let (mac, address) = ("02:00:00:00:00:01".parse().unwrap(), "10.1.0.7".parse().unwrap());
    let remaining = || -> Vec<u32> {
        let listed = namespace.tool("nft", &["-j", "list", "table", "inet", "sluice"], "");
        let times = listed.split("\"expires\":").skip(1);
        times
            .map(|rest| rest.split(|c: char| !c.is_ascii_digit() && c != ' ').next().unwrap().trim().parse().unwrap())
            .collect()
    };
    namespace.nft(&admit(mac, address));
    std::thread::sleep(std::time::Duration::from_millis(3_100));
    let before = remaining();
    assert_eq!(before.len(), 2, "both sets forget");
    assert!(before.iter().all(|seconds| *seconds < ADMITTED_SECONDS - 2), "{before:?}");
    namespace.nft(&admit(mac, address));
    let after = remaining();
    assert!(after.iter().zip(&before).all(|(after, before)| after > before && *after < ADMITTED_SECONDS), "{after:?}");
}

#[test]
fn pinholes_and_policies_replace_their_predecessors() {
    let namespace = Namespace::new("policy");
    namespace.nft(&base(&links()));
    let hole = |address: &str| Pinhole { transport: Transport::Tcp, address: address.parse().unwrap(), port: 443 };
    namespace.nft(&pinholes(&[hole("192.0.2.1"), hole("2001:db8::1")]));
    namespace.nft(&pinholes(&[hole("192.0.2.2")]));
    let policy = QosPolicy {
        rules: vec![
            rule(Transport::Udp, (2112, 2112), TrafficClass::Interactive),
            QosRule {
                when: Match {
                    transport: Transport::Tcp,
                    ports: (5201, 5204),
                    network: Some("2001:db8::/32".parse().unwrap()),
                },
                class: TrafficClass::Bulk,
            },
        ],
    };
    namespace.nft(&classify(&policy, Generation::FIRST).unwrap());
    namespace.nft(&classify(&policy, Generation::FIRST.next()).unwrap());
    let listed = namespace.tool("nft", &["list", "table", "inet", "sluice"], "");
    assert!(listed.contains("192.0.2.2 . tcp . 443") && !listed.contains("192.0.2.1"), "{listed}");
    assert!(!listed.contains("2001:db8::1 "), "{listed}");
    assert_eq!(listed.matches("ct original proto-dst").count(), 2, "{listed}");
}

#[test]
fn q2_trees_are_accepted_and_change_in_place() {
    let namespace = Namespace::new("tree");
    let cutting = Capabilities { tbf: true, lan_mtu: Some(9_000), wan_mtu: Some(1_492), ..Capabilities::default() };
    // Over one another: without cutting, with it, and without it again.
    for can in [Capabilities::default(), cutting, Capabilities::default()] {
        for tree in TcTree::of(&links(), can) {
            namespace.tool("tc", &["-batch", "-"], &tree.install());
            let queues = namespace.tool("tc", &["qdisc", "show", "dev", tree.interface.as_str()], "");
            assert_eq!(queues.matches("qdisc tbf").count(), if can.tbf { 6 } else { 0 }, "{queues}");
            assert_eq!(queues.matches("qdisc pfifo ").count(), 6, "{queues}");
        }
    }
    let trees = TcTree::of(&links(), Capabilities::default());
    let classes = namespace.tool("tc", &["class", "show", "dev", "wan"], "");
    assert!(classes.contains("class htb 1:12") && classes.contains("prio 1"), "{classes}");
    let mut faster = links();
    faster.wan.up_kbit = 30_000;
    let faster = TcTree::of(&faster, Capabilities::default());
    // Queue lengths follow the rate, so this one is rebuilt; the LAN's is untouched.
    namespace.tool("tc", &["-batch", "-"], &faster[0].change_from(&trees[0]).unwrap());
    assert!(faster[1].change_from(&trees[1]).is_none());
    let mut slower = faster[0].clone();
    slower.rate_kbit = 10_000;
    let script = slower.change_from(&faster[0]).unwrap();
    assert!(!script.contains("qdisc"), "{script}");
    namespace.tool("tc", &["-batch", "-"], &script);
    let classes = namespace.tool("tc", &["class", "show", "dev", "wan"], "");
    assert!(classes.contains("rate 10Mbit"), "{classes}");
}

#[test]
fn bad_policies_are_refused() {
    let bad = QosPolicy { rules: vec![rule(Transport::Tcp, (9, 8), TrafficClass::Bulk)] };
    assert!(classify(&bad, Generation::FIRST).is_err());
    let long = QosPolicy { rules: vec![rule(Transport::Tcp, (1, 1), TrafficClass::Bulk); QosPolicy::MAX_RULES + 1] };
    assert!(classify(&long, Generation::FIRST).is_err());
}
