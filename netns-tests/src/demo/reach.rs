//! What can be reached from where: attempts with a deadline, made inside a namespace.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{process::run, topology::Ns};

/// How long silence must last to count as silence.
const PATIENCE: Duration = Duration::from_millis(700);
/// Simultaneous attempts of a scan.
const SCANNERS: usize = 512;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Connected, or the datagram came back.
    Open,
    /// Somebody said no.
    Refused,
    /// Nobody said anything.
    Silent,
}

/// A way to knock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knock {
    Tcp(SocketAddr),
    /// To an echo server.
    Udp(SocketAddr),
    Ping(IpAddr),
}

impl std::fmt::Display for Knock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(to) => write!(f, "tcp {to}"),
            Self::Udp(to) => write!(f, "udp {to}"),
            Self::Ping(to) => write!(f, "ping {to}"),
        }
    }
}

/// Knocks from `ns`.
pub(super) fn knock(ns: &Ns, knock: Knock) -> Result<Answer> {
    match knock {
        Knock::Tcp(to) => ns.enter(move || tcp(to, PATIENCE)),
        Knock::Udp(to) => ns.enter(move || udp(to).unwrap_or(Answer::Refused)),
        Knock::Ping(to) => {
            let mut ping = ns.command("ping");
            ping.args(["-n", "-c", "1", "-W", "1", &to.to_string()]);
            let ended = run(&ping, Duration::from_secs(5))?;
            Ok(if ended.code == 0 { Answer::Open } else { Answer::Silent })
        }
    }
}

/// The open TCP ports among `ports` of `address`, and how many attempts were refused rather than ignored.
pub(super) fn scan(ns: &Ns, address: IpAddr, ports: Vec<u16>) -> Result<(Vec<u16>, usize)> {
    ns.enter(move || {
        let next = Arc::new(AtomicUsize::new(0));
        let ports = Arc::new(ports);
        let found = Arc::new(Mutex::new((Vec::new(), 0)));
        let scanners: Vec<_> = (0..SCANNERS)
            .map(|_| {
                let (next, ports, found) = (Arc::clone(&next), Arc::clone(&ports), Arc::clone(&found));
                thread::spawn(move || {
                    while let Some(port) = ports.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let answer = tcp((address, *port).into(), PATIENCE);
                        let Ok(mut found) = found.lock() else { return };
                        match answer {
                            Answer::Open => found.0.push(*port),
                            Answer::Refused => found.1 += 1,
                            Answer::Silent => {}
                        }
                    }
                })
            })
            .collect();
        for scanner in scanners {
            scanner.join().ok().context("a scanner panicked")?;
        }
        let found = found.lock().ok().context("a scanner panicked")?;
        Ok(found.clone())
    })?
}

fn tcp(to: SocketAddr, patience: Duration) -> Answer {
    match TcpStream::connect_timeout(&to, patience) {
        Ok(_) => Answer::Open,
        Err(error) if error.kind() == ErrorKind::TimedOut => Answer::Silent,
        Err(_) => Answer::Refused,
    }
}

fn udp(to: SocketAddr) -> std::io::Result<Answer> {
    let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"knock")?;
    match socket.recv(&mut [0; 16]) {
        Ok(_) => Ok(Answer::Open),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(Answer::Silent),
        Err(_) => Ok(Answer::Refused),
    }
}
