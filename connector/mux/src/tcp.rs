//! yamux over an ordered byte stream: the task that moves it, and a stream's two ends of it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use sluice_connector_wire::Transport;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};
use tokio_util::{io::poll_read_buf, task::AbortOnDropHandle};

use crate::{
    Connection, End, Heard, Stream,
    connection::{Opener, Way, gone},
    stream::Kind,
    yamux::{HEADER, Input, MAX_STREAMS, Read, Session, Violation, Write},
};

/// Memory that received bytes first go to, while many come.
const BLOCK: usize = 32 * 1024;
/// The same while few come.
const SMALL_BLOCK: usize = 2 * 1024;
/// Reads before others get their turn.
const READS_PER_TURN: usize = 32;

type CloseRequest = oneshot::Sender<io::Result<()>>;

pub(crate) fn drive<T>(io: T, end: End, heard: Heard) -> Connection
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = Shared(Arc::new(Mutex::new(Session::new(end))));
    let (found, inbound) = mpsc::channel(MAX_STREAMS + 1);
    let (close, closing) = mpsc::channel(1);
    let driver = Driver {
        io,
        shared: shared.clone(),
        found,
        closing,
        goodbye: None,
        writing: Vec::new(),
        written: 0,
        unflushed: false,
        input: Input::default(),
        block: SMALL_BLOCK,
    };
    let driver = AbortOnDropHandle::new(tokio::spawn(driver));
    let opener = Opener(Way::Tcp(shared));
    Connection { inbound, opener, heard, close, transport: Transport::Tcp, _driver: driver }
}

/// The streams of one connection, for its driver and for those who hold them.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<Session>>);

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        // Every change is complete before the guard goes.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self) -> io::Result<Stream> {
        let mut session = self.session();
        match session.open() {
            Some(id) => Ok(self.stream(id)),
            None if session.is_gone() => Err(gone()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn stream(&self, id: u32) -> Stream {
        Stream(Kind::Tcp(TcpStream { shared: self.clone(), id }))
    }
}

/// Moves one connection until it ends.
struct Driver<T> {
    io: T,
    shared: Shared,
    found: mpsc::Sender<io::Result<Stream>>,
    closing: mpsc::Receiver<CloseRequest>,
    /// Who waits for everything to be sent.
    goodbye: Option<CloseRequest>,
    writing: Vec<u8>,
    written: usize,
    unflushed: bool,
    input: Input,
    /// How much to make room for next.
    block: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Driver<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.goodbye.is_none()
            && let Poll::Ready(Some(done)) = this.closing.poll_recv(cx)
        {
            this.shared.session().say_goodbye();
            this.goodbye = Some(done);
        }
        // Reading may make something to write; there is no end of writing that makes something to read.
        let read = this.poll_read(cx);
        let ended = match (this.poll_write(cx), read) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => Err(error),
            (Poll::Ready(Ok(())), _) | (_, Poll::Ready(Ok(()))) => Ok(()),
            (Poll::Pending, Poll::Pending) => return Poll::Pending,
        };
        this.finish(ended);
        Poll::Ready(())
    }
}

impl<T> Driver<T> {
    fn finish(&mut self, ended: io::Result<()>) {
        self.shared.session().vanish();
        if let Some(done) = self.goodbye.take() {
            // Nobody waiting is fine, here and below.
            drop(done.send(ended));
        } else if let Err(error) = ended {
            drop(self.found.try_send(Err(error)));
        }
    }
}

/// However the driver goes, nobody waits for it any more.
impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.shared.session().vanish();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Ready when all has been said after a goodbye.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest @ [_, ..]) = self.writing.get(self.written..) {
                let written = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.written += written;
                self.unflushed = true;
            }
            self.writing.clear();
            self.written = 0;
            self.shared.session().take_output(&mut self.writing, cx.waker());
            if !self.writing.is_empty() {
                continue;
            }
            if self.unflushed {
                ready!(Pin::new(&mut self.io).poll_flush(cx))?;
                self.unflushed = false;
            }
            // A busy connection comes here rarely, an idle one keeps no memory.
            self.writing = Vec::new();
            if self.goodbye.is_none() {
                return Poll::Pending;
            }
            return Pin::new(&mut self.io).poll_shutdown(cx);
        }
    }

    /// Ready when the peer has closed.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..READS_PER_TURN {
            if self.input.bytes.capacity() - self.input.bytes.len() < HEADER {
                self.input.bytes.reserve(self.block);
            }
            let room = self.input.bytes.capacity() - self.input.bytes.len();
            let read = match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input.bytes) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    if self.input.bytes.is_empty() {
                        self.input.bytes = BytesMut::new();
                        self.block = SMALL_BLOCK;
                    }
                    return Poll::Pending;
                }
            };
            if read == 0 {
                return Poll::Ready(if self.input.is_whole() {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                });
            }
            if read == room {
                self.block = BLOCK;
            }
            let mut opened = Vec::new();
            let goodbye = self.input.hand_over(&mut self.shared.session(), &mut opened).map_err(broken);
            for stream in opened {
                // The session lets the peer have no more than there is room for.
                drop(self.found.try_send(Ok(self.shared.stream(stream))));
            }
            if goodbye? {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn broken(violation: Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

/// One yamux stream.
#[derive(Debug)]
pub(crate) struct TcpStream {
    shared: Shared,
    id: u32,
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.shared.session().forget(self.id);
    }
}

impl TcpStream {
    pub(crate) fn poll_read(&self, cx: &Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let most = buf.remaining();
        match self.shared.session().read(self.id, most, cx.waker(), |bytes| buf.put_slice(bytes)) {
            Read::Bytes(_) | Read::End => Poll::Ready(Ok(())),
            Read::Wait => Poll::Pending,
            Read::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Read::Gone => Poll::Ready(Err(gone())),
        }
    }

    pub(crate) fn poll_broken(&self, cx: &Context<'_>) -> Poll<io::Error> {
        match self.shared.session().broken(self.id, cx.waker()) {
            Some(Read::Reset) => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
            Some(_) => Poll::Ready(gone()),
            None => Poll::Pending,
        }
    }

    pub(crate) fn poll_write(&self, cx: &Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.shared.session().write(self.id, buf, cx.waker()) {
            Write::Bytes(written) => Poll::Ready(Ok(written)),
            Write::Wait => Poll::Pending,
            Write::Finished => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Write::Reset => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Write::Gone => Poll::Ready(Err(gone())),
        }
    }

    pub(crate) fn shutdown(&self) -> io::Result<()> {
        match self.shared.session().finish(self.id) {
            Write::Gone => Err(gone()),
            _ => Ok(()),
        }
    }
}
