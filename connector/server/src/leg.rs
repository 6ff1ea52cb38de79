//! One connection of a tunnel, as whoever wants a stream sees it.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use sluice_connector_mux::{Opener, Stream};
use sluice_connector_wire::{ClassPair, Transport};
use sluice_node_identity::NodeId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Taken for a connection's round-trip time until the agent has told one.
const UNKNOWN_RTT: Duration = Duration::from_millis(20);
/// How long a connector that refused for good is asked last.
const ASKED_LAST: Duration = Duration::from_secs(5);

/// What is known of a connection when it has said hello.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) connector: NodeId,
    pub(crate) sid: String,
    pub(crate) pair: ClassPair,
    pub(crate) transport: Transport,
    /// Hash of the certificate that this gateway showed on it.
    pub(crate) cnf: String,
}

/// One connection.
pub(crate) struct Leg {
    pub(crate) facts: Facts,
    /// Ends it.
    pub(crate) close: CancellationToken,
    opener: Opener,
    streams: Arc<Semaphore>,
    most: u32,
    retired: AtomicBool,
    /// An opening on it had no answer.
    worn: CancellationToken,
    /// As the agent measured it, microseconds; 0 while unknown.
    rtt: AtomicU32,
    agent: Arc<Agent>,
}

/// How busy the agent of one tunnel is. Its own word is up to a second old; what we opened since is known.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// Streams of ours on all the tunnel's connections.
    running: AtomicU32,
    /// Streams it carried beside those, as of its last ping.
    others: AtomicU32,
    /// It said that it would take no more.
    full: AtomicBool,
    /// When it last refused a stream for good.
    refused: Mutex<Option<Instant>>,
}

impl Agent {
    /// It refused a stream, and would again. That costs it nothing, so it would always look like the idlest one.
    pub(crate) fn has_refused(&self) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn refused_lately(&self) -> bool {
        let refused = *self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < ASKED_LAST)
    }
}

/// A stream and the room it takes.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) room: Room,
}

/// One stream's room; given back when dropped.
#[derive(Debug)]
pub(crate) struct Room {
    agent: Arc<Agent>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.agent.running.fetch_sub(1, Relaxed);
    }
}

/// Why a connection gives no stream.
#[derive(Debug)]
pub(crate) enum NoStream {
    Full,
    Broken(io::Error),
}

impl Leg {
    pub(crate) fn new(facts: Facts, opener: Opener, most: usize, agent: Arc<Agent>) -> Self {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        Self {
            facts,
            close: CancellationToken::new(),
            opener,
            streams: Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS))),
            most,
            retired: AtomicBool::new(false),
            worn: CancellationToken::new(),
            rtt: AtomicU32::new(0),
            agent,
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(&self) -> Result<Opened, NoStream> {
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| NoStream::Full)?;
        self.agent.running.fetch_add(1, Relaxed);
        let room = Room { agent: self.agent.clone(), _permit: permit };
        match self.opener.open().await {
            Ok(stream) => Ok(Opened { stream, room }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(NoStream::Full),
            Err(error) => Err(NoStream::Broken(error)),
        }
    }

    /// Whether new streams must go elsewhere.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Relaxed) || self.close.is_cancelled()
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    /// An opening had no answer: there are no new streams here, and the connection ends with those it has. Whether it
    /// is dead, and they with it, is told by what is heard of it.
    pub(crate) fn wear_out(&self) {
        self.retire();
        self.worn.cancel();
    }

    /// Returns when an opening has had no answer.
    pub(crate) async fn is_worn(&self) {
        self.worn.cancelled().await;
    }

    /// Returns when there are no streams. From then on none can be opened.
    pub(crate) async fn is_empty(&self) {
        if let Ok(all) = self.streams.acquire_many(self.most).await {
            all.forget();
        }
    }

    pub(crate) fn agent(&self) -> &Arc<Agent> {
        &self.agent
    }

    /// Takes in what a ping says: the round-trip time, the agent's streams, and how many more it would take.
    pub(crate) fn heard_ping(&self, rtt_micros: Option<u32>, streams: u32, room: u32) {
        if let Some(rtt) = rtt_micros {
            self.rtt.store(rtt.max(1), Relaxed);
        }
        self.agent.others.store(streams.saturating_sub(self.agent.running.load(Relaxed)), Relaxed);
        self.agent.full.store(room == 0, Relaxed);
    }

    /// As the agent last measured it.
    pub(crate) fn rtt(&self) -> Duration {
        match self.rtt.load(Relaxed) {
            0 => UNKNOWN_RTT,
            micros => Duration::from_micros(micros.into()),
        }
    }

    /// Streams that the agent carries.
    pub(crate) fn load(&self) -> u32 {
        self.agent.others.load(Relaxed).saturating_add(self.agent.running.load(Relaxed))
    }

    /// Whether the agent refused a stream for good some seconds ago.
    pub(crate) fn refused_lately(&self) -> bool {
        self.agent.refused_lately()
    }

    /// Whether a stream would probably be refused for want of room.
    pub(crate) fn is_full(&self) -> bool {
        self.agent.full.load(Relaxed) || self.streams.available_permits() == 0
    }
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Facts { connector, pair, transport, .. } = &self.facts;
        write!(f, "Leg({connector} {pair} {transport})")
    }
}
