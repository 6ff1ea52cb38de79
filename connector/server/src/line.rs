//! The agent's line: pings are answered at once, a retiring connection gets no new streams, and a stopping gateway
//! says so.

use std::{io, time::Duration};

use anyhow::{Context, bail, ensure};
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_wire::{AgentSays, GatewaySays};
use tokio::{
    io::{AsyncRead, AsyncWrite, split},
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{
    limits::{Limits, PINGS_A_SECOND},
    registry::Registered,
};

/// Answers waiting for a line that does not move; beyond it no more pings are read.
const PONGS_WAITING: usize = 4;
const SECOND: Duration = Duration::from_secs(1);

/// Holds the line until it breaks.
///
/// # Errors
/// Always: it broke, or the agent spoke out of turn.
pub(crate) async fn hold(
    line: Stream,
    registered: &Registered<'_>,
    leaving: watch::Receiver<bool>,
    limits: &Limits,
) -> anyhow::Result<()> {
    let (read, write) = split(line);
    let (pongs, waiting) = mpsc::channel(PONGS_WAITING);
    tokio::select! {
        ended = listen(read, registered, pongs) => ended,
        ended = speak(write, waiting, leaving, limits.handshake) => ended,
    }
}

async fn listen(
    mut line: impl AsyncRead + Unpin,
    registered: &Registered<'_>,
    pongs: mpsc::Sender<u64>,
) -> anyhow::Result<()> {
    let (mut since, mut pings) = (Instant::now(), 0_u32);
    loop {
        match read_frame(&mut line, Duration::MAX).await {
            Ok(AgentSays::Ping { number, rtt_micros, streams, room }) => {
                if since.elapsed() >= SECOND {
                    (since, pings) = (Instant::now(), 0);
                }
                pings += 1;
                ensure!(pings <= PINGS_A_SECOND, "the agent pinged more than {PINGS_A_SECOND} times in a second");
                registered.leg.heard_ping(rtt_micros, streams, room);
                pongs.send(number).await.context("the line is not written any more")?;
            }
            Ok(AgentSays::Retire) => registered.retire(),
            // An agent that ends its side of the line has nothing more to say.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                registered.retire();
                std::future::pending::<()>().await;
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => bail!("the agent spoke out of turn: {error}"),
            Err(error) => return Err(error).context("the agent's line broke"),
        }
    }
}

async fn speak(
    mut line: impl AsyncWrite + Unpin,
    mut pongs: mpsc::Receiver<u64>,
    mut leaving: watch::Receiver<bool>,
    limit: Duration,
) -> anyhow::Result<()> {
    let mut said = false;
    loop {
        let say = tokio::select! {
            Some(number) = pongs.recv() => GatewaySays::Pong { number },
            Ok(_) = leaving.wait_for(|leaving| *leaving), if !said => {
                said = true;
                GatewaySays::Leaving
            }
            else => bail!("the line has nobody left to speak for"),
        };
        write_frame(&mut line, &say, limit).await.context("the agent does not read its line")?;
    }
}
