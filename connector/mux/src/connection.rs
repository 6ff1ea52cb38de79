//! The connection under the streams.

use std::io;

use sluice_connector_wire::Transport;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Heard, Stream, quic, tcp};

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Dialled; opens one stream, its line.
    Agent,
    /// Accepted; opens all the others.
    Gateway,
}

/// A connection. Its own task moves it; dropping it ends that task and breaks every stream.
#[derive(Debug)]
pub struct Connection {
    pub(crate) inbound: mpsc::Receiver<io::Result<Stream>>,
    pub(crate) opener: Opener,
    pub(crate) heard: Heard,
    pub(crate) close: mpsc::Sender<oneshot::Sender<io::Result<()>>>,
    pub(crate) transport: Transport,
    /// Last: whoever drops this aborts it.
    pub(crate) _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Over `io`, which keeps order and has finished its TLS handshake. [`Heard`] counts what `io` gives and takes.
    pub fn over_tcp<T>(io: T, end: End) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, heard) = crate::Metered::new(io);
        tcp::drive(io, end, heard)
    }

    /// As [`Connection::over_tcp`] where bytes are counted elsewhere, best below TLS ([`Metered::over_tcp`]): a record
    /// that is still arriving on a slow line counts there already.
    ///
    /// [`Metered::over_tcp`]: crate::Metered::over_tcp
    pub fn over_metered_tcp<T>(io: T, end: End, heard: Heard) -> Self
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        tcp::drive(io, end, heard)
    }

    /// Over a QUIC connection whose handshake is done and whose peer is proved.
    #[must_use]
    pub fn over_quic(connection: quinn::Connection, end: End) -> Self {
        quic::drive(connection, end)
    }

    /// The next stream that the other end opens; `None` when the connection was closed, then for ever. May be cancelled
    /// and called again.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Option<io::Result<Stream>> {
        self.inbound.recv().await
    }

    /// Opens streams, also from other tasks. It may outlive the connection; then it opens none.
    #[must_use]
    pub fn opener(&self) -> Opener {
        self.opener.clone()
    }

    /// What has been heard of the other end.
    #[must_use]
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// What carries it.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Says goodbye: takes no new streams, sends what streams have been given to send, and ends.
    ///
    /// # Errors
    /// The connection was broken.
    pub async fn close(&mut self) -> io::Result<()> {
        let (done, closed) = oneshot::channel();
        if self.close.send(done).await.is_err() {
            return Ok(());
        }
        // A driver that ends without an answer has closed.
        closed.await.unwrap_or(Ok(()))
    }
}

/// Opens streams on one connection.
#[derive(Clone, Debug)]
pub struct Opener(pub(crate) Way);

#[derive(Clone, Debug)]
pub(crate) enum Way {
    Tcp(tcp::Shared),
    Quic(quic::QuicOpener),
}

impl Opener {
    /// Opens a stream; the other end hears of it with the first bytes written.
    ///
    /// # Errors
    /// `WouldBlock` when the other end takes no more at present; otherwise the connection is closed or broken.
    #[expect(clippy::unused_async, reason = "whoever opens a stream must be ready to wait")]
    pub async fn open(&self) -> io::Result<Stream> {
        match &self.0 {
            Way::Tcp(shared) => shared.open(),
            Way::Quic(opener) => opener.open(),
        }
    }
}

pub(crate) fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the tunnel's connection has ended")
}
