//! Bytes between a stream and a TCP connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use sluice_connector_mux::{PollReset, carry};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::ledger::{CLOSED, Row};

/// A target's connection that counts what passes.
pub(super) struct Counted {
    tcp: TcpStream,
    row: Arc<Row>,
}

impl Counted {
    pub(super) const fn new(tcp: TcpStream, row: Arc<Row>) -> Self {
        Self { tcp, row }
    }

    /// Copies both ways until both have ended; an end of one way is passed on at once.
    pub(super) async fn copy(&mut self, io: &mut (impl AsyncRead + AsyncWrite + PollReset + Unpin)) -> io::Result<()> {
        carry(io, self).await.map(drop)
    }

    /// What was broken off instead of ended must not look whole to the target.
    pub(super) fn settle(&self, ended: &io::Result<&str>) {
        if !matches!(ended, Ok(CLOSED))
            && let Err(error) = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "socket option was not taken");
        }
    }
}

impl PollReset for Counted {}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.row.down((buf.filled().len() - before) as u64);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.row.up(written as u64);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
