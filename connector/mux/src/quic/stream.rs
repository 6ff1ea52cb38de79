//! A pair of QUIC stream halves that behaves as [`crate::Stream`] promises.

use std::{
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use quinn::{ReadError, RecvStream, SendStream, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CLOSED, QuicOpener};

/// One stream. quinn finishes a half that is dropped; here it is reset instead.
#[derive(Debug)]
pub(crate) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    opener: QuicOpener,
    shut: bool,
    /// A reset was seen; quinn calls it an end when asked again.
    failed: Option<io::ErrorKind>,
}

impl QuicStream {
    pub(crate) const fn new(send: SendStream, receive: RecvStream, opener: QuicOpener) -> Self {
        Self { send, receive, opener, shut: false, failed: None }
    }

    /// Its number, the same at both ends.
    pub(crate) fn number(&self) -> u64 {
        quinn::VarInt::from(self.send.id()).into_inner()
    }

    pub(crate) const fn opener(&self) -> &QuicOpener {
        &self.opener
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let read = ready!(AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)).map_err(same_as_tcp);
        self.failed = read.as_ref().err().map(io::Error::kind);
        Poll::Ready(read)
    }

    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(kind) = self.failed {
            return Poll::Ready(kind.into());
        }
        // Keeps nothing between calls: what it waits for is entered anew with each.
        let kind = match ready!(pin!(self.receive.received_reset()).poll(cx)) {
            // It has ended; the writer learns of the rest.
            Ok(None) => return Poll::Pending,
            Ok(Some(_)) => io::ErrorKind::ConnectionReset,
            Err(_) => io::ErrorKind::ConnectionAborted,
        };
        self.failed = Some(kind);
        Poll::Ready(kind.into())
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf).map_err(same_as_tcp)
    }

    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        if self.shut {
            return Ok(());
        }
        // Refused only to one who has finished already.
        self.send.finish().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.shut = true;
        let acknowledged = self.send.stopped();
        self.opener.tails.spawn(async move { drop(acknowledged.await) });
        Ok(())
    }
}

/// The kinds that a TCP stream gives.
fn same_as_tcp(error: io::Error) -> io::Error {
    let inner = error.get_ref();
    let lost =
        inner.and_then(|inner| inner.downcast_ref()).is_some_and(|read| matches!(read, ReadError::ConnectionLost(_)))
            || inner
                .and_then(|inner| inner.downcast_ref())
                .is_some_and(|write| matches!(write, WriteError::ConnectionLost(_)));
    let kind = if lost { io::ErrorKind::ConnectionAborted } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, error)
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if !self.shut {
            // Already reset or stopped: the same to us.
            drop(self.send.reset(CLOSED));
        }
    }
}
