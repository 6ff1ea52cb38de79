//! One user's connection, as the HTTP engine sees it.

use std::{
    any::Any,
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::{Buf, Bytes};
use pingora::{
    http::ResponseHeader,
    protocols::{
        ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
        UniqueID, UniqueIDType, raw_connect::ProxyDigest, tls::SslDigest,
    },
    proxy::Session,
};
use sluice_connector_mux::PollReset;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

use crate::doors::FrontTls;

/// Bytes that were read already, then the rest of the stream.
#[derive(Debug)]
pub struct Replayed<S> {
    first: Bytes,
    stream: S,
}

impl<S: PollReset> PollReset for Replayed<S> {
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.stream.poll_reset(cx)
    }
}

impl<S> Replayed<S> {
    pub(crate) const fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Replayed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        take(&mut self.first, buf);
        Poll::Ready(Ok(()))
    }
}

fn take(first: &mut Bytes, buf: &mut ReadBuf<'_>) {
    let some = first.len().min(buf.remaining());
    buf.put_slice(first.get(..some).unwrap_or_default());
    first.advance(some);
    if first.is_empty() {
        *first = Bytes::new();
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Replayed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What is known about a connection from before its first request.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Who is at the other end.
    pub(crate) client: SocketAddr,
    /// Server name of the handshake; every request must be for it.
    pub(crate) host: String,
    /// Ends the connection.
    pub(crate) cut: CancellationToken,
    requested: AtomicBool,
}

impl Facts {
    pub(crate) fn new(client: SocketAddr, host: String) -> Arc<Self> {
        Arc::new(Self { client, host, cut: CancellationToken::new(), requested: AtomicBool::new(false) })
    }

    /// Of the connection that `session` came on.
    pub(crate) fn of(session: &Session) -> Option<Arc<Self>> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }

    pub(crate) fn note_request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_requested(&self) -> bool {
        self.requested.load(Ordering::Relaxed)
    }
}

/// The stream given to the HTTP engine.
pub(crate) struct FrontStream {
    tls: FrontTls,
    first: Bytes,
    // The engine hands this through to every request on the connection, HTTP/1.1 and HTTP/2 alike.
    facts: Arc<ProxyDigest>,
    id: UniqueIDType,
}

impl FrontStream {
    pub(crate) fn new(tls: FrontTls, facts: Arc<Facts>) -> anyhow::Result<Self> {
        use std::os::fd::AsRawFd;
        let id = tls.get_ref().0.stream_ref().as_raw_fd();
        let header = Box::new(ResponseHeader::build(200, Some(0))?);
        let user_data: Box<dyn Any + Send + Sync> = Box::new(facts);
        Ok(Self { tls, first: Bytes::new(), facts: Arc::new(ProxyDigest::new(header, Some(user_data))), id })
    }

    /// Puts bytes back that were read from here.
    pub(crate) fn unread(&mut self, first: Bytes) {
        self.first = first;
    }

    fn is_h2(&self) -> bool {
        self.tls.get_ref().1.alpn_protocol() == Some(b"h2")
    }
}

impl Replayed<TcpStream> {
    const fn stream_ref(&self) -> &TcpStream {
        &self.stream
    }
}

impl fmt::Debug for FrontStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrontStream").field("id", &self.id).finish_non_exhaustive()
    }
}

impl AsyncRead for FrontStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.tls).poll_read(cx, buf);
        }
        take(&mut self.first, buf);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for FrontStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for FrontStream {
    async fn shutdown(&mut self) {
        if let Err(error) = AsyncWriteExt::shutdown(self).await {
            tracing::trace!(%error, "connection ended before it was shut down");
        }
    }
}

impl UniqueID for FrontStream {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

impl Ssl for FrontStream {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        Some(Arc::new(SslDigest::new("", "", None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(if self.is_h2() { ALPN::H2 } else { ALPN::H1 })
    }
}

impl GetTimingDigest for FrontStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for FrontStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        Some(self.facts.clone())
    }
}

impl GetSocketDigest for FrontStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl Peek for FrontStream {}
