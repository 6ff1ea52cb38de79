//! The wire side's end of the socket to the kernel writer.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::unix::net::UnixStream as StdUnixStream,
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use sluice_discovery_agent::Kernel;
use sluice_discovery_rules::{EdgeDocument, staging::Action};
use sluice_qos_plan::{
    Pinhole, Transport,
    message::{self, Change, FromKernel, ToKernel},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::timeout,
};

/// How long the kernel writer may take for one message; it gives its programs less.
const PATIENCE: Duration = Duration::from_secs(30);
const NTP: u16 = 123;

/// Sends messages, one at a time.
pub(super) struct Writer {
    requests: OwnedWriteHalf,
    answers: mpsc::Receiver<FromKernel>,
    time_servers: Vec<Ipv4Addr>,
    pinholes: Vec<Pinhole>,
}

/// Takes the socket over. Staged devices may ask `time_servers`: without the time they cannot judge a certificate. The
/// receiver becomes true when the kernel writer is gone.
pub(super) fn connect(
    socket: StdUnixStream,
    time_servers: Vec<Ipv4Addr>,
) -> anyhow::Result<(Writer, watch::Receiver<bool>)> {
    socket.set_nonblocking(true)?;
    let (reading, requests) = UnixStream::from_std(socket).context("the kernel writer's socket")?.into_split();
    let (sender, answers) = mpsc::channel(1);
    let (gone, is_gone) = watch::channel(false);
    tokio::spawn(async move {
        if let Err(error) = forward(reading, sender).await {
            tracing::debug!("the kernel writer's socket: {error:#}");
        }
        gone.send_replace(true);
        std::future::pending::<()>().await;
    });
    Ok((Writer { requests, answers, time_servers, pinholes: Vec::new() }, is_gone))
}

async fn forward(mut reading: OwnedReadHalf, answers: mpsc::Sender<FromKernel>) -> anyhow::Result<()> {
    loop {
        let mut prefix = [0; 4];
        reading.read_exact(&mut prefix).await?;
        let mut body = vec![0; message::body_length(prefix)?];
        reading.read_exact(&mut body).await?;
        answers.send(message::decode(&body)?).await?;
    }
}

impl Writer {
    fn pinholes_of(&self, document: &EdgeDocument) -> Vec<Pinhole> {
        let services = document.staging.iter().map(|to| (Transport::Tcp, to.address, to.port));
        let clocks = self.time_servers.iter().map(|server| (Transport::Udp, IpAddr::V4(*server), NTP));
        services.chain(clocks).map(|(transport, address, port)| Pinhole { transport, address, port }).collect()
    }

    async fn ask(&mut self, request: &ToKernel) -> anyhow::Result<FromKernel> {
        let bytes = message::encode(request)?;
        let asking = async {
            self.requests.write_all(&bytes).await?;
            self.answers.recv().await.ok_or_else(|| anyhow!("the kernel writer is gone"))
        };
        timeout(PATIENCE, asking).await.context("the kernel writer does not answer")?
    }

    async fn must(&mut self, request: &ToKernel) -> anyhow::Result<()> {
        match self.ask(request).await? {
            FromKernel::Done => Ok(()),
            FromKernel::Refused { reason } => bail!("the kernel writer refused: {reason}"),
        }
    }
}

#[async_trait]
impl Kernel for Writer {
    async fn apply(&mut self, actions: &[Action]) -> anyhow::Result<()> {
        for some in actions.chunks(Change::MAX) {
            self.must(&ToKernel::Devices { changes: some.iter().map(change).collect() }).await?;
        }
        Ok(())
    }

    async fn document(&mut self, document: &EdgeDocument) -> anyhow::Result<Result<(), String>> {
        let (pinholes, policy) = (self.pinholes_of(document), document.qos.clone());
        if let FromKernel::Refused { reason } = self.ask(&ToKernel::Pinholes { pinholes: pinholes.clone() }).await? {
            return Ok(Err(reason));
        }
        if let FromKernel::Refused { reason } = self.ask(&ToKernel::Policy { policy }).await? {
            // Both or neither: the former list comes back.
            self.must(&ToKernel::Pinholes { pinholes: self.pinholes.clone() }).await?;
            return Ok(Err(reason));
        }
        self.pinholes = pinholes;
        Ok(Ok(()))
    }
}

const fn change(action: &Action) -> Change {
    match *action {
        Action::Admit { mac, address } => Change::Admit { mac, address },
        Action::Restage { mac, address } => Change::Restage { mac, address },
    }
}

#[cfg(test)]
mod tests;
