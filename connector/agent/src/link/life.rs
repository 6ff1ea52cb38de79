//! One connection's life: dialled, proved, greeted, carrying streams, ended.

use std::{mem, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use sluice_connector_mux::Stream;
use sluice_connector_wire::{
    AgentHello, AgentSays, ClassPair, GatewayEndpoint, GatewaySays,
    race::{LinkId, Liveness, Pulse, TICK},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{
    Tunnel,
    line::{self, Line},
    overview::LinkFacts,
    prove::{Dial, Proved, prove},
};
use crate::{Shared, board::Up, stream};

/// A connection whose certificate ends sooner than this is replaced, if it was good for longer when it began.
const RENEW_BEFORE: Duration = Duration::from_secs(15 * 60);
/// How long a connection on which no new streams are wanted takes them all the same: a gateway that is there has heard
/// so by then.
const LATE: Duration = Duration::from_secs(5);
/// Longest goodbye.
const CLOSE: Duration = Duration::from_secs(3);

/// What the tunnel tells a connection.
#[derive(Debug)]
pub(super) enum Order {
    /// Say hello with this sid.
    Greet(String),
    /// No new streams.
    Retire,
    /// Close now.
    Close,
}

/// What a connection tells its tunnel. That it ended, its task's end tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Report {
    Reached,
    Up,
    /// Whether it carries any streams.
    Busy(bool),
    Leaving,
    Aging,
}

/// What a connection needs.
pub(super) struct Life {
    pub(super) shared: Arc<Shared>,
    pub(super) endpoint: GatewayEndpoint,
    pub(super) link: LinkId,
    pub(super) pair: ClassPair,
    pub(super) facts: Arc<LinkFacts>,
    pub(super) reports: mpsc::Sender<(LinkId, Report)>,
    pub(super) shutdown: watch::Receiver<bool>,
}

impl Life {
    /// Lives it, told by `orders`. Its streams end with it at the latest.
    ///
    /// # Errors
    /// Why it ended, unless it was told to.
    pub(super) async fn live(self, dial: Dial, mut orders: mpsc::Receiver<Order>) -> anyhow::Result<()> {
        let transport = dial.transport();
        let proved = prove(&self.shared, &self.endpoint, self.pair, dial).await?;
        let Proved { mut connection, cnf, left, via } = proved;
        self.facts.came_by(via);
        self.report(Report::Reached).await;
        let Some(Order::Greet(sid)) = orders.recv().await else { return Ok(()) };
        let stream = connection.opener().open().await.context("opening the agent's line")?;
        let (line, carrying) = line::open(stream, AgentHello { sid: sid.clone(), pair: self.pair });
        let tunnel = Tunnel { gateway: self.endpoint.id.clone(), sid, cnf, transport, pair: self.pair };
        let mut carried = Carried {
            life: &self,
            tunnel: Arc::new(tunnel),
            streams: JoinSet::new(),
            up: None,
            retired: None,
            leaving: false,
            line,
        };
        let heard = connection.heard();
        let began = Instant::now();
        let mut liveness = Liveness::new(began.elapsed());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (old, ended) = (sleep(left.saturating_sub(RENEW_BEFORE)), sleep(left));
        tokio::pin!(carrying, old, ended);
        let mut aging = left > RENEW_BEFORE * 2;
        loop {
            tokio::select! {
                next = connection.next() => match next {
                    Some(next) => carried.begin(next.context("the connection broke")?).await,
                    None => bail!("the gateway closed the connection"),
                },
                Some(done) = carried.streams.join_next() => carried.finished(done).await,
                said = carried.line.said() => carried.heard(said, &mut liveness, began.elapsed()).await?,
                _ = tick.tick() => match liveness.look(heard.received(), heard.left(), began.elapsed()) {
                    Pulse::Quiet => {}
                    Pulse::Ping(number) => carried.ping(number, &liveness),
                    Pulse::Dead => bail!("nothing was heard of the gateway for 3 s"),
                },
                order = orders.recv() => match order {
                    Some(Order::Retire) => carried.retire(),
                    Some(Order::Greet(_)) => {}
                    Some(Order::Close) | None => break,
                },
                ended = &mut carrying => return ended,
                () = &mut old, if aging => {
                    aging = false;
                    self.report(Report::Aging).await;
                }
                () = &mut ended => bail!("a certificate of this connection has ended"),
            }
        }
        drop(carried);
        timeout(CLOSE, connection.close()).await.context("closing took too long")?.context("closing")
    }

    async fn report(&self, report: Report) {
        // A tunnel that is not there any more has aborted this task.
        let _gone = self.reports.send((self.link, report)).await.is_err();
    }

    /// The agent stops: callers are told to go elsewhere.
    fn draining(&self) -> bool {
        *self.shutdown.borrow() || self.shutdown.has_changed().is_err()
    }
}

/// What a connection carries.
struct Carried<'a> {
    life: &'a Life,
    tunnel: Arc<Tunnel>,
    streams: JoinSet<()>,
    /// Since the gateway has answered.
    up: Option<Up>,
    /// Since when no new streams are wanted.
    retired: Option<Instant>,
    /// The gateway has said that it is leaving; once is enough.
    leaving: bool,
    line: Line,
}

impl Carried<'_> {
    async fn begin(&mut self, stream: Stream) {
        let (shared, tunnel) = (self.life.shared.clone(), self.tunnel.clone());
        let late = self.retired.is_some_and(|since| since.elapsed() > LATE);
        self.streams.spawn(stream::carry(shared, tunnel, stream, late || self.life.draining()));
        if self.count() == 1 {
            self.life.report(Report::Busy(true)).await;
        }
    }

    fn retire(&mut self) {
        self.retired.get_or_insert_with(Instant::now);
        self.line.retire();
    }

    async fn finished(&self, done: Result<(), tokio::task::JoinError>) {
        if let Err(error) = done {
            tracing::error!(%error, "a stream's task panicked");
        }
        if self.count() == 0 {
            self.life.report(Report::Busy(false)).await;
        }
    }

    fn count(&self) -> usize {
        self.life.facts.carries(self.streams.len());
        self.streams.len()
    }

    async fn heard(&mut self, said: GatewaySays, liveness: &mut Liveness, now: Duration) -> anyhow::Result<()> {
        match said {
            GatewaySays::Pong { number } => {
                liveness.pong(number, now)?;
                self.life.facts.measured(liveness.rtt());
                let first = self.up.is_none();
                let tunnel = &self.tunnel;
                let board = &self.life.shared.board;
                let up = self.up.get_or_insert_with(|| board.up(&tunnel.gateway, tunnel.pair, tunnel.transport));
                if let Some(rtt) = liveness.rtt() {
                    up.measured(rtt);
                }
                if first {
                    self.life.report(Report::Up).await;
                }
            }
            GatewaySays::Leaving if mem::replace(&mut self.leaving, true) => {}
            GatewaySays::Leaving => self.life.report(Report::Leaving).await,
        }
        Ok(())
    }

    fn ping(&self, number: u64, liveness: &Liveness) {
        let shared = &self.life.shared;
        let (carried, room) = shared.streams.count(self.tunnel.gateway.as_str());
        let most = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let rtt_micros = liveness.rtt().map(|rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX));
        self.line.say(AgentSays::Ping { number, rtt_micros, streams: most(carried), room: most(room) });
    }
}
