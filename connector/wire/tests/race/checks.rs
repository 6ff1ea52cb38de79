//! What must hold after every step: a plain account of the machine's actions, kept apart from the machine.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sluice_connector_wire::{
    ClassPair, Transport,
    race::{Action, LinkId, MAX_FINISHING, Pace},
};

use crate::world::Real;

const DEAD_AFTER: Duration = Duration::from_secs(3);
const MINUTE: Duration = Duration::from_secs(60);
/// Dials of one lane in a minute, while addresses change as often as they like: with twelve dials at once allowed,
/// each followed by a backoff from the start.
const STORM: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialling,
    Greeting,
    Up,
    Finishing,
    Closing,
}

#[derive(Debug)]
struct Noted {
    pair: ClassPair,
    transport: Transport,
    stage: Stage,
    session: Option<u64>,
    streams: usize,
    empty_since: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Checks {
    links: BTreeMap<LinkId, Noted>,
    dialled: BTreeMap<ClassPair, VecDeque<Duration>>,
    dials: usize,
    newest: u64,
    sessions: u64,
    pub(crate) stopping: bool,
}

impl Checks {
    pub(crate) fn dials(&self) -> usize {
        self.dials
    }

    pub(crate) fn up(&mut self, id: LinkId, now: Duration) {
        let noted = self.links.get_mut(&id).unwrap();
        // One that was retired meanwhile stays so.
        if noted.stage == Stage::Greeting {
            (noted.stage, noted.empty_since) = (Stage::Up, now);
        }
    }

    pub(crate) fn leaving(&mut self, id: LinkId, now: Duration) {
        let noted = self.links.get_mut(&id).unwrap();
        if matches!(noted.stage, Stage::Greeting | Stage::Up) {
            (noted.stage, noted.empty_since) = (Stage::Finishing, now);
        }
    }

    pub(crate) fn streams(&mut self, id: LinkId, open: usize, now: Duration) {
        let noted = self.links.get_mut(&id).unwrap();
        if open == 0 && noted.streams > 0 {
            noted.empty_since = now;
        }
        noted.streams = open;
    }

    pub(crate) fn ended(&mut self, id: LinkId) {
        self.links.remove(&id).unwrap();
    }

    pub(crate) fn action(&mut self, action: &Action, now: Duration) {
        match action {
            Action::Dial { link, pair, transport } => self.dial(*link, *pair, *transport, now),
            Action::Greet { link, session } => self.greet(*link, *session),
            Action::Cancel(id) => {
                let gone = self.links.remove(id).unwrap();
                assert!(matches!(gone.stage, Stage::Dialling | Stage::Greeting), "only attempts are cancelled");
                assert_eq!(gone.streams, 0, "cancelled with streams");
            }
            Action::Retire(id) => {
                let (pair, stage) = (self.links[id].pair, self.links[id].stage);
                assert!(matches!(stage, Stage::Greeting | Stage::Up | Stage::Finishing));
                let others = self.links.iter().filter(|(other, _)| *other != id);
                let proved = others.into_iter().any(|(_, other)| other.pair == pair && other.stage == Stage::Up);
                let unproved = stage == Stage::Greeting;
                assert!(proved || unproved || self.stopping, "a connection is given up before another one is proved");
                let noted = self.links.get_mut(id).unwrap();
                (noted.stage, noted.empty_since) = (Stage::Finishing, now);
            }
            Action::Close(id) => {
                let pair = self.links[id].pair;
                let finishing = |noted: &&Noted| noted.pair == pair && noted.stage == Stage::Finishing;
                let crowded = self.links.values().filter(finishing).count() > MAX_FINISHING;
                let noted = self.links.get_mut(id).unwrap();
                assert_eq!(noted.stage, Stage::Finishing, "closed without having been retired");
                assert!(noted.streams == 0 || self.stopping || crowded, "closed with streams");
                noted.stage = Stage::Closing;
            }
            Action::Rebind(pair) => {
                let mut own = self.links.values().filter(|noted| noted.pair == *pair);
                assert!(own.any(|noted| noted.transport == Transport::Quic), "nothing to move");
            }
        }
    }

    /// After all actions of one event.
    pub(crate) fn after(&self, real: &BTreeMap<LinkId, Real>, now: Duration) {
        let pace = Pace::default();
        for pair in ClassPair::ALL {
            let own = || self.links.values().filter(|noted| noted.pair == pair);
            assert!(own().filter(|noted| noted.stage == Stage::Up).count() <= 1, "two connections are in use");
            let finishing = own().filter(|noted| noted.stage == Stage::Finishing).count();
            assert!(
                finishing <= MAX_FINISHING || self.stopping,
                "{finishing} connections of {pair} finish their streams"
            );
        }
        for (id, noted) in &self.links {
            let idle = noted.stage == Stage::Finishing && noted.streams == 0;
            assert!(!idle || now < noted.empty_since + pace.linger, "a finished connection stays open");
            let broken = real[id].broken_since.filter(|_| real[id].liveness.is_some());
            assert!(broken.is_none_or(|since| now <= since + DEAD_AFTER), "a dead peer goes unnoticed");
        }
    }

    fn dial(&mut self, id: LinkId, pair: ClassPair, transport: Transport, now: Duration) {
        assert!(!self.stopping, "a stopping agent dials");
        assert!(id.0 > self.newest, "ids are not reused");
        self.newest = id.0;
        let under_way = |noted: &&Noted| matches!(noted.stage, Stage::Dialling | Stage::Greeting);
        let mut attempts = self.links.values().filter(under_way).filter(|noted| noted.pair == pair);
        assert!(attempts.all(|noted| noted.transport != transport), "two attempts of one kind");
        let standard = |noted: &Noted| noted.pair == ClassPair::Standard && noted.stage == Stage::Up;
        assert!(pair == ClassPair::Standard || self.links.values().any(standard), "standard comes first");
        self.dials += 1;
        let minute = self.dialled.entry(pair).or_default();
        minute.push_back(now);
        while minute.front().is_some_and(|at| *at + MINUTE <= now) {
            minute.pop_front();
        }
        assert!(minute.len() <= STORM, "{} dials of {pair} in a minute", minute.len());
        let (stage, session, streams, empty_since) = (Stage::Dialling, None, 0, now);
        self.links.insert(id, Noted { pair, transport, stage, session, streams, empty_since });
    }

    fn greet(&mut self, id: LinkId, session: u64) {
        let live = self.links.values().filter_map(|noted| noted.session).next();
        match live {
            Some(live) => assert_eq!(session, live, "one session at a time"),
            None => assert!(session > self.sessions, "a session that ended comes back"),
        }
        self.sessions = self.sessions.max(session);
        let noted = self.links.get_mut(&id).unwrap();
        assert_eq!(noted.stage, Stage::Dialling);
        (noted.stage, noted.session) = (Stage::Greeting, Some(session));
    }
}
