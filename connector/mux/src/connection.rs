//! The connection under the streams.

use std::{future::poll_fn, io, task::Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, ConnectionError, Mode};

use crate::Stream;

/// Most streams of one connection. A peer that opens more loses the connection (so says yamux): whoever opens
/// streams keeps well below it, because a dropped stream counts until both ends have noticed.
pub const MAX_STREAMS: usize = 512;
/// Receive window that the streams of one connection may take together beyond yamux's 256 KiB each, in bytes.
pub const WINDOW_RESERVE: usize = 64 * 1024 * 1024;
const FIRST_WINDOW: usize = yamux::DEFAULT_CREDIT as usize;
/// Holds a frame's header and body together, so that they become one TLS record.
const WRITE_BUFFER: usize = 32 * 1024;

/// A connection. It moves only while [`Connection::next`] is being awaited.
#[derive(Debug)]
pub struct Connection<T> {
    inner: yamux::Connection<Compat<BufWriter<T>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Connection<T> {
    /// The agent's end.
    pub fn client(io: T) -> Self {
        Self::new(io, Mode::Client)
    }

    /// The gateway's end.
    pub fn server(io: T) -> Self {
        Self::new(io, Mode::Server)
    }

    fn new(io: T, mode: Mode) -> Self {
        let mut config = Config::default();
        // The order matters: each setter checks itself against the other's value.
        config.set_max_connection_receive_window(None);
        config.set_max_num_streams(MAX_STREAMS);
        config.set_max_connection_receive_window(Some(MAX_STREAMS * FIRST_WINDOW + WINDOW_RESERVE));
        let io = BufWriter::with_capacity(WRITE_BUFFER, io).compat();
        Self { inner: yamux::Connection::new(io, config, mode) }
    }

    /// The next stream that the other end opens; `None` when it has closed the connection. May be cancelled and
    /// called again.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn next(&mut self) -> Option<io::Result<Stream>> {
        let next = poll_fn(|cx| self.inner.poll_next_inbound(cx)).await?;
        Some(next.map(Stream::new).map_err(broken))
    }

    /// Opens a stream; the other end hears of it with the first bytes written.
    ///
    /// # Errors
    /// `WouldBlock` when too many are unanswered; otherwise the connection is broken.
    pub async fn open(&mut self) -> io::Result<Stream> {
        poll_fn(|cx| match self.inner.poll_new_outbound(cx) {
            Poll::Ready(opened) => Poll::Ready(opened.map(Stream::new).map_err(broken)),
            // Waiting here would stop `next`, which brings the answers.
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::WouldBlock.into())),
        })
        .await
    }

    /// Says goodbye.
    ///
    /// # Errors
    /// The connection was broken.
    pub async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.inner.poll_close(cx)).await.map_err(broken)
    }
}

fn broken(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}
