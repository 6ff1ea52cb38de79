//! One question to the configured resolver, each from its own port with its own random number.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, anyhow};
use sluice_discovery_rules::dns::{Carrier, MAX_UDP, Question};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

/// How long the resolver may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// Datagrams that are not the answer and are skipped: more look like guessing.
const MAX_SKIPPED: usize = 8;

pub(crate) async fn ask(question: &Question, resolver: SocketAddr, carrier: Carrier) -> anyhow::Result<Vec<u8>> {
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| anyhow!("no randomness"))?;
    let id = u16::from_be_bytes(id);
    let asking = async {
        match carrier {
            Carrier::Udp => ask_udp(question, resolver, id).await,
            Carrier::Tcp => ask_tcp(question, resolver, id).await,
        }
    };
    timeout(PATIENCE, asking).await.context("no answer in time")?
}

async fn ask_udp(question: &Question, resolver: SocketAddr, id: u16) -> anyhow::Result<Vec<u8>> {
    let any = match resolver {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(&question.ask(id)).await?;
    let mut buffer = vec![0; usize::from(MAX_UDP)];
    for _ in 0..MAX_SKIPPED {
        let length = socket.recv(&mut buffer).await?;
        if let Some(answer) = buffer.get(..length).and_then(|bytes| question.relay(bytes, id)) {
            return Ok(answer);
        }
    }
    Err(anyhow!("{MAX_SKIPPED} answers to something else"))
}

async fn ask_tcp(question: &Question, resolver: SocketAddr, id: u16) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let message = question.ask(id);
    let mut framed = u16::try_from(message.len())?.to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    question.relay(&answer, id).ok_or_else(|| anyhow!("an answer to something else"))
}
