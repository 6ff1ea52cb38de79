//! The line emulator on real devices: what it adds, what it loses, and that it carries both families.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sluice_netns_tests::{
    emulator::{Direction, Emulator, Shape, single_frames},
    topology::{Ns, Topology},
};

/// Two namespaces with the emulated line between them.
struct Line {
    a: Ns,
    b: Ns,
    emulator: Emulator,
    _topology: Topology,
}

impl Line {
    fn new(forth: Shape, back: Shape) -> Self {
        let mut topology = Topology::new().unwrap();
        let [a, wire, b] = ["a", "wire", "b"].map(|name| topology.namespace(name).unwrap());
        topology.link((&a, "eth0"), (&wire, "left")).unwrap();
        topology.link((&wire, "right"), (&b, "eth0")).unwrap();
        for (ns, last) in [(&a, 1), (&b, 2)] {
            ns.address("eth0", &format!("10.9.7.{last}/24")).unwrap();
            ns.address("eth0", &format!("fd09:7::{last}/64")).unwrap();
            single_frames(ns, "eth0").unwrap();
        }
        let emulator = Emulator::start(&wire, ("left", "right"), forth, back).unwrap();
        Self { a, b, emulator, _topology: topology }
    }

    /// Numbered datagrams from `a` that `b` got, in the order they came, within a second of silence.
    fn send(&self, to: &str, count: u32, size: usize) -> Vec<u32> {
        let to: SocketAddr = to.parse().unwrap();
        let far = self.b.enter(move || UdpSocket::bind(to).unwrap()).unwrap();
        far.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let near = self.a.enter(move || UdpSocket::bind(any).unwrap()).unwrap();
        let sender = std::thread::spawn(move || {
            for number in 0..count {
                let mut datagram = vec![0; size];
                datagram[..4].copy_from_slice(&number.to_be_bytes());
                near.send_to(&datagram, to).unwrap();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let mut buffer = [0; 2048];
        let mut got = Vec::new();
        while far.recv(&mut buffer).is_ok() {
            got.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
        }
        sender.join().unwrap();
        got
    }
}

#[test]
fn both_families_arrive_whole_in_order_and_not_before_their_time() {
    let delay = Duration::from_millis(20);
    let line = Line::new(Shape { delay, ..Shape::default() }, Shape { delay, ..Shape::default() });
    for to in ["10.9.7.2:900", "[fd09:7::2]:900"] {
        let began = Instant::now();
        let got = line.send(to, 100, 400);
        assert_eq!(got, (0..100).collect::<Vec<_>>(), "{to}");
        // Neighbour discovery there and back, then the datagram; the kernel keeps about 150 while it waits.
        assert!(began.elapsed() >= 3 * delay);
    }
    assert_eq!(line.emulator.counters(Direction::Forth).overrun.load(Ordering::Relaxed), 0);
}

#[test]
fn losses_come_from_the_seed_and_can_be_changed_while_it_runs() {
    let lossy = Shape { loss_ppm: 100_000, seed: 7, ..Shape::default() };
    let lost = |line: &Line| -> Vec<u32> {
        let got = line.send("10.9.7.2:900", 1000, 100);
        (0..1000).filter(|number| !got.contains(number)).collect()
    };
    let line = Line::new(lossy, Shape::default());
    let first = lost(&line);
    assert!((50..200).contains(&first.len()), "{} of 1,000 at 10 %", first.len());
    assert_eq!(line.emulator.counters(Direction::Forth).lost.load(Ordering::Relaxed), first.len() as u64);
    assert_eq!(lost(&Line::new(lossy, Shape::default())), first, "the same seed loses the same datagrams");
    line.emulator.reshape(Direction::Forth, Shape { loss_ppm: 0, ..lossy });
    assert_eq!(lost(&line), Vec::<u32>::new());
}

#[test]
fn a_narrow_line_swallows_what_is_too_big() {
    let line = Line::new(Shape { mtu: 1280, ..Shape::default() }, Shape::default());
    assert_eq!(line.send("10.9.7.2:900", 20, 1280 - 28).len(), 20);
    assert_eq!(line.send("10.9.7.2:901", 20, 1281 - 28).len(), 0);
    assert_eq!(line.emulator.counters(Direction::Forth).too_big.load(Ordering::Relaxed), 20);
}
