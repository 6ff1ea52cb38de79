//! The wire side's end of the socket to the kernel writer.

use std::{os::unix::net::UnixStream as StdUnixStream, time::Duration};

use anyhow::{Context, anyhow, bail};
use async_trait::async_trait;
use sluice_discovery_agent::Kernel;
use sluice_discovery_rules::{EdgeDocument, staging::Action};
use sluice_qos_plan::{
    Pinhole, QosPolicy, Transport,
    message::{self, FromKernel, ToKernel},
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

/// Sends messages, one at a time.
pub(super) struct Writer {
    requests: OwnedWriteHalf,
    answers: mpsc::Receiver<FromKernel>,
    pinholes: Vec<Pinhole>,
}

/// Takes the socket over. The receiver becomes true when the kernel writer is gone.
pub(super) fn connect(socket: StdUnixStream) -> anyhow::Result<(Writer, watch::Receiver<bool>)> {
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
    Ok((Writer { requests, answers, pinholes: Vec::new() }, is_gone))
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
    async fn apply(&mut self, action: Action) -> anyhow::Result<()> {
        let request = match action {
            Action::Admit { mac, address } => ToKernel::Admit { mac, address },
            Action::Restage { mac, address } => ToKernel::Restage { mac, address },
        };
        self.must(&request).await
    }

    async fn document(&mut self, document: &EdgeDocument) -> anyhow::Result<Result<(), String>> {
        let (pinholes, policy) = orders(document);
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

fn orders(document: &EdgeDocument) -> (Vec<Pinhole>, QosPolicy) {
    let pinhole = |to: &sluice_discovery_rules::StagingDestination| Pinhole {
        transport: Transport::Tcp,
        address: to.address,
        port: to.port,
    };
    (document.staging.iter().map(pinhole).collect(), document.qos.clone())
}

#[cfg(test)]
mod tests;
