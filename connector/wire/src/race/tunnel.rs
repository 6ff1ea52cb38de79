//! One tunnel: three lanes to one gateway, and the session they share.

use std::time::Duration;

use super::{
    Action, LinkId, Network, Pace,
    desk::{Desk, Leave},
    lane::Lane,
    memory::Memory,
    pauses::Spread,
};
use crate::{ClassPair, Transport};

/// What happened. Events of connections that were cancelled or have ended change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is [`Tunnel::next_wake`]; too early and too often do no harm.
    Wake,
    /// The gateway has proved itself on this connection.
    Reached(LinkId),
    /// It answered the first ping: it takes part.
    Up(LinkId),
    /// The dial failed, or the connection is closed, broken or dead.
    Ended(LinkId),
    /// How many streams it carries now.
    Streams {
        /// Which connection.
        link: LinkId,
        /// How many.
        open: usize,
    },
    /// The gateway said that it is leaving.
    Leaving(LinkId),
    /// A certificate it was proved by ends soon: it is to be replaced, and works until then.
    Aging(LinkId),
    /// Our addresses towards the gateway; telling the same again changes nothing.
    Network(Network),
    /// The agent stops.
    Stop,
}

/// A lane's connection that gets new streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    /// Which.
    pub link: LinkId,
    /// Over what.
    pub transport: Transport,
    /// Since when, counted as `now` is.
    pub since: Duration,
}

/// A lane as operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// Where new streams go; `None`: nowhere.
    pub in_use: Option<InUse>,
    /// Dials under way.
    pub attempts: usize,
    /// Connections that only finish their streams.
    pub finishing: usize,
    /// When it will dial next, if that is settled: again, or QUIC beside TCP.
    pub next_dial: Option<Duration>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Tunnel {
    pace: Pace,
    /// The first is the standard lane.
    lanes: [Lane; 3],
    spread: Spread,
    memory: Memory,
    last_link: u64,
    session: u64,
}

impl Tunnel {
    /// Wants to dial at the first [`Event::Wake`]. `seed` spreads pauses: any random number.
    #[must_use]
    pub fn new(pace: Pace, seed: u64, network: Network) -> Self {
        let lane = |pair| Lane::new(pair, network, &pace);
        Self {
            pace,
            lanes: [lane(ClassPair::Standard), lane(ClassPair::Interactive), lane(ClassPair::Bulk)],
            spread: Spread::new(seed),
            memory: Memory::default(),
            last_link: 0,
            session: 0,
        }
    }

    /// Takes notice of `event` at `now` (since any fixed moment, never going back) and gives what to do, in order.
    #[must_use]
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let had_quic = self.standard() == Some(Transport::Quic);
        match event {
            Event::Wake => {}
            Event::Reached(id) => self.reached(id, now, &mut actions),
            Event::Up(id) => self.each(now, &mut actions, |lane, desk| lane.up(id, desk)),
            Event::Ended(id) => self.each(now, &mut actions, |lane, desk| lane.ended(id, desk)),
            Event::Streams { link, open } => self.each(now, &mut actions, |lane, desk| lane.streams(link, open, desk)),
            Event::Leaving(id) => self.each(now, &mut actions, |lane, desk| lane.leaving(id, desk)),
            Event::Aging(id) => self.each(now, &mut actions, |lane, desk| lane.aging(id, desk)),
            Event::Network(network) => self.each(now, &mut actions, |lane, desk| lane.moved(network, desk)),
            Event::Stop => self.each(now, &mut actions, Lane::stop),
        }
        if !had_quic && self.standard() == Some(Transport::Quic) {
            self.each(now, &mut actions, |lane, desk| lane.probe_now(desk));
        }
        self.each(now, &mut actions, Lane::wake);
        actions
    }

    /// When to call with [`Event::Wake`]; `None`: not before something happens.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        self.lanes.iter().filter_map(|lane| lane.next_wake(&self.pace, self.leave(lane.pair))).min()
    }

    /// Stopped, and nothing is left.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.lanes.iter().all(|lane| lane.drain_until.is_some() && lane.links.is_empty())
    }

    /// One lane, for a status page.
    #[must_use]
    pub fn lane(&self, pair: ClassPair) -> LaneView {
        let found = self.lanes.iter().find(|lane| lane.pair == pair);
        found.map_or(LaneView { in_use: None, attempts: 0, finishing: 0, next_dial: None }, |lane| {
            let leave = self.leave(pair);
            let in_use = lane.links.in_use();
            LaneView {
                in_use: in_use.map(|(link, used)| InUse { link, transport: used.transport, since: used.since }),
                attempts: lane.links.attempts(),
                finishing: lane.links.finishing(),
                next_dial: lane.race_due(leave).or(lane.probe_due(leave)),
            }
        })
    }

    /// Every connection that has said hello belongs to one session, and a session lasts as long as one of them lives.
    fn reached(&mut self, id: LinkId, now: Duration, actions: &mut Vec<Action>) {
        let lives = self.lanes.iter().any(|lane| lane.links.greeted());
        let mut greet = false;
        self.each(now, actions, |lane, desk| greet |= lane.reached(id, desk));
        if greet {
            self.session += u64::from(!lives);
            actions.push(Action::Greet { link: id, session: self.session });
        }
    }

    /// What the standard lane runs on.
    fn standard(&self) -> Option<Transport> {
        let [standard, ..] = &self.lanes;
        standard.links.in_use().map(|(_, link)| link.transport)
    }

    fn leave(&self, pair: ClassPair) -> Leave {
        if pair == ClassPair::Standard {
            return Leave { race: true, probe: true };
        }
        let standard = self.standard();
        Leave { race: standard.is_some(), probe: standard == Some(Transport::Quic) }
    }

    fn each(&mut self, now: Duration, actions: &mut Vec<Action>, mut what: impl FnMut(&mut Lane, &mut Desk<'_>)) {
        for at in 0..self.lanes.len() {
            let Some(leave) = self.lanes.get(at).map(|lane| self.leave(lane.pair)) else { return };
            let Some(lane) = self.lanes.get_mut(at) else { return };
            let mut desk = Desk {
                now,
                pace: &self.pace,
                spread: &mut self.spread,
                memory: &mut self.memory,
                last_link: &mut self.last_link,
                actions,
                leave,
            };
            what(lane, &mut desk);
        }
    }
}
