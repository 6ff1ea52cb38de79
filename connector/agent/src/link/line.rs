//! The agent's line: the first stream of a connection.

use std::time::Duration;

use anyhow::Context;
use sluice_connector_mux::{Stream, read_frame, write_frame};
use sluice_connector_wire::{AgentHello, AgentSays, GatewaySays};
use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::{mpsc, watch},
};

/// What may wait to be said: pings of as many seconds.
const WAITING: usize = 8;

/// Both directions as queues. What waits is moved by [`carry`].
pub(super) struct Line {
    say: mpsc::Sender<AgentSays>,
    retire: watch::Sender<bool>,
    said: mpsc::Receiver<GatewaySays>,
}

impl Line {
    /// Says something soon. A line that is full of pings takes no more of them.
    pub(super) fn say(&self, words: AgentSays) {
        if let Err(error) = self.say.try_send(words) {
            tracing::debug!(%error, "the line takes no more at present");
        }
    }

    /// Says, before anything else that waits, that no new streams are wanted. This is never left out.
    pub(super) fn retire(&self) {
        self.retire.send_replace(true);
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
    let (retire, retired) = watch::channel(false);
    let (read, write) = split(stream);
    let carrying = async {
        tokio::select! {
            ended = speak(write, hello, waiting, retired) => ended,
            ended = listen(read, told) => ended,
        }
    };
    (Line { say, retire, said }, carrying)
}

/// However long it takes: whether the gateway is still there is judged by what is heard.
async fn speak(
    mut line: WriteHalf<Stream>,
    hello: AgentHello,
    mut waiting: mpsc::Receiver<AgentSays>,
    mut retire: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    write_frame(&mut line, &hello, Duration::MAX).await.context("saying hello")?;
    let mut retired = false;
    loop {
        let words = tokio::select! {
            biased;
            wanted = retire.changed(), if !retired => {
                if wanted.is_err() {
                    return Ok(());
                }
                retired = true;
                AgentSays::Retire
            }
            words = waiting.recv() => match words {
                Some(words) => words,
                None => return Ok(()),
            },
        };
        write_frame(&mut line, &words, Duration::MAX).await.context("the agent's line broke")?;
    }
}

async fn listen(mut line: ReadHalf<Stream>, told: mpsc::Sender<GatewaySays>) -> anyhow::Result<()> {
    loop {
        let said = read_frame(&mut line, Duration::MAX).await.context("the gateway hung up or spoke out of turn")?;
        if told.send(said).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use sluice_connector_mux::{Connection, End};
    use sluice_connector_wire::ClassPair;

    use super::*;

    #[tokio::test]
    async fn c2_a_line_full_of_pings_still_says_that_no_new_streams_are_wanted() {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (agent, mut gateway) = (Connection::over_tcp(near, End::Agent), Connection::over_tcp(far, End::Gateway));
        let hello = AgentHello { sid: "A".to_owned(), pair: ClassPair::Bulk };
        let (line, carrying) = open(agent.opener().open().await.unwrap(), hello);
        for number in 0..WAITING as u64 * 2 {
            line.say(AgentSays::Ping { number, rtt_micros: None, streams: 0, room: 1 });
        }
        line.retire();
        let hearing = async {
            let mut stream = gateway.next().await.unwrap().unwrap();
            let hear = async {
                let _hello: AgentHello = read_frame(&mut stream, Duration::MAX).await.unwrap();
                while read_frame::<AgentSays>(&mut stream, Duration::MAX).await.unwrap() != AgentSays::Retire {}
            };
            tokio::select! {
                () = hear => {}
                _ = gateway.next() => {}
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(20), async {
            tokio::select! {
                () = hearing => true,
                _ = carrying => false,
            }
        });
        assert_eq!(heard.await, Ok(true));
    }
}
