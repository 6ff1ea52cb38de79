//! The agent's line: the first stream of a connection.

use std::time::Duration;

use anyhow::Context;
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_wire::{AgentHello, AgentSays, GatewaySays};
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::mpsc,
};

/// What may wait to be said: pings of as many seconds, and one word.
const WAITING: usize = 8;

/// Both directions as queues. What waits is moved by [`carry`].
pub(super) struct Line {
    say: mpsc::Sender<AgentSays>,
    said: mpsc::Receiver<GatewaySays>,
}

impl Line {
    /// Says something soon. A line that is full of pings takes no more of them.
    pub(super) fn say(&self, words: AgentSays) {
        if let Err(error) = self.say.try_send(words) {
            tracing::debug!(%error, "the line takes no more at present");
        }
    }

    /// What the gateway says next; never, once the line is broken. May be cancelled and called again.
    pub(super) async fn said(&mut self) -> GatewaySays {
        match self.said.recv().await {
            Some(said) => said,
            None => std::future::pending().await,
        }
    }
}

/// Says hello on `stream` and carries what is said both ways until the line breaks.
pub(super) fn open(stream: Stream, hello: AgentHello) -> (Line, impl Future<Output = anyhow::Result<()>>) {
    let ((say, waiting), (told, said)) = (mpsc::channel(WAITING), mpsc::channel(WAITING));
    let (read, write) = split(stream);
    let carrying = async {
        tokio::select! {
            ended = speak(write, hello, waiting) => ended,
            ended = listen(read, told) => ended,
        }
    };
    (Line { say, said }, carrying)
}

/// However long it takes: whether the gateway is still there is judged by what is heard.
async fn speak(
    mut line: WriteHalf<Stream>,
    hello: AgentHello,
    mut waiting: mpsc::Receiver<AgentSays>,
) -> anyhow::Result<()> {
    write_frame(&mut line, &hello, Duration::MAX).await.context("saying hello")?;
    while let Some(words) = waiting.recv().await {
        write_frame(&mut line, &words, Duration::MAX).await.context("the agent's line broke")?;
    }
    Ok(())
}

async fn listen(mut line: ReadHalf<Stream>, told: mpsc::Sender<GatewaySays>) -> anyhow::Result<()> {
    loop {
        let said = read_frame(&mut line, Duration::MAX).await.context("the gateway hung up or spoke out of turn")?;
        if told.send(said).await.is_err() {
            return Ok(());
        }
    }
}
