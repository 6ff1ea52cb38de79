//! Datagrams on a stream: each arrives whole or not at all, and only lately sent ones wait.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::Notify,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

use crate::{Stream, stream::Kind};

/// Longest datagram, in bytes: what fits UDP over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;
/// Bytes that wait in each direction of one flow; the oldest datagrams make room for new ones.
const QUEUE_BYTES: usize = 256 * 1024;
/// The same in datagrams.
const QUEUE_DATAGRAMS: usize = 256;
/// How long the last datagrams may take to leave after the flow was dropped.
const LINGER: Duration = Duration::from_secs(1);
/// A stream's number in front of each QUIC datagram, in bytes.
const TAG: usize = 4;

/// A flow of datagrams. Dropping it ends the flow for the other end, too.
///
/// Over TCP, and where one does not fit the path, datagrams travel in the stream behind their length (`u16`, big
/// endian). Over QUIC the others travel as DATAGRAM frames (RFC 9221) behind the stream's number (`u32`, big endian):
/// lost ones are not sent again, and order is not kept.
#[derive(Debug)]
pub struct Datagrams {
    out: Arc<Queue>,
    inn: Arc<Queue>,
    tagged: Option<Tagged>,
    _receiving: AbortOnDropHandle<()>,
}

impl Datagrams {
    pub(crate) fn new(stream: Stream) -> Self {
        let (out, inn) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        let tagged = match &stream.0 {
            Kind::Tcp(_) => None,
            Kind::Quic(quic) => quic.opener().desk.open(quic.number(), inn.clone()),
        };
        Self::carried(stream, out, inn, tagged)
    }

    /// Datagrams in a stream of any kind, each behind its length: for what runs inside a stream, such as TLS.
    #[must_use]
    pub fn framed<T>(io: T) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        Self::carried(io, Arc::default(), Arc::default(), None)
    }

    fn carried<T>(io: T, out: Arc<Queue>, inn: Arc<Queue>, tagged: Option<Tagged>) -> Self
    where
        T: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (reading, writing) = tokio::io::split(io);
        tokio::spawn(write(out.clone(), writing));
        let receiving = AbortOnDropHandle::new(tokio::spawn(read(inn.clone(), reading)));
        Self { out, inn, tagged, _receiving: receiving }
    }

    /// Sends one datagram, or queues it; never waits. As with UDP, nobody says whether it arrives.
    ///
    /// # Errors
    /// `InvalidInput` above [`MAX_DATAGRAM`]; otherwise the flow has ended.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.tagged.as_ref().is_some_and(|tagged| tagged.send(datagram)) {
            return self.out.check();
        }
        self.out.push(Bytes::copy_from_slice(datagram))
    }

    /// The next datagram; `None` when the other end has ended the flow. May be cancelled and called again.
    ///
    /// # Errors
    /// The stream was reset or the connection broke.
    pub async fn recv(&self) -> io::Result<Option<Bytes>> {
        self.inn.pop().await
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.out.end(None);
    }
}

async fn write<T: AsyncRead + AsyncWrite>(out: Arc<Queue>, mut stream: WriteHalf<T>) {
    let mut pumping = async || -> io::Result<()> {
        while let Some(datagram) = out.pop().await? {
            // Longer ones are not queued.
            let length = u16::try_from(datagram.len()).map_err(io::Error::other)?;
            let mut framed = BytesMut::with_capacity(2 + datagram.len());
            framed.extend_from_slice(&length.to_be_bytes());
            framed.extend_from_slice(&datagram);
            stream.write_all(&framed).await?;
            stream.flush().await?;
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = pumping() => ended,
        ended = async { out.ended().await; timeout(LINGER, std::future::pending()).await } => {
            ended.unwrap_or_else(|late| Err(late.into()))
        }
    };
    match ended {
        Ok(()) => drop(timeout(LINGER, stream.shutdown()).await),
        Err(error) => out.end(Some(error.kind())),
    }
}

async fn read<T: AsyncRead + AsyncWrite>(inn: Arc<Queue>, mut stream: ReadHalf<T>) {
    let mut reading = async || -> io::Result<()> {
        loop {
            let mut length = [0; 2];
            if stream.read(&mut length[..1]).await? == 0 {
                return Ok(());
            }
            stream.read_exact(&mut length[1..]).await?;
            let mut datagram = BytesMut::zeroed(u16::from_be_bytes(length).into());
            stream.read_exact(&mut datagram).await?;
            if datagram.len() > MAX_DATAGRAM {
                return Err(io::ErrorKind::InvalidData.into());
            }
            inn.push(datagram.freeze())?;
        }
    };
    let ended = reading().await;
    inn.end(ended.err().map(|error| error.kind()));
}

/// Datagrams that wait.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    changed: Notify,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
    ended: Option<Result<(), io::ErrorKind>>,
}

impl Queue {
    fn check(&self) -> io::Result<()> {
        match self.lock().ended {
            None => Ok(()),
            Some(Ok(())) => Err(io::ErrorKind::BrokenPipe.into()),
            Some(Err(kind)) => Err(kind.into()),
        }
    }

    fn push(&self, datagram: Bytes) -> io::Result<()> {
        self.check()?;
        {
            let mut waiting = self.lock();
            waiting.bytes += datagram.len();
            waiting.datagrams.push_back(datagram);
            while waiting.bytes > QUEUE_BYTES || waiting.datagrams.len() > QUEUE_DATAGRAMS {
                let Some(oldest) = waiting.datagrams.pop_front() else { break };
                waiting.bytes -= oldest.len();
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    async fn pop(&self) -> io::Result<Option<Bytes>> {
        loop {
            {
                let mut waiting = self.lock();
                if let Some(datagram) = waiting.datagrams.pop_front() {
                    waiting.bytes -= datagram.len();
                    return Ok(Some(datagram));
                }
                match waiting.ended {
                    None => {}
                    Some(Ok(())) => return Ok(None),
                    Some(Err(kind)) => return Err(kind.into()),
                }
            }
            self.changed.notified().await;
        }
    }

    /// What waits may still be taken.
    fn end(&self, error: Option<io::ErrorKind>) {
        self.lock().ended.get_or_insert(error.map_or(Ok(()), Err));
        self.changed.notify_one();
        self.closed.notify_one();
    }

    async fn ended(&self) {
        if self.lock().ended.is_none() {
            self.closed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where DATAGRAM frames of one QUIC connection are sorted by stream.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    connection: quinn::Connection,
    flows: Arc<Mutex<HashMap<u32, Arc<Queue>>>>,
}

impl Desk {
    pub(crate) fn new(connection: quinn::Connection) -> Self {
        Self { connection, flows: Arc::default() }
    }

    fn open(&self, number: u64, queue: Arc<Queue>) -> Option<Tagged> {
        // After that many streams datagrams travel in the stream.
        let number = u32::try_from(number).ok()?;
        self.flows().insert(number, queue);
        Some(Tagged { desk: self.clone(), number })
    }

    /// One for a flow that is not there is lost, as any may be.
    pub(crate) fn deliver(&self, mut tagged: Bytes) {
        let Some(tag) = tagged.first_chunk::<TAG>().copied() else { return };
        let queue = self.flows().get(&u32::from_be_bytes(tag)).cloned();
        if let Some(queue) = queue {
            // An ended flow takes nothing.
            drop(queue.push(tagged.split_off(TAG)));
        }
    }

    fn flows(&self) -> MutexGuard<'_, HashMap<u32, Arc<Queue>>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One flow's place at the desk.
#[derive(Debug)]
struct Tagged {
    desk: Desk,
    number: u32,
}

impl Tagged {
    /// False when this one must go another way.
    fn send(&self, datagram: &[u8]) -> bool {
        let connection = &self.desk.connection;
        if connection.max_datagram_size().is_none_or(|most| datagram.len() + TAG > most) {
            return false;
        }
        let mut tagged = BytesMut::with_capacity(TAG + datagram.len());
        tagged.extend_from_slice(&self.number.to_be_bytes());
        tagged.extend_from_slice(datagram);
        connection.send_datagram(tagged.freeze()).is_ok()
    }
}

impl Drop for Tagged {
    fn drop(&mut self) {
        self.desk.flows().remove(&self.number);
    }
}
