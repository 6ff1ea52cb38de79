//! How to tell a dead peer from a slow line: counters of what came in and of what still leaves.

use std::{
    io,
    os::fd::AsFd,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{quic::Closing, rest};

/// Counters of one connection. Both only grow; a clone reads the same ones, and neither keeps the connection open.
#[derive(Clone, Debug)]
pub struct Heard(Source);

#[derive(Clone, Debug)]
enum Source {
    Counted(Arc<Counters>),
    Quic(Weak<Closing>, Arc<Counters>),
}

#[derive(Debug, Default)]
struct Counters {
    received: AtomicU64,
    left: AtomicU64,
    /// The most that was seen.
    acknowledged: AtomicU64,
    /// Rings when a connection that rests is used again.
    alarm: Arc<rest::Alarm>,
    /// Asked how many of the bytes that left are not acknowledged yet.
    kernel: Weak<TcpStream>,
}

impl Counters {
    fn wrote(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.alarm.written(self.left.fetch_add(bytes, Relaxed) + bytes);
    }
}

impl Heard {
    pub(crate) fn quic(connection: &Arc<Closing>) -> Self {
        Self(Source::Quic(Arc::downgrade(connection), Arc::default()))
    }

    /// Bytes received from the peer, of whatever kind.
    #[must_use]
    pub fn received(&self) -> u64 {
        match &self.0 {
            Source::Counted(counters) => counters.received.load(Relaxed),
            Source::Quic(connection, last) => {
                let now = connection.upgrade().map_or(0, |connection| connection.0.stats().udp_rx.bytes);
                last.received.fetch_max(now, Relaxed).max(now)
            }
        }
    }

    /// Bytes handed to the kernel; nothing over QUIC.
    pub(crate) fn written(&self) -> u64 {
        match &self.0 {
            Source::Counted(counters) => counters.left.load(Relaxed),
            Source::Quic(..) => 0,
        }
    }

    /// Grows as long as bytes of ours are leaving. Over TCP: bytes that the peer's kernel has acknowledged, where the
    /// socket is known ([`Metered::over_tcp`]), else bytes that ours has taken. Over QUIC: acknowledgements that came.
    #[must_use]
    pub fn left(&self) -> u64 {
        match &self.0 {
            Source::Counted(counters) => {
                let written = counters.left.load(Relaxed);
                let waiting = counters.kernel.upgrade().map_or(0, |tcp| unacknowledged(&tcp));
                let now = written.saturating_sub(waiting);
                // The two are not read at one moment.
                counters.acknowledged.fetch_max(now, Relaxed).max(now)
            }
            Source::Quic(connection, last) => {
                let now = connection.upgrade().map_or(0, |connection| connection.0.stats().frame_rx.acks);
                last.left.fetch_max(now, Relaxed).max(now)
            }
        }
    }
}

/// Bytes written that the peer's kernel has not acknowledged.
fn unacknowledged(tcp: &TcpStream) -> u64 {
    /// `SIOCOUTQ` of linux/sockios.h.
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: this request writes one C int and nothing else (tcp(7)); `Getter` gives it room for exactly one.
    #[expect(unsafe_code, reason = "neither std nor socket2, nix or rustix wrap SIOCOUTQ")]
    let asked = unsafe { rustix::ioctl::ioctl(tcp.as_fd(), rustix::ioctl::Getter::<SIOCOUTQ, i32>::new()) };
    asked.ok().and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)
}

/// I/O that counts what passes.
#[derive(Debug)]
pub struct Metered<T> {
    io: T,
    counters: Arc<Counters>,
    _resting: Option<AbortOnDropHandle<()>>,
}

/// A socket that two can hold; one of them only asks about it.
#[derive(Debug)]
pub struct Shared(Arc<TcpStream>);

impl<T> Metered<T> {
    /// Counts what passes through `io`.
    pub fn new(io: T) -> (Self, Heard) {
        Self::with(io, Weak::new())
    }

    fn with(io: T, kernel: Weak<TcpStream>) -> (Self, Heard) {
        let counters = Arc::new(Counters { kernel, ..Counters::default() });
        (Self { io, counters: counters.clone(), _resting: None }, Heard(Source::Counted(counters)))
    }
}

impl Metered<Shared> {
    /// Counts what passes through a socket and asks its kernel what has been acknowledged. TLS goes on top. After a
    /// rest the socket's congestion control starts over, as long as the socket lives.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn over_tcp(tcp: TcpStream) -> (Self, Heard) {
        let tcp = Arc::new(tcp);
        let kernel = Arc::downgrade(&tcp);
        let (mut metered, heard) = Self::with(Shared(tcp), kernel.clone());
        let watching = rest::watch(kernel, heard.clone(), metered.counters.alarm.clone());
        metered._resting = Some(AbortOnDropHandle::new(tokio::spawn(watching)));
        (metered, heard)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Metered<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.counters.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Metered<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, buf))?;
        self.counters.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, bufs))?;
        self.counters.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl AsyncRead for Shared {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Shared {
    fn poll_try(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.poll_write_ready(cx))?;
            match write(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_try(cx, |tcp| tcp.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(&*self.0).shutdown(std::net::Shutdown::Write))
    }
}
