//! QUIC under the same streams: configuration of both ends, their sockets, accepting, and the task that moves it.

mod accept;
mod config;
mod congestion;
mod credit;
mod socket;
mod stream;

use std::{io, sync::Arc};

use futures::FutureExt;
use quinn::{ApplicationClose, ConnectionError, VarInt};
use sluice_connector_wire::Transport;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

pub use accept::{AcceptLimits, Accepted, Acceptor};
pub use config::{
    AGENT_STREAMS, BadTls, CONNECTION_WINDOW, DATAGRAM_BUFFER, GATEWAY_STREAMS, IDLE_TIMEOUT, KEEP_ALIVE, SEND_WINDOW,
    client_config, server_config,
};
pub use socket::{Marks, UDP_BUFFER, agent_endpoint, bind, gateway_endpoint, rebind};
pub(crate) use stream::QuicStream;

use credit::Ledger;

use crate::{
    Connection, End, Heard, Stream,
    connection::{Opener, Way},
    datagrams::Desk,
    stream::Kind,
};

/// Code of a connection or stream that was given up or closed on purpose.
pub(crate) const CLOSED: VarInt = VarInt::from_u32(0);

pub(crate) fn drive(connection: quinn::Connection, end: End) -> Connection {
    let connection = Arc::new(Closing(connection));
    let room = match end {
        End::Agent => GATEWAY_STREAMS,
        End::Gateway => AGENT_STREAMS,
    };
    let heard = Heard::quic(&connection);
    let (found, inbound) = mpsc::channel(room as usize);
    let (close, closing) = mpsc::channel(1);
    let desk = Desk::new(connection.0.clone());
    let ledger = Ledger::new();
    let telling = AbortOnDropHandle::new(tokio::spawn(ledger.clone().tell(connection.0.clone())));
    let opener = QuicOpener { connection: connection.0.clone(), desk, ledger, tails: TaskTracker::new() };
    let driver = Driver { connection, opener: opener.clone(), found, closing, hearing: None, _telling: telling };
    let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
    Connection { inbound, opener: Opener(Way::Quic(opener)), heard, close, transport: Transport::Quic, _driver: driver }
}

/// Closes the connection when the driver goes, whatever streams still hold it.
#[derive(Debug)]
pub(crate) struct Closing(pub(crate) quinn::Connection);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close(CLOSED, b"");
    }
}

/// What it takes to make a [`Stream`] of a pair of QUIC halves.
#[derive(Clone, Debug)]
pub(crate) struct QuicOpener {
    connection: quinn::Connection,
    pub(crate) desk: Desk,
    pub(crate) ledger: Ledger,
    /// One task for each stream whose end the peer has still to acknowledge.
    pub(crate) tails: TaskTracker,
}

impl QuicOpener {
    pub(crate) fn open(&self) -> io::Result<Stream> {
        match self.connection.open_bi().now_or_never() {
            Some(Ok((send, receive))) => Ok(self.stream(send, receive)),
            Some(Err(error)) => Err(broken(error)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn stream(&self, send: quinn::SendStream, receive: quinn::RecvStream) -> Stream {
        Stream(Kind::Quic(QuicStream::new(send, receive, self.clone())))
    }
}

struct Driver {
    connection: Arc<Closing>,
    opener: QuicOpener,
    found: mpsc::Sender<io::Result<Stream>>,
    closing: mpsc::Receiver<oneshot::Sender<io::Result<()>>>,
    /// What the peer lets us send.
    hearing: Option<AbortOnDropHandle<()>>,
    _telling: AbortOnDropHandle<io::Result<()>>,
}

impl Driver {
    async fn run(mut self) {
        let connection = self.connection.0.clone();
        loop {
            tokio::select! {
                next = connection.accept_bi() => match next {
                    Ok((send, receive)) => {
                        // QUIC lets the peer have no more streams than there is room for.
                        if self.found.try_send(Ok(self.opener.stream(send, receive))).is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        if !is_goodbye(&error) {
                            // Nobody listening is fine.
                            drop(self.found.send(Err(broken(error))).await);
                        }
                        return;
                    }
                },
                Ok(line) = connection.accept_uni(), if self.hearing.is_none() => {
                    let hearing = tokio::spawn(self.opener.ledger.clone().hear(line));
                    self.hearing = Some(AbortOnDropHandle::new(hearing));
                }
                datagram = connection.read_datagram() => if let Ok(datagram) = datagram {
                    self.opener.desk.deliver(datagram);
                },
                Some(done) = self.closing.recv() => {
                    self.opener.tails.close();
                    self.opener.tails.wait().await;
                    connection.close(CLOSED, b"");
                    // Nobody waiting is fine.
                    drop(done.send(Ok(())));
                    return;
                }
            }
        }
    }
}

fn is_goodbye(error: &ConnectionError) -> bool {
    match error {
        ConnectionError::LocallyClosed => true,
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, .. }) => *error_code == CLOSED,
        _ => false,
    }
}

fn broken(error: ConnectionError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}
