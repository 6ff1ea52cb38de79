//! A pair of QUIC stream halves that behaves as [`crate::Stream`] promises.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, ReadBuf};

use super::{CLOSED, QuicOpener};

/// One stream. quinn finishes a half that is dropped; here it is reset instead.
#[derive(Debug)]
pub(crate) struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    opener: QuicOpener,
    shut: bool,
}

impl QuicStream {
    pub(crate) const fn new(send: SendStream, receive: RecvStream, opener: QuicOpener) -> Self {
        Self { send, receive, opener, shut: false }
    }

    /// Its number, the same at both ends.
    pub(crate) fn number(&self) -> u64 {
        quinn::VarInt::from(self.send.id()).into_inner()
    }

    pub(crate) const fn opener(&self) -> &QuicOpener {
        &self.opener
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buf)
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    pub(crate) fn shutdown(&mut self) -> io::Result<()> {
        if self.shut {
            return Ok(());
        }
        self.send.finish().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        self.shut = true;
        let acknowledged = self.send.stopped();
        self.opener.tails.spawn(async move { drop(acknowledged.await) });
        Ok(())
    }
}

impl Drop for QuicStream {
    fn drop(&mut self) {
        if !self.shut {
            // Already reset or stopped: the same to us.
            drop(self.send.reset(CLOSED));
        }
    }
}
