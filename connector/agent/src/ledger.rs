//! The streams that run now: what each is, what it has carried, a switch that ends it, and its line in the log.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use sluice_connector_wire::{ClassPair, Granted, Refusal, StreamClaims, StreamKind, Transport};
use sluice_node_identity::{LiveStream, LiveStreams, NodeId, ResourceId, STREAMS_TOLD, StreamId, UnixTime};
use tokio::sync::{Notify, watch};
use tracing::field;

use crate::{now, quiet::Quiet};

/// How a stream ends that both sides have ended.
pub(crate) const CLOSED: &str = "closed";
/// Counted beside the codes of refusals: the caller was gone before the target answered.
const GIVEN_UP: &str = "given_up";

/// What is known of a stream when it begins; none of it is the user's data.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    sealed: bool,
    caller: String,
    subject: String,
    resource: ResourceId,
    target: String,
    /// Once it is connected.
    dialled: Option<SocketAddr>,
    rule: String,
    gateway: NodeId,
    transport: Transport,
    pair: ClassPair,
}

impl Facts {
    /// Of a stream that was let pass and whose target is about to be dialled.
    pub(crate) fn new(granted: &Granted, kind: StreamKind, way: &Way<'_>) -> Self {
        Self {
            sealed: kind == StreamKind::Sealed,
            caller: granted.caller().to_owned(),
            subject: granted.subject().to_owned(),
            resource: granted.resource().clone(),
            target: granted.target().to_string(),
            dialled: None,
            rule: granted.rule().to_owned(),
            gateway: way.gateway.clone(),
            transport: way.transport,
            pair: way.pair,
        }
    }
}

/// Which connection a stream came by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way<'a> {
    pub(crate) gateway: &'a NodeId,
    pub(crate) transport: Transport,
    pub(crate) pair: ClassPair,
}

/// What a good token asked for, and the rule that decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) claims: &'a StreamClaims,
    pub(crate) rule: &'a str,
}

/// All of them. Bounded by whoever lets streams in (`limits.streams`).
#[derive(Debug)]
pub(crate) struct Ledger {
    rows: Mutex<BTreeMap<StreamId, Arc<Row>>>,
    /// Streams now.
    live: watch::Sender<usize>,
    ended: Mutex<Sums>,
    quiet: Mutex<Quiet>,
    began: Instant,
}

/// What remains of streams that are over: numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Streams opened, those that run still included.
    pub(crate) opened: u64,
    /// Streams refused, by [`Refusal::code`].
    pub(crate) refused: BTreeMap<&'static str, u64>,
    /// Streams ended from the console.
    pub(crate) killed: u64,
    /// Bytes up and down, by pair.
    pub(crate) bytes: BTreeMap<ClassPair, (u64, u64)>,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Row {
    facts: Facts,
    since: UnixTime,
    up: AtomicU64,
    down: AtomicU64,
    datagrams_up: AtomicU64,
    datagrams_down: AtomicU64,
    kill: Notify,
}

impl Row {
    /// So many bytes went to the target.
    pub(crate) fn up(&self, bytes: u64) {
        self.up.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes came from the target.
    pub(crate) fn down(&self, bytes: u64) {
        self.down.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One datagram of so many bytes went to the target.
    pub(crate) fn datagram_up(&self, bytes: usize) {
        self.up(bytes as u64);
        self.datagrams_up.fetch_add(1, Ordering::Relaxed);
    }

    /// One datagram of so many bytes came from the target.
    pub(crate) fn datagram_down(&self, bytes: usize) {
        self.down(bytes as u64);
        self.datagrams_down.fetch_add(1, Ordering::Relaxed);
    }

    fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    fn told(&self, id: StreamId) -> LiveStream {
        let Facts { sealed, caller, subject, resource, target, dialled, rule, gateway, transport, pair } = &self.facts;
        let (up, down) = self.bytes();
        LiveStream {
            id,
            since: self.since,
            sealed: *sealed,
            caller: caller.clone(),
            subject: subject.clone(),
            resource: resource.clone(),
            target: target.clone(),
            dialled: dialled.map(|at| at.to_string()).unwrap_or_default(),
            rule: rule.clone(),
            gateway: gateway.clone(),
            transport: transport.to_string(),
            pair: pair.to_string(),
            up,
            down,
        }
        .plain()
    }
}

/// A stream whose target is being dialled. Dropped without a word: its caller gave it up, or the tunnel is gone; that
/// the target was knocked at is told all the same.
#[derive(Debug)]
pub(crate) struct Knock {
    ledger: Arc<Ledger>,
    facts: Facts,
    told: bool,
}

impl Knock {
    /// The target answered at `dialled`: the stream begins.
    pub(crate) fn enter(mut self, dialled: SocketAddr) -> Entry {
        self.told = true;
        self.ledger.enter(Facts { dialled: Some(dialled), ..self.facts.clone() })
    }

    /// [`Ledger::refused`] has told of it.
    pub(crate) fn refused(mut self) {
        self.told = true;
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        if !self.told {
            self.ledger.given_up(&self.facts);
        }
    }
}

/// A stream's place in the table, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    id: StreamId,
    row: Arc<Row>,
    began: Instant,
    /// How it ended, when that is known.
    verdict: Option<String>,
}

impl Entry {
    /// Where its bytes are counted.
    pub(crate) fn row(&self) -> Arc<Row> {
        self.row.clone()
    }

    /// Returns when somebody ordered its end.
    pub(crate) async fn killed(&self) {
        self.row.kill.notified().await;
        self.ledger.ended().killed += 1;
    }

    /// Says how it ended. Without it the tunnel was gone.
    pub(crate) fn end(mut self, ended: &io::Result<&str>) {
        self.verdict = Some(match ended {
            Ok(how) => (*how).to_owned(),
            Err(error) => error.to_string(),
        });
    }
}

impl Drop for Entry {
    /// The stream's one line. It is written here so that there is one however a stream ends.
    fn drop(&mut self) {
        self.ledger.leave(self.id, &self.row);
        let (facts, (up, down)) = (&self.row.facts, self.row.bytes());
        let udp = facts.target.starts_with("udp:");
        let datagrams = |count: &AtomicU64| udp.then(|| count.load(Ordering::Relaxed));
        tracing::info!(
            stream = %self.id,
            kind = if facts.sealed { "sealed" } else { "direct" },
            caller = facts.caller,
            subject = facts.subject,
            resource = %facts.resource,
            target = facts.target,
            dialled = facts.dialled.map(field::display),
            rule = facts.rule,
            gateway = %facts.gateway,
            transport = %facts.transport,
            pair = %facts.pair,
            bytes_up = up,
            bytes_down = down,
            datagrams_up = datagrams(&self.row.datagrams_up),
            datagrams_down = datagrams(&self.row.datagrams_down),
            milliseconds = self.began.elapsed().as_millis(),
            verdict = self.verdict.as_deref().unwrap_or("the tunnel is gone"),
            "stream ended"
        );
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let live = watch::Sender::new(0);
        Self { rows: Mutex::default(), live, ended: Mutex::default(), quiet: Mutex::default(), began: Instant::now() }
    }
}

impl Ledger {
    /// A target is about to be dialled.
    pub(crate) fn knock(self: &Arc<Self>, facts: Facts) -> Knock {
        Knock { ledger: self.clone(), facts, told: false }
    }

    fn given_up(&self, facts: &Facts) {
        *self.ended().refused.entry(GIVEN_UP).or_default() += 1;
        let Facts { sealed, caller, subject, resource, target, rule, gateway, .. } = facts;
        let kind = if *sealed { "sealed" } else { "direct" };
        if let Some(unsaid) =
            self.quiet().may_say(&format!("given-up {kind} streams by {gateway}"), self.began.elapsed())
        {
            tracing::info!(%gateway, kind, caller, subject, %resource, target, rule, code = GIVEN_UP, unsaid, "stream given up while its target was dialled");
        }
    }

    /// A stream begins.
    fn enter(self: &Arc<Self>, facts: Facts) -> Entry {
        let row = Arc::new(Row {
            facts,
            since: now(),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
            datagrams_up: AtomicU64::new(0),
            datagrams_down: AtomicU64::new(0),
            kill: Notify::new(),
        });
        let mut rows = self.rows();
        let mut bits = random_bits();
        while rows.contains_key(&StreamId::new(bits.to_be_bytes())) {
            bits = bits.wrapping_add(1);
        }
        let id = StreamId::new(bits.to_be_bytes());
        rows.insert(id, row.clone());
        self.live.send_replace(rows.len());
        drop(rows);
        self.ended().opened += 1;
        Entry { ledger: self.clone(), id, row, began: Instant::now(), verdict: None }
    }

    fn leave(&self, id: StreamId, row: &Row) {
        let mut rows = self.rows();
        rows.remove(&id);
        self.live.send_replace(rows.len());
        let (up, down) = row.bytes();
        let mut ended = self.ended();
        let sum = ended.bytes.entry(row.facts.pair).or_default();
        *sum = (sum.0.saturating_add(up), sum.1.saturating_add(down));
    }

    /// Orders the end of a stream; false when there is none of this name.
    pub(crate) fn kill(&self, id: StreamId) -> bool {
        let row = self.rows().get(&id).cloned();
        row.is_some_and(|row| {
            row.kill.notify_one();
            true
        })
    }

    /// The newest streams, at most [`STREAMS_TOLD`].
    pub(crate) fn live(&self) -> LiveStreams {
        let rows = self.rows();
        let mut streams: Vec<(StreamId, Arc<Row>)> = rows.iter().map(|(id, row)| (*id, row.clone())).collect();
        drop(rows);
        let total = u32::try_from(streams.len()).unwrap_or(u32::MAX);
        streams.sort_by_key(|(id, row)| (std::cmp::Reverse(row.since), *id));
        streams.truncate(STREAMS_TOLD);
        LiveStreams { total, streams: streams.iter().map(|(id, row)| row.told(*id)).collect() }
    }

    /// How many there are, and word of every change.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }

    /// Sums since the start; bytes of streams that run are in them.
    pub(crate) fn sums(&self) -> Sums {
        // Held to the end: a stream that leaves meanwhile would be counted twice, and sums must not shrink again.
        let rows = self.rows();
        let mut sums = self.ended().clone();
        for row in rows.values() {
            let ((up, down), sum) = (row.bytes(), sums.bytes.entry(row.facts.pair).or_default());
            *sum = (sum.0.saturating_add(up), sum.1.saturating_add(down));
        }
        sums
    }

    /// A stream was refused: counted always, logged unless this asker fills the log.
    pub(crate) fn refused(&self, way: &Way<'_>, kind: StreamKind, refusal: &Refusal, asked: Option<&Asked<'_>>) {
        *self.ended().refused.entry(refusal.code()).or_default() += 1;
        let gateway = way.gateway;
        let kind = if kind == StreamKind::Sealed { "sealed" } else { "direct" };
        let Some(unsaid) = self.quiet().may_say(&format!("{kind} streams by {gateway}"), self.began.elapsed()) else {
            return;
        };
        let code = refusal.code();
        match asked {
            Some(Asked { claims, rule }) => tracing::warn!(
                %gateway,
                kind,
                caller = claims.iss,
                subject = claims.sub,
                resource = %claims.res,
                target = %claims.tgt,
                rule,
                code,
                %refusal,
                unsaid,
                "stream refused"
            ),
            None => tracing::warn!(%gateway, kind, rule = "none", code, %refusal, unsaid, "stream refused"),
        }
    }

    /// Writes what was counted and not said. To be called now and then.
    pub(crate) fn tidy(&self) {
        for (who, unsaid) in self.quiet().tidy(self.began.elapsed()) {
            tracing::warn!(unsaid, "more {who} did not come about than the log holds");
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<StreamId, Arc<Row>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> MutexGuard<'_, Sums> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn quiet(&self) -> MutexGuard<'_, Quiet> {
        self.quiet.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_bits() -> u64 {
    let mut random = [0; 8];
    // A name is no secret: without randomness any that is free will do.
    aws_lc_rs::rand::fill(&mut random).map_or(0, |()| u64::from_be_bytes(random))
}
