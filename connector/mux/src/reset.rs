//! Learning that the other end has given up, while what it sent cannot be passed on.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::{io::DuplexStream, net::TcpStream};
use tokio_rustls::{client, server};

use crate::Stream;

/// Something whose other end may give up.
pub trait PollReset {
    /// Ready when the other end has given up and nothing of what it sent counts any more. Reads nothing; the task is
    /// woken as by a read that waits. Pending for ever where only reading tells.
    fn poll_reset(&mut self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

impl PollReset for Stream {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.poll_broken(cx)
    }
}

impl<T: PollReset> PollReset for server::TlsStream<T> {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.get_mut().0.poll_reset(cx)
    }
}

impl<T: PollReset> PollReset for client::TlsStream<T> {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.get_mut().0.poll_reset(cx)
    }
}

impl PollReset for TcpStream {}
impl PollReset for DuplexStream {}
