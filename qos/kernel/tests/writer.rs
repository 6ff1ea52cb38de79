//! The kernel writer on a real kernel, in a network namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    env,
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    process::Command,
    thread,
};

use sluice_qos_kernel::KernelWriter;
use sluice_qos_plan::{
    LanPort, Links, Match, Pinhole, QosPolicy, QosRule, TrafficClass, Transport, WanPort,
    message::{self, Change, FromKernel, ToKernel},
};

const INSIDE: &str = "SLUICE_TEST_NAMESPACE";

/// Runs the named test again inside a fresh namespace with ports `lan` and `wan`; true in that inner run.
fn inside_namespace(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let name = format!("qoskernel-{}-{}", std::process::id(), test.len());
    let ip = |args: &[&str]| assert!(Command::new("ip").args(args).status().unwrap().success(), "ip {args:?}");
    ip(&["netns", "add", &name]);
    ip(&["-n", &name, "link", "add", "lan", "type", "veth", "peer", "name", "lanp"]);
    ip(&["-n", &name, "link", "add", "wan", "type", "veth", "peer", "name", "wanp"]);
    for port in ["lan", "wan", "lanp", "wanp"] {
        ip(&["-n", &name, "link", "set", port, "up"]);
    }
    let status = Command::new("ip")
        .args(["netns", "exec", &name])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, &name)
        .status()
        .unwrap();
    ip(&["netns", "del", &name]);
    assert!(status.success(), "{test} failed inside its namespace");
    false
}

fn links() -> Links {
    Links {
        lan: LanPort { interface: "lan".parse().unwrap(), tcp_services: vec![443], udp_services: vec![53, 67] },
        wan: WanPort { interface: "wan".parse().unwrap(), up_kbit: 20_000, down_kbit: Some(20_000) },
    }
}

struct WireSide(UnixStream);

impl WireSide {
    fn ask(&mut self, message: &ToKernel) -> FromKernel {
        self.0.write_all(&message::encode(message).unwrap()).unwrap();
        let mut prefix = [0; 4];
        self.0.read_exact(&mut prefix).unwrap();
        let mut body = vec![0; message::body_length(prefix).unwrap()];
        self.0.read_exact(&mut body).unwrap();
        message::decode(&body).unwrap()
    }
}

fn table() -> String {
    let output = Command::new("nft").args(["-s", "list", "table", "inet", "sluice"]).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn refused(answer: &FromKernel) -> bool {
    matches!(answer, FromKernel::Refused { .. })
}

#[test]
fn messages_take_effect_and_the_end_restages_everybody() {
    if !inside_namespace("messages_take_effect_and_the_end_restages_everybody") {
        return;
    }
    let writer = KernelWriter::start(&links()).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serving = thread::spawn(move || writer.serve(theirs));
    let mut wire_side = WireSide(ours);
    let mac = "02:00:00:00:00:01".parse().unwrap();
    let address: IpAddr = "10.9.0.5".parse().unwrap();

    assert_eq!(wire_side.ask(&ToKernel::Devices { changes: vec![Change::Admit { mac, address }] }), FromKernel::Done);
    assert!(table().contains("02:00:00:00:00:01 . 10.9.0.5"));

    let rule = |ports| QosRule {
        when: Match { transport: Transport::Udp, ports, network: None },
        class: TrafficClass::Interactive,
    };
    let policy = QosPolicy { rules: vec![rule((2112, 2112))] };
    assert_eq!(wire_side.ask(&ToKernel::Policy { policy }), FromKernel::Done);
    let before = table();
    assert!(before.contains("2112"));

    let empty_range = QosPolicy { rules: vec![rule((9, 8))] };
    assert!(refused(&wire_side.ask(&ToKernel::Policy { policy: empty_range })));
    let hole = Pinhole { transport: Transport::Tcp, address, port: 443 };
    assert!(refused(&wire_side.ask(&ToKernel::Pinholes { pinholes: vec![hole; Pinhole::MAX + 1] })));
    let too_many = vec![Change::Admit { mac, address }; Change::MAX + 1];
    assert!(refused(&wire_side.ask(&ToKernel::Devices { changes: too_many })));
    assert_eq!(table(), before, "a refused message changes nothing");

    let other = "02:00:00:00:00:09".parse().unwrap();
    let moves = [
        Change::Restage { mac, address },
        Change::Admit { mac: other, address },
        Change::Admit { mac: other, address },
        Change::Restage { mac: other, address },
        Change::Admit { mac, address },
        Change::Restage { mac, address },
        Change::Admit { mac: other, address },
    ];
    assert_eq!(wire_side.ask(&ToKernel::Devices { changes: moves.to_vec() }), FromKernel::Done);
    let after = table();
    assert!(after.contains("02:00:00:00:00:09 . 10.9.0.5") && !after.contains("02:00:00:00:00:01"), "{after}");
    let numbers = (0..=u8::MAX).flat_map(|n| [[10, 9, 1, n], [10, 9, 2, n]]);
    let changes: Vec<Change> = numbers.map(|address| Change::Restage { mac, address: address.into() }).collect();
    assert_eq!(changes.len(), Change::MAX);
    assert_eq!(wire_side.ask(&ToKernel::Devices { changes }), FromKernel::Done);

    drop(wire_side);
    serving.join().unwrap().unwrap();
    assert!(!table().contains("02:00:00:00:00:0"), "nobody is admitted without a wire side");
    assert!(table().contains("admitted4"), "the table stays");
}

#[test]
fn bytes_that_are_no_message_end_the_service_with_everybody_restaged() {
    if !inside_namespace("bytes_that_are_no_message_end_the_service_with_everybody_restaged") {
        return;
    }
    for garbage in [&b"\0\0\0\x02{]"[..], &b"\xff\xff\xff\xff"[..], &b"\0\0\0\x10{"[..]] {
        let writer = KernelWriter::start(&links()).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let serving = thread::spawn(move || writer.serve(theirs));
        let mut wire_side = WireSide(ours);
        let mac = "02:00:00:00:00:02".parse().unwrap();
        wire_side.ask(&ToKernel::Devices { changes: vec![Change::Admit { mac, address: "fd00::5".parse().unwrap() }] });
        wire_side.0.write_all(garbage).unwrap();
        drop(wire_side);
        assert!(serving.join().unwrap().is_err());
        assert!(!table().contains("02:00:00:00:00:02"));
    }
}
