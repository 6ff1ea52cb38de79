//! Small programs of the demo's own that run inside its namespaces: an echo server and a steady stream.

use std::{
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};

use crate::{process::Process, topology::Ns};

/// An echo server for TCP and UDP: the rest of the world, as seen by a hub.
#[derive(Debug)]
pub(super) struct Echo {
    _process: Process,
}

/// One connection through which a byte goes back and forth all the time.
#[derive(Debug)]
pub(super) struct Stream {
    process: Process,
    beats: PathBuf,
}

/// Pause between two bytes of a stream.
const BEAT: Duration = Duration::from_millis(10);
/// How long a stream waits for one byte before it gives up.
const PATIENCE: Duration = Duration::from_secs(3);

impl Echo {
    /// Its port.
    pub(super) const PORT: u16 = 7007;

    pub(super) fn start(demo: &Path, ns: &Ns, addresses: &[SocketAddr], logs: &Path) -> Result<Self> {
        let mut command = ns.command(demo);
        command.arg("echo").args(addresses.iter().map(ToString::to_string));
        let mut process = Process::start("echo", command, logs)?;
        for address in addresses {
            process.wait_for_port(ns, *address, Duration::from_secs(10))?;
        }
        Ok(Self { _process: process })
    }
}

impl Stream {
    /// Starts one from `ns` to the echo server at `to`.
    pub(super) fn start(demo: &Path, ns: &Ns, to: SocketAddr, folder: &Path, logs: &Path) -> Result<Self> {
        let beats = folder.join("stream-beats");
        let mut command = ns.command(demo);
        command.arg("stream").arg(to.to_string()).arg(&beats);
        let mut process = Process::start("stream", command, logs)?;
        process.wait_until("byte through the stream", Duration::from_secs(10), || last_beat(&beats))?;
        Ok(Self { process, beats })
    }

    /// When the newest byte came back, milliseconds since 1970.
    pub(super) fn last_beat(&self) -> Option<u64> {
        last_beat(&self.beats)
    }

    /// Whether bytes still come back: none for `quiet` means no.
    pub(super) fn flows(&mut self, quiet: Duration) -> bool {
        let limit = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        self.process.running().unwrap_or(false)
            && self.last_beat().is_some_and(|beat| now_ms().saturating_sub(beat) < limit)
    }
}

fn last_beat(file: &Path) -> Option<u64> {
    let bytes = std::fs::read(file).ok()?;
    String::from_utf8_lossy(&bytes).trim().parse().ok()
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `demo echo ADDRESS…`: sends back what comes, until it is killed.
///
/// # Errors
/// An address cannot be used.
pub fn echo(addresses: &[SocketAddr]) -> Result<()> {
    for address in addresses {
        let datagrams = UdpSocket::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let connections = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        thread::spawn(move || echo_datagrams(&datagrams));
        thread::spawn(move || {
            for connection in connections.incoming().flatten() {
                thread::spawn(move || echo_connection(connection));
            }
        });
    }
    loop {
        thread::park();
    }
}

fn echo_datagrams(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((length, from)) = socket.recv_from(&mut buffer) {
        if let Some(datagram) = buffer.get(..length) {
            // A peer that has gone away again is no reason to stop.
            let _sent = socket.send_to(datagram, from);
        }
    }
}

fn echo_connection(mut connection: TcpStream) {
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = connection.read(&mut buffer) {
        let Some(bytes) = buffer.get(..length) else { return };
        if connection.write_all(bytes).is_err() {
            return;
        }
    }
}

/// `demo stream ADDRESS FILE`: one byte every 10 ms; writes the time of the newest one that came back.
///
/// # Errors
/// The connection broke, or nothing came back for 3 s.
pub fn stream(to: SocketAddr, file: &Path) -> Result<()> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let fresh = file.with_extension("new");
    loop {
        connection.write_all(b".")?;
        connection.read_exact(&mut [0])?;
        File::create(&fresh)?.write_all(now_ms().to_string().as_bytes())?;
        std::fs::rename(&fresh, file)?;
        thread::sleep(BEAT);
    }
}
