//! A stream of either transport as tokio I/O.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Datagrams, quic::QuicStream, tcp::TcpStream};

/// One stream.
///
/// Shutting it down ends our direction and leaves the other's open. Dropping it without a shutdown resets it; the other
/// end's reset, or the connection's end, is an error and never looks like the end of the stream. What the other end
/// still sends after a drop is thrown away, and it learns of that by an error in writing.
#[derive(Debug)]
pub struct Stream(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(TcpStream),
    Quic(QuicStream),
}

impl Stream {
    /// Ready when the other end has reset its direction, or the connection has gone. Reads nothing.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.0 {
            Kind::Tcp(stream) => stream.poll_broken(cx),
            Kind::Quic(stream) => stream.poll_broken(cx),
        }
    }

    /// The stream carries datagrams from here on. Both ends must say so at the same place in the stream.
    #[must_use]
    pub fn into_datagrams(self) -> Datagrams {
        Datagrams::new(self)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        match &mut self.0 {
            Kind::Tcp(stream) => stream.poll_read(cx, buf),
            Kind::Quic(stream) => stream.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match &mut self.0 {
            Kind::Tcp(stream) => stream.poll_write(cx, buf),
            Kind::Quic(stream) => stream.poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was taken is sent as soon as it can be.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &mut self.0 {
            Kind::Tcp(stream) => stream.shutdown(),
            Kind::Quic(stream) => stream.shutdown(),
        })
    }
}
