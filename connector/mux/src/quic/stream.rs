//! A pair of QUIC stream halves that behaves as [`crate::Stream`] promises.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    CLOSED, QuicOpener,
    credit::{Account, Allowance},
};

struct Stopped(Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>);

impl fmt::Debug for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopped")
    }
}

/// One stream. quinn finishes a half that is dropped; here it is reset instead.
#[derive(Debug)]
pub(crate) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    opener: QuicOpener,
    account: Arc<Account>,
    allowance: Allowance,
    sent: u64,
    /// While our window is closed: tells that the peer takes nothing more, or has gone.
    stopped: Option<Stopped>,
    shut: bool,
    /// A reset was seen; quinn calls it an end when asked again.
    failed: Option<io::ErrorKind>,
}

impl QuicStream {
    pub(crate) fn new(send: SendStream, receive: RecvStream, opener: QuicOpener) -> Self {
        let (account, allowance) = opener.ledger.open(number(&send));
        Self { send, receive, opener, account, allowance, sent: 0, stopped: None, shut: false, failed: None }
    }

    /// Its number, the same at both ends.
    pub(crate) fn number(&self) -> u64 {
        number(&self.send)
    }

    pub(crate) const fn opener(&self) -> &QuicOpener {
        &self.opener
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let (room, before) = (buf.remaining(), buf.filled().len());
        let Poll::Ready(read) = AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf) else {
            self.allowance.took(0, true);
            return Poll::Pending;
        };
        let taken = buf.filled().len() - before;
        self.allowance.took(taken, taken < room);
        let read = read.map_err(same_as_tcp);
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
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let left = self.account.left(self.sent, cx).min(buf.len());
        let Some(now @ [_, ..]) = buf.get(..left) else { return self.poll_stopped(cx) };
        self.stopped = None;
        let written = ready!(AsyncWrite::poll_write(Pin::new(&mut self.send), cx, now)).map_err(same_as_tcp)?;
        self.sent += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stopped = self.stopped.get_or_insert_with(|| Stopped(Box::pin(self.send.stopped())));
        let kind = match ready!(stopped.0.as_mut().poll(cx)) {
            Err(StoppedError::ConnectionLost(_)) => io::ErrorKind::ConnectionAborted,
            Ok(_) | Err(StoppedError::ZeroRttRejected) => io::ErrorKind::ConnectionReset,
        };
        self.stopped = None;
        Poll::Ready(Err(kind.into()))
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

fn number(send: &SendStream) -> u64 {
    VarInt::from(send.id()).into_inner()
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
