//! Keeps one tunnel: does what the racing machine says, tells it what came of it.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sluice_connector_wire::{
    ClassPair, GatewayEndpoint, Transport,
    race::{self, Action, Event, LinkId, Pace},
};
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, Id, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    life::{Life, Order, Report},
    network::{LOOK_EVERY, Lookout},
    overview::{LaneNote, LinkFacts},
    prove::Dial,
    quic::Endpoints,
    way_out::permitted,
};
use crate::{Limits, Shared};

/// Reports that wait; whoever reports waits, too.
const REPORTS: usize = 64;
/// Orders that wait at one connection: each comes once.
const ORDERS: usize = 4;
/// Time for the gateway's addresses before the first dial goes out without knowing them.
const FIRST_LOOK: Duration = Duration::from_millis(500);
/// Longest error kept for the status, in characters.
const MAX_WORDS: usize = 400;

/// Runs until `shutdown` and the end of all streams. Dropping it breaks everything off.
pub(super) async fn keep(shared: Arc<Shared>, endpoint: GatewayEndpoint, shutdown: watch::Receiver<bool>) {
    let (reports, mut reported) = mpsc::channel(REPORTS);
    let looking = permitted(&shared.gateway_resolver, &shared.pieces.gateway_networks, &endpoint);
    let addresses = timeout(FIRST_LOOK, looking).await.map_or_else(|_| Vec::new(), Result::unwrap_or_default);
    let lookout = Lookout::new(&addresses);
    let mut seed = [0; 8];
    // Without randomness pauses are merely not spread.
    let _unspread = aws_lc_rs::rand::fill(&mut seed).is_err();
    let machine = race::Tunnel::new(pace(&shared.pieces.limits), u64::from_ne_bytes(seed), lookout.look());
    let began = Instant::now();
    let (endpoints, links, errors) = (Endpoints::default(), BTreeMap::new(), BTreeMap::new());
    let tasks = JoinSet::new();
    let (session, is_up) = (None, false);
    let mut keeper =
        Keeper { shared, endpoint, shutdown, reports, machine, began, endpoints, links, tasks, errors, session, is_up };
    let mut stopped = keeper.shutdown.clone();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = pin!(stopped.wait_for(|stop| *stop));
    let mut stopping = false;
    keeper.tell(Event::Wake);
    while !keeper.machine.finished() {
        let wake = keeper.machine.next_wake().map_or_else(|| began + Duration::from_secs(3600), |at| began + at);
        tokio::select! {
            () = sleep_until(wake) => keeper.tell(Event::Wake),
            Some((link, report)) = reported.recv() => keeper.reported(link, report),
            Some(ended) = keeper.tasks.join_next_with_id() => keeper.ended(ended),
            _ = look.tick() => keeper.tell(Event::Network(lookout.look())),
            _ = &mut stop, if !stopping => {
                stopping = true;
                keeper.tell(Event::Stop);
            }
        }
    }
}

fn pace(limits: &Limits) -> Pace {
    Pace {
        attempt: limits.handshake * 2,
        pause_min: limits.pause_min,
        pause_max: limits.pause_max,
        probe_min: limits.probe_min,
        probe_max: limits.probe_max,
        drain: limits.drain,
        ..Pace::default()
    }
}

struct Keeper {
    shared: Arc<Shared>,
    endpoint: GatewayEndpoint,
    shutdown: watch::Receiver<bool>,
    reports: mpsc::Sender<(LinkId, Report)>,
    machine: race::Tunnel,
    /// When the machine's time began.
    began: Instant,
    endpoints: Endpoints,
    links: BTreeMap<LinkId, Link>,
    tasks: JoinSet<anyhow::Result<()>>,
    errors: BTreeMap<ClassPair, BTreeMap<&'static str, String>>,
    session: Option<(u64, String)>,
    /// Some connection gets new streams.
    is_up: bool,
}

/// One connection's task.
struct Link {
    pair: ClassPair,
    transport: Transport,
    task: AbortHandle,
    orders: mpsc::Sender<Order>,
    facts: Arc<LinkFacts>,
}

impl Keeper {
    fn step(&mut self, event: Event) {
        for action in self.machine.on(event, self.began.elapsed()) {
            self.act(action);
        }
    }

    fn tell(&mut self, event: Event) {
        self.step(event);
        let is_up = ClassPair::ALL.iter().any(|pair| self.machine.lane(*pair).in_use.is_some());
        if is_up != self.is_up {
            self.is_up = is_up;
            let gateway = &self.endpoint.id;
            if is_up { tracing::info!(%gateway, "tunnel is up") } else { tracing::warn!(%gateway, "tunnel is down") }
        }
        self.note();
    }

    fn reported(&mut self, link: LinkId, report: Report) {
        match report {
            Report::Reached => self.tell(Event::Reached(link)),
            Report::Up => self.up(link),
            // Comes and goes with each short stream, and rarely changes what is told: the next look notes it.
            Report::Busy(busy) => self.step(Event::Streams { link, open: usize::from(busy) }),
            Report::Leaving => {
                tracing::info!(gateway = %self.endpoint.id, "the gateway is leaving; its streams go on");
                self.tell(Event::Leaving(link));
            }
            Report::Aging => self.tell(Event::Aging(link)),
        }
    }

    fn up(&mut self, id: LinkId) {
        if let Some(link) = self.links.get(&id) {
            let (pair, transport) = (link.pair, link.transport);
            tracing::info!(gateway = %self.endpoint.id, %pair, %transport, "tunnel connection is up");
            self.errors.entry(pair).or_default().remove(transport.as_str());
        }
        self.tell(Event::Up(id));
    }

    fn ended(&mut self, ended: Result<(Id, anyhow::Result<()>), JoinError>) {
        let (task, why) = match ended {
            Ok((task, Ok(()))) => (task, None),
            Ok((task, Err(error))) => (task, Some(error)),
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                tracing::error!(%error, "a tunnel connection's task panicked");
                (error.id(), Some(anyhow::anyhow!("its task panicked")))
            }
        };
        let Some(id) = self.links.iter().find(|(_, link)| link.task.id() == task).map(|(id, _)| *id) else { return };
        let Some(link) = self.links.remove(&id) else { return };
        let (pair, transport) = (link.pair, link.transport);
        if let Some(error) = why {
            let why = format!("{error:#}");
            if self.is_missed(id, &link) {
                tracing::warn!(gateway = %self.endpoint.id, %pair, %transport, reason = why, "tunnel connection is down");
                self.shared.board.hindered(&error);
            } else {
                tracing::debug!(gateway = %self.endpoint.id, %pair, %transport, reason = why, "tunnel connection ended");
            }
            self.errors.entry(pair).or_default().insert(transport.as_str(), why.chars().take(MAX_WORDS).collect());
        }
        self.tell(Event::Ended(id));
    }

    /// Whether its lane is without a connection now. That QUIC is not there beside TCP is the rule on many networks.
    fn is_missed(&self, id: LinkId, link: &Link) -> bool {
        self.machine.lane(link.pair).in_use.is_none_or(|used| used.link == id)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dial { link, pair, transport } => self.dial(link, pair, transport),
            Action::Greet { link, session } => match self.sid(session) {
                Ok(sid) => self.order(link, Order::Greet(sid)),
                // The attempt ends when its time is over.
                Err(error) => tracing::error!("no session id: {error:#}"),
            },
            Action::Cancel(link) => {
                if let Some(link) = self.links.remove(&link) {
                    link.task.abort();
                }
            }
            Action::Retire(link) => self.order(link, Order::Retire),
            Action::Close(link) => self.order(link, Order::Close),
            Action::Rebind(pair) => {
                if let Err(error) = self.endpoints.rebind(pair) {
                    tracing::warn!(%pair, "QUIC stays at its old address: {error:#}");
                }
            }
        }
    }

    fn dial(&mut self, id: LinkId, pair: ClassPair, transport: Transport) {
        let dial = match transport {
            Transport::Tcp => Ok(Dial::Tcp),
            Transport::Quic => self.endpoints.of(pair).map(Dial::Quic),
        };
        let (orders, ordered) = mpsc::channel(ORDERS);
        let facts = Arc::new(LinkFacts::default());
        let life = Life {
            shared: self.shared.clone(),
            endpoint: self.endpoint.clone(),
            link: id,
            pair,
            facts: facts.clone(),
            reports: self.reports.clone(),
            shutdown: self.shutdown.clone(),
        };
        let task = self.tasks.spawn(async move { life.live(dial?, ordered).await });
        self.links.insert(id, Link { pair, transport, task, orders, facts });
    }

    fn order(&self, link: LinkId, order: Order) {
        if let Some(link) = self.links.get(&link)
            && let Err(error) = link.orders.try_send(order)
        {
            tracing::debug!(%error, "a connection that ends takes no orders");
        }
    }

    fn sid(&mut self, session: u64) -> anyhow::Result<String> {
        match &self.session {
            Some((number, sid)) if *number == session => Ok(sid.clone()),
            _ => {
                let mut random = [0_u8; 16];
                aws_lc_rs::rand::fill(&mut random).context("no randomness for a session id")?;
                let sid = URL_SAFE_NO_PAD.encode(random);
                self.session = Some((session, sid.clone()));
                Ok(sid)
            }
        }
    }

    /// Puts the tunnel's state on the board.
    fn note(&self) {
        let lanes: Vec<LaneNote> = ClassPair::ALL.iter().map(|pair| self.lane(*pair)).collect();
        let lives = lanes.iter().any(|lane| lane.in_use.is_some() || lane.finishing > 0);
        let sid = self.session.as_ref().filter(|_| lives).map(|(_, sid)| sid.clone());
        self.shared.overview.note(&self.endpoint, sid, lanes);
    }

    fn lane(&self, pair: ClassPair) -> LaneNote {
        let view = self.machine.lane(pair);
        let in_use = view.in_use.and_then(|used| {
            let facts = self.links.get(&used.link)?.facts.clone();
            Some((used.transport, self.began + used.since, facts))
        });
        LaneNote {
            pair,
            in_use,
            finishing: view.finishing,
            attempts: view.attempts,
            next_dial: view.next_dial.map(|at| self.began + at),
            errors: self.errors.get(&pair).cloned().unwrap_or_default(),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.overview.remove(&self.endpoint);
    }
}
