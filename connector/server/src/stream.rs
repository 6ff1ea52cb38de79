//! An open direct stream, and the same as datagrams.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use sluice_connector_mux::{Datagrams, PollReset, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::{
    leg::{Opened, Room},
    subjects::Entered,
};

/// An open direct stream. After [`crate::TunnelServer::cut`] of its subject every read and write fails with
/// `ConnectionAborted`. Dropping it without a shutdown resets it.
pub struct DirectStream {
    stream: Stream,
    // Reader and writer may be different tasks, and each future wakes one.
    cut_for_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_for_writer: Pin<Box<WaitForCancellationFutureOwned>>,
    held: Held,
}

/// What is given back when the stream goes.
#[derive(Debug)]
struct Held {
    subject: Entered,
    _room: Room,
}

impl DirectStream {
    pub(crate) fn new(opened: Opened, subject: Entered) -> Self {
        let waiting = || Box::pin(subject.cut.clone().cancelled_owned());
        Self {
            stream: opened.stream,
            cut_for_reader: waiting(),
            cut_for_writer: waiting(),
            held: Held { subject, _room: opened.room },
        }
    }

    /// The same as datagrams; for a stream to a `udp:` target, before any byte.
    #[must_use]
    pub fn into_datagrams(self) -> DirectDatagrams {
        DirectDatagrams { datagrams: self.stream.into_datagrams(), held: self.held }
    }

    fn check_writer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        still_open(&mut self.cut_for_writer, cx)
    }
}

fn still_open(cut: &mut Pin<Box<WaitForCancellationFutureOwned>>, cx: &mut Context<'_>) -> io::Result<()> {
    match cut.as_mut().poll(cx) {
        Poll::Ready(()) => Err(withdrawn()),
        Poll::Pending => Ok(()),
    }
}

fn withdrawn() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "access was withdrawn")
}

impl fmt::Debug for DirectStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirectStream").field(&self.stream).finish()
    }
}

impl PollReset for DirectStream {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Err(cut) = still_open(&mut self.cut_for_reader, cx) {
            return Poll::Ready(cut);
        }
        self.stream.poll_reset(cx)
    }
}

impl AsyncRead for DirectStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        still_open(&mut self.cut_for_reader, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for DirectStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_writer(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A direct stream to a `udp:` target. After [`crate::TunnelServer::cut`] of its subject everything fails with
/// `ConnectionAborted`.
#[derive(Debug)]
pub struct DirectDatagrams {
    datagrams: Datagrams,
    held: Held,
}

impl DirectDatagrams {
    /// Sends one datagram, or queues it; never waits. As with UDP, nobody says whether it arrives.
    ///
    /// # Errors
    /// It is too long, access was withdrawn, or the flow has ended.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        if self.held.subject.cut.is_cancelled() {
            return Err(withdrawn());
        }
        self.datagrams.send(datagram)
    }

    /// The next datagram; `None` when the other end has ended the flow. May be cancelled and called again.
    ///
    /// # Errors
    /// Access was withdrawn, or the tunnel broke.
    pub async fn recv(&self) -> io::Result<Option<Bytes>> {
        tokio::select! {
            biased;
            () = self.held.subject.cut.cancelled() => Err(withdrawn()),
            received = self.datagrams.recv() => received,
        }
    }
}
