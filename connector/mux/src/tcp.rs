//! yamux over an ordered byte stream, and the task that moves it.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::io::{AsyncRead as _, AsyncWrite as _};
use sluice_connector_wire::Transport;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    sync::{mpsc, oneshot},
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt},
    task::AbortOnDropHandle,
};
use yamux::{Config, ConnectionError, Mode};

use crate::{
    Connection, End, Heard, Stream,
    connection::{Opener, Way},
    stream::Kind,
};

/// Most streams of one connection. A peer that opens more loses the connection (so says yamux): whoever opens
/// streams keeps well below it, because a dropped stream counts until both ends have noticed.
pub const MAX_STREAMS: usize = 512;
/// Receive window that the streams of one connection may take together beyond yamux's 256 KiB each, in bytes.
pub const WINDOW_RESERVE: usize = 64 * 1024 * 1024;
const FIRST_WINDOW: usize = yamux::DEFAULT_CREDIT as usize;
/// Holds a frame's header and body together, so that they become one TLS record.
const WRITE_BUFFER: usize = 32 * 1024;
/// Openings that wait for the driver.
const OPEN_QUEUE: usize = 64;

/// Asks the driver for a stream.
pub(crate) type OpenRequest = oneshot::Sender<io::Result<Stream>>;
type CloseRequest = oneshot::Sender<io::Result<()>>;

pub(crate) fn drive<T>(io: T, end: End, heard: Heard) -> Connection
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mode = match end {
        End::Agent => Mode::Client,
        End::Gateway => Mode::Server,
    };
    let mut config = Config::default();
    // The order matters: each setter checks itself against the other's value.
    config.set_max_connection_receive_window(None);
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_STREAMS * FIRST_WINDOW + WINDOW_RESERVE));
    let io = BufWriter::with_capacity(WRITE_BUFFER, io).compat();
    let (found, inbound) = mpsc::channel(MAX_STREAMS);
    let (opener, open) = mpsc::channel(OPEN_QUEUE);
    let (close, closing) = mpsc::channel(1);
    let driver = Driver { inner: yamux::Connection::new(io, config, mode), found, open, closing };
    let driver = AbortOnDropHandle::new(tokio::spawn(driver.run()));
    Connection { inbound, opener: Opener(Way::Tcp(opener)), heard, close, transport: Transport::Tcp, _driver: driver }
}

struct Driver<T> {
    inner: yamux::Connection<Compat<BufWriter<T>>>,
    found: mpsc::Sender<io::Result<Stream>>,
    open: mpsc::Receiver<OpenRequest>,
    closing: mpsc::Receiver<CloseRequest>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    async fn run(mut self) {
        loop {
            tokio::select! {
                next = poll_fn(|cx| self.inner.poll_next_inbound(cx)) => match next {
                    None => return,
                    Some(Ok(stream)) => {
                        // As many as there may be have room, so one that has none is one too many.
                        if self.found.try_send(Ok(Stream(Kind::Tcp(TcpStream::new(stream))))).is_err() {
                            return;
                        }
                    }
                    Some(Err(error)) => {
                        // Nobody listening is fine.
                        drop(self.found.send(Err(broken(error))).await);
                        return;
                    }
                },
                Some(reply) = self.open.recv() => {
                    let opened = poll_fn(|cx| Poll::Ready(self.open_now(cx))).await;
                    // The one who asked may have gone; then the stream goes too.
                    drop(reply.send(opened));
                }
                Some(done) = self.closing.recv() => {
                    let closed = poll_fn(|cx| self.inner.poll_close(cx)).await.map_err(broken);
                    drop(done.send(closed));
                    return;
                }
            }
        }
    }

    fn open_now(&mut self, cx: &mut Context<'_>) -> io::Result<Stream> {
        match self.inner.poll_new_outbound(cx) {
            Poll::Ready(Ok(stream)) => Ok(Stream(Kind::Tcp(TcpStream::new(stream)))),
            Poll::Ready(Err(error)) => Err(broken(error)),
            // Waiting here would stop the driver, which brings the answers.
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn broken(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// One yamux stream.
#[derive(Debug)]
pub(crate) struct TcpStream {
    inner: yamux::Stream,
    shut: bool,
}

impl TcpStream {
    const fn new(inner: yamux::Stream) -> Self {
        Self { inner, shut: false }
    }
}

impl AsyncRead for TcpStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf.initialize_unfilled()))?;
        // yamux reports a reset, and a lost connection, as the end of the stream. A clean end before our own leaves
        // the stream half open; if it is closed altogether, bytes may be missing.
        if read == 0 && !self.shut && self.inner.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TcpStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_close(cx))?;
        self.shut = true;
        Poll::Ready(Ok(()))
    }
}
