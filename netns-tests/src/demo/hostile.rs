//! Random and truncated bytes on every port that listens: nothing ends, nothing changes, nothing is logged as our fault.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use super::{
    Options,
    report::Evidence,
    roles::START,
    step_start,
    world::{CONTROL, EDGE_LAN, GATEWAY, World},
};
use crate::{admin::items, process::output, topology::Ns};

/// Connections per port.
const CONNECTIONS: u32 = 40;
/// Datagrams per port.
const DATAGRAMS: u32 = 300;
/// Longest message.
const LENGTH: u32 = 3000;

/// A small generator, so that a run can be repeated.
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 33).unwrap_or(0) % below.max(1)
    }

    fn bytes(&mut self, length: u32) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.roll(256)).unwrap_or(0)).collect()
    }

    /// Noise, or the beginning of something the port understands with noise behind it.
    fn message(&mut self) -> Vec<u8> {
        const BEGINNINGS: [&[u8]; 7] = [
            b"",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
            b"\x01\x01\x06\x00\x39\x03\xf3\x26\x00\x00\x00\x00",
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x3f",
        ];
        let pick = usize::try_from(self.roll(7)).unwrap_or(0);
        let mut message = BEGINNINGS.get(pick).copied().unwrap_or_default().to_vec();
        let length = self.roll(LENGTH);
        message.extend(self.bytes(length));
        let keep = self.roll(u32::try_from(message.len()).unwrap_or(1) + 1);
        message.truncate(usize::try_from(keep).unwrap_or(0));
        message
    }
}

/// Brings control and the nodes up, throws bytes at each of their ports, and sees whether they are what they were.
///
/// # Errors
/// Something ended, changed or logged an error; the message holds the seed.
pub fn run(options: &Options, seed: u64) -> Result<Vec<String>> {
    let mut world = World::build(options)?;
    let mut evidence = Evidence::start();
    step_start::joined(&mut world, &mut evidence)?;
    let before = world.admin.tenant(&["node", "list"])?;
    let pids = world.roles.node_pids()?;
    let mut told = Vec::new();
    for (listener, stranger, addresses) in [
        (&world.places.cloud, &world.places.user, CONTROL.both()),
        (&world.places.dmz, &world.places.user, GATEWAY.both()),
        (&world.places.edge, &world.places.hub, EDGE_LAN.both()),
    ] {
        if listener == &world.places.edge {
            world.places.hub.address("eth0", "10.20.0.201/24")?;
            world.places.hub.address("eth0", "2001:db8:20::201/64")?;
        }
        for (kind, flag) in [("tcp", "-Hltn"), ("udp", "-Hlun")] {
            let ports = ports(listener, flag)?;
            for port in &ports {
                for address in addresses {
                    throw(stranger, kind, (address, *port).into(), seed ^ u64::from(*port))?;
                }
            }
            told.push(format!("{}: {kind} {ports:?}", listener.name()));
        }
    }
    world.roles.alive_and_without_errors().with_context(|| format!("after random bytes, seed {seed}"))?;
    ensure!(world.roles.node_pids()? == pids, "a node was restarted, seed {seed}");
    ensure!(items(&before) == items(&world.admin.tenant(&["node", "list"])?), "the nodes have changed, seed {seed}");
    let page = world.bob.open("https://login.acme.test/")?;
    ensure!(page.status < 500, "the login host gives {}, seed {seed}", page.status);
    Ok(told)
}

/// Ports something in `ns` listens on, for anybody or for this network.
fn ports(ns: &Ns, flag: &str) -> Result<BTreeSet<u16>> {
    let listed = output(ns.command("ss").arg(flag))?;
    let locals = listed.lines().filter_map(|line| line.split_whitespace().nth(3));
    Ok(locals.filter_map(|local| local.rsplit(':').next()?.parse().ok()).collect())
}

fn throw(from: &Ns, kind: &'static str, to: SocketAddr, seed: u64) -> Result<()> {
    from.enter(move || {
        let mut dice = Dice(seed | 1);
        let rounds = if kind == "tcp" { CONNECTIONS } else { DATAGRAMS };
        for _ in 0..rounds {
            let message = dice.message();
            // Refusals of every sort are what is wanted here; what counts is how the listener is afterwards.
            let _outcome = match kind {
                "tcp" => connection(to, &message, dice.roll(3)),
                _ => datagram(to, &message),
            };
        }
    })
}

fn connection(to: SocketAddr, message: &[u8], ending: u32) -> std::io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_millis(30)))?;
    stream.set_write_timeout(Some(START))?;
    stream.write_all(message)?;
    match ending {
        0 => {}
        1 => stream.shutdown(Shutdown::Write)?,
        _ => drop(stream.read(&mut [0; 64])?),
    }
    Ok(())
}

fn datagram(to: SocketAddr, message: &[u8]) -> std::io::Result<()> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    UdpSocket::bind((any, 0))?.send_to(message, to).map(drop)
}
