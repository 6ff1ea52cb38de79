//! Bytes between a stream and a TCP connection.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use sluice_connector_wire::Granted;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes},
    net::TcpStream,
};

use crate::link::Tunnel;

/// Buffer of each direction, in bytes.
const COPY_BUFFER: usize = 32 * 1024;

/// A target's connection that counts what passes.
pub(super) struct Counted {
    tcp: TcpStream,
    down: u64,
    up: u64,
}

impl Counted {
    pub(super) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, down: 0, up: 0 }
    }

    /// Copies both ways until both have ended; an end of one way is passed on at once.
    pub(super) async fn copy(&mut self, io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        copy_bidirectional_with_sizes(io, self, COPY_BUFFER, COPY_BUFFER).await.map(drop)
    }

    pub(super) fn log_end(&self, granted: &Granted, tunnel: &Tunnel, ended: &io::Result<&str>) {
        let how = match ended {
            Ok(how) => (*how).to_owned(),
            Err(error) => error.to_string(),
        };
        if !matches!(ended, Ok("closed")) {
            // Broken off, not ended: the target must not take what it has got for the whole.
            if let Err(error) = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "socket option was not taken");
            }
        }
        tracing::info!(
            resource = %granted.resource(),
            caller = granted.caller(),
            gateway = %tunnel.gateway,
            bytes_up = self.up,
            bytes_down = self.down,
            how,
            "stream ended"
        );
        tracing::debug!(resource = %granted.resource(), subject = granted.subject(), "stream was on behalf of");
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buf))?;
        self.down += (buf.filled().len() - before) as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf))?;
        self.up += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
