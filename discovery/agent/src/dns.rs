//! DNS on the wire: datagrams, and bounded TCP connections.

use std::{net::IpAddr, sync::Arc, time::Duration};

use anyhow::Context;
use sluice_discovery_rules::dns::{Carrier, MAX_QUERY, Question, Verdict};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};
use tracing::debug;

use crate::{forward, lan::Desk, seats::Seats};

/// Questions that wait for the resolver at a time, per listening socket.
const MAX_FORWARDED: usize = 64;
/// TCP connections at a time, per listening socket: of admitted devices, and of others; and per client address.
const MAX_CONNECTIONS: usize = 32;
const MAX_PER_ADDRESS: usize = 4;
/// Questions on one TCP connection.
const MAX_QUESTIONS: usize = 16;
/// How long a TCP client may take for one question.
const PATIENCE: Duration = Duration::from_secs(10);

/// Datagrams, for ever.
pub(crate) async fn run_udp(socket: std::net::UdpSocket, desk: Arc<Desk>) -> anyhow::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(socket).context("DNS socket")?);
    let slots = Arc::new(Semaphore::new(MAX_FORWARDED));
    let mut buffer = [0; MAX_QUERY + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let Some(message) = buffer.get(..length) else { continue };
        match desk.dns(message, from.ip(), Carrier::Udp) {
            Verdict::Reply(bytes) => send(&socket, &bytes, from).await,
            Verdict::Drop => {}
            Verdict::Forward(question) => {
                let Ok(slot) = slots.clone().try_acquire_owned() else {
                    send(&socket, &question.failed().unwrap_or_default(), from).await;
                    continue;
                };
                let (socket, resolver) = (socket.clone(), desk.resolver());
                tokio::spawn(async move {
                    let _slot = slot;
                    if let Some(bytes) = resolve(&question, resolver, Carrier::Udp).await {
                        send(&socket, &bytes, from).await;
                    }
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, bytes: &[u8], to: std::net::SocketAddr) {
    if bytes.is_empty() {
        return;
    }
    if let Err(error) = socket.send_to(bytes, to).await {
        debug!(%error, "cannot send a DNS answer");
    }
}

/// TCP connections, for ever.
pub(crate) async fn run_tcp(listener: std::net::TcpListener, desk: Arc<Desk>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener).context("DNS listener")?;
    let seats = Seats::new(MAX_CONNECTIONS, MAX_PER_ADDRESS);
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(seat) = seats.take(from.ip(), desk.is_admitted(from.ip())) else { continue };
        let desk = desk.clone();
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(error) = converse(stream, from.ip(), &desk).await {
                debug!(%error, "DNS over TCP");
            }
        });
    }
}

async fn converse(mut stream: TcpStream, from: IpAddr, desk: &Desk) -> anyhow::Result<()> {
    for _ in 0..MAX_QUESTIONS {
        let Some(message) = timeout(PATIENCE, read(&mut stream)).await?? else { return Ok(()) };
        let answer = match desk.dns(&message, from, Carrier::Tcp) {
            Verdict::Reply(bytes) => Some(bytes),
            Verdict::Drop => None,
            Verdict::Forward(question) => resolve(&question, desk.resolver(), Carrier::Tcp).await,
        };
        let Some(answer) = answer else { return Ok(()) };
        let mut framed = u16::try_from(answer.len())?.to_be_bytes().to_vec();
        framed.extend(answer);
        timeout(PATIENCE, stream.write_all(&framed)).await??;
    }
    Ok(())
}

async fn read(stream: &mut TcpStream) -> anyhow::Result<Option<Vec<u8>>> {
    let mut prefix = [0; 2];
    if stream.read_exact(&mut prefix).await.is_err() {
        return Ok(None);
    }
    let length = usize::from(u16::from_be_bytes(prefix));
    anyhow::ensure!(length <= MAX_QUERY, "question of {length} bytes");
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// The resolver's answer, or "server failure".
async fn resolve(question: &Question, resolver: Option<std::net::SocketAddr>, carrier: Carrier) -> Option<Vec<u8>> {
    let Some(resolver) = resolver else { return question.failed() };
    match forward::ask(question, resolver, carrier).await {
        Ok(answer) => Some(answer),
        Err(error) => {
            debug!(%error, "the resolver did not answer");
            question.failed()
        }
    }
}
