//! Networks, a gateway and time, all made up; every step is checked.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use sluice_connector_wire::{
    ClassPair, Transport,
    race::{Action, Event, LaneView, LinkId, Liveness, Network, Pace, Pulse, TICK, Tunnel},
};

use crate::checks::Checks;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tcp {
    Works,
    Refused,
    Silent,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    /// To another network: another address.
    Move(u8),
    /// The link goes dead, or comes back, silently.
    Link(bool),
    Udp(u8, bool),
    Tcp(u8, Tcp),
    /// TCP goes through something that takes this many milliseconds.
    ProxyTakes(u64),
    /// One way, in milliseconds.
    Delay(u64),
    /// Away for this many milliseconds; loud: connections are reset.
    Restart {
        loud: bool,
        away: u64,
    },
    /// The gateway says that it is leaving and takes nobody any more.
    Leave,
    /// The gateway takes connections again, those that it left still being there.
    Return,
    /// A certificate of the pair's newest connection ends soon.
    Age(ClassPair),
    /// The pair's newest connection carries so many streams.
    Streams(ClassPair, usize),
}

#[derive(Clone, Copy, Debug)]
enum Happens {
    Dialled(LinkId),
    Pong(LinkId, u64),
    Tick(LinkId),
    Ended(LinkId),
    GatewayBack,
}

/// A connection as it really is.
#[derive(Debug)]
pub(crate) struct Real {
    pub(crate) pair: ClassPair,
    pub(crate) transport: Transport,
    bound: u8,
    gateway: u64,
    pub(crate) liveness: Option<Liveness>,
    received: u64,
    answered: bool,
    pub(crate) broken_since: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct World {
    machine: Tunnel,
    pub(crate) now: Duration,
    queue: BTreeMap<(Duration, u64), Happens>,
    queued: u64,
    pub(crate) links: BTreeMap<LinkId, Real>,
    checks: Checks,
    network: u8,
    link: bool,
    udp: [bool; 3],
    tcp: [Tcp; 3],
    proxy: Duration,
    delay: Duration,
    /// Which incarnation runs, and whether it takes connections.
    gateway: u64,
    open: bool,
}

fn network(n: u8) -> Network {
    Network { v4: Some(Ipv4Addr::new(10, n, 0, 2)), v6: None }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            machine: Tunnel::new(Pace::default(), seed, network(0)),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            links: BTreeMap::new(),
            checks: Checks::default(),
            network: 0,
            link: true,
            udp: [true; 3],
            tcp: [Tcp::Works; 3],
            proxy: Duration::ZERO,
            delay: Duration::from_millis(20),
            gateway: 1,
            open: true,
        };
        world.tell(Event::Wake);
        world
    }

    pub(crate) fn view(&self, pair: ClassPair) -> LaneView {
        self.machine.lane(pair)
    }

    pub(crate) fn dials(&self) -> usize {
        self.checks.dials()
    }

    /// New streams of the pair would get through.
    pub(crate) fn works(&self, pair: ClassPair) -> bool {
        let used = self.view(pair).in_use.and_then(|used| self.links.get(&used.link));
        used.is_some_and(|real| self.passes(real))
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time, |_| false);
    }

    /// Until `done` or `end`; gives whether done.
    pub(crate) fn run_until(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> bool {
        while !done(self) {
            let next = self.queue.keys().next().map(|(at, _)| *at);
            let wake = self.machine.next_wake().map(|at| at.max(self.now));
            let at = next.into_iter().chain(wake).min().filter(|at| *at <= end);
            let Some(at) = at else {
                self.now = end;
                return done(self);
            };
            self.now = at;
            if wake == Some(at) {
                self.tell(Event::Wake);
                let again = self.machine.next_wake();
                assert!(again.is_none_or(|again| again > at), "asks to be woken at {at:?} again and again");
            } else if let Some((_, happens)) = self.queue.pop_first() {
                self.happen(happens);
            }
            self.look_at_paths();
        }
        true
    }

    pub(crate) fn change(&mut self, change: Change) {
        match change {
            Change::Move(to) => self.network = to,
            Change::Link(up) => self.link = up,
            Change::Udp(network, works) => self.udp[usize::from(network)] = works,
            Change::Tcp(network, tcp) => self.tcp[usize::from(network)] = tcp,
            Change::ProxyTakes(ms) => self.proxy = Duration::from_millis(ms),
            Change::Delay(ms) => self.delay = Duration::from_millis(ms),
            Change::Restart { loud, away } => self.restart(loud, Duration::from_millis(away)),
            Change::Leave => self.leave(),
            Change::Return => self.open = true,
            Change::Age(pair) => {
                if let Some(link) = self.newest(pair) {
                    self.tell(Event::Aging(link));
                }
            }
            Change::Streams(pair, open) => {
                if let Some(link) = self.newest(pair) {
                    self.checks.streams(link, open, self.now);
                    self.tell(Event::Streams { link, open });
                }
            }
        }
        self.look_at_paths();
        if matches!(change, Change::Move(_)) {
            self.tell(Event::Network(network(self.network)));
        }
    }

    /// Everything works from now on, and streams end.
    pub(crate) fn make_well(&mut self, udp: bool) {
        (self.link, self.udp, self.tcp) = (true, [udp; 3], [Tcp::Works; 3]);
        (self.proxy, self.delay) = (Duration::ZERO, Duration::from_millis(20));
        if !self.open {
            self.restart(true, Duration::ZERO);
        }
        self.end_streams();
        self.look_at_paths();
    }

    pub(crate) fn stop_with_streams(&mut self) {
        self.checks.stopping = true;
        self.tell(Event::Stop);
    }

    pub(crate) fn finished(&self) -> bool {
        self.machine.finished()
    }

    pub(crate) fn stop_and_finish(&mut self) {
        self.stop_with_streams();
        self.end_streams();
        let end = self.now + Pace::default().drain + Duration::from_secs(1);
        assert!(self.run_until(end, Self::finished), "stops in time");
        assert!(self.links.is_empty());
    }

    fn newest(&self, pair: ClassPair) -> Option<LinkId> {
        let newest = self.links.iter().rev().find(|(_, real)| real.pair == pair && real.liveness.is_some());
        newest.map(|(id, _)| *id)
    }

    fn end_streams(&mut self) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.checks.streams(link, 0, self.now);
            self.tell(Event::Streams { link, open: 0 });
        }
    }

    fn restart(&mut self, loud: bool, away: Duration) {
        for (id, real) in &self.links {
            if loud && real.gateway == self.gateway && self.passes(real) {
                self.queued += 1;
                self.queue.insert((self.now + self.delay, self.queued), Happens::Ended(*id));
            }
        }
        (self.gateway, self.open) = (self.gateway + 1, false);
        self.after(away, Happens::GatewayBack);
    }

    fn leave(&mut self) {
        self.open = false;
        let told = |real: &Real| real.liveness.is_some() && self.passes(real);
        for link in self.links.iter().filter(|(_, real)| told(real)).map(|(id, _)| *id).collect::<Vec<_>>() {
            self.checks.leaving(link, self.now);
            self.tell(Event::Leaving(link));
        }
    }

    fn passes(&self, real: &Real) -> bool {
        let medium = match real.transport {
            Transport::Quic => self.udp[usize::from(self.network)],
            Transport::Tcp => self.tcp[usize::from(self.network)] == Tcp::Works,
        };
        self.link && medium && real.bound == self.network && real.gateway == self.gateway
    }

    fn after(&mut self, time: Duration, happens: Happens) {
        self.queued += 1;
        self.queue.insert((self.now + time, self.queued), happens);
    }

    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::GatewayBack => self.open = true,
            Happens::Ended(id) => self.end(id),
            Happens::Dialled(id) => self.dialled(id),
            Happens::Tick(id) => self.tick(id),
            Happens::Pong(id, number) => self.pong(id, number),
        }
    }

    fn end(&mut self, id: LinkId) {
        if self.links.remove(&id).is_some() {
            self.checks.ended(id);
            self.tell(Event::Ended(id));
        }
    }

    fn dialled(&mut self, id: LinkId) {
        let gateway = self.gateway;
        let Some(real) = self.links.get_mut(&id) else { return };
        real.gateway = gateway;
        let (transport, here) = (real.transport, usize::from(self.network));
        if self.passes(&self.links[&id]) && self.open {
            self.links.get_mut(&id).unwrap().broken_since = None;
            self.tell(Event::Reached(id));
        } else if transport == Transport::Tcp && self.link && (self.tcp[here] == Tcp::Refused || !self.open) {
            self.end(id);
        } else {
            self.after(Duration::from_secs(1), Happens::Dialled(id));
        }
    }

    fn tick(&mut self, id: LinkId) {
        let (now, back) = (self.now, self.delay * 2);
        let Some(real) = self.links.get_mut(&id) else { return };
        let Some(liveness) = &mut real.liveness else { return };
        match liveness.look(real.received, 0, now) {
            Pulse::Dead => return self.end(id),
            Pulse::Ping(number) if self.passes(&self.links[&id]) => self.after(back, Happens::Pong(id, number)),
            Pulse::Ping(_) | Pulse::Quiet => {}
        }
        self.after(TICK, Happens::Tick(id));
    }

    fn pong(&mut self, id: LinkId, number: u64) {
        let now = self.now;
        if !self.links.get(&id).is_some_and(|real| self.passes(real)) {
            return;
        }
        let Some(real) = self.links.get_mut(&id) else { return };
        real.received += 1;
        real.liveness.as_mut().unwrap().pong(number, now).unwrap();
        if !std::mem::replace(&mut real.answered, true) {
            self.checks.up(id, now);
            self.tell(Event::Up(id));
        }
    }

    fn tell(&mut self, event: Event) {
        let actions = self.machine.on(event, self.now);
        for action in actions {
            self.checks.action(&action, self.now);
            self.obey(action);
        }
        self.checks.after(&self.links, self.now);
    }

    fn obey(&mut self, action: Action) {
        match action {
            Action::Dial { link, pair, transport } => {
                let (bound, gateway) = (self.network, self.gateway);
                let real = Real {
                    pair,
                    transport,
                    bound,
                    gateway,
                    liveness: None,
                    received: 0,
                    answered: false,
                    broken_since: None,
                };
                self.links.insert(link, real);
                let takes = match transport {
                    Transport::Quic => self.delay * 2,
                    Transport::Tcp => self.delay * 4 + self.proxy,
                };
                self.after(takes, Happens::Dialled(link));
            }
            Action::Greet { link, .. } => {
                self.links.get_mut(&link).unwrap().liveness = Some(Liveness::new(self.now));
                self.after(Duration::ZERO, Happens::Tick(link));
            }
            Action::Cancel(link) => drop(self.links.remove(&link)),
            Action::Retire(_) => {}
            Action::Close(link) => self.after(Duration::from_millis(10), Happens::Ended(link)),
            Action::Rebind(pair) => {
                for real in self.links.values_mut() {
                    if real.pair == pair && real.transport == Transport::Quic {
                        real.bound = self.network;
                    }
                }
            }
        }
    }

    fn look_at_paths(&mut self) {
        let broken: Vec<LinkId> = self.links.iter().filter(|(_, real)| !self.passes(real)).map(|(id, _)| *id).collect();
        for (id, real) in &mut self.links {
            real.broken_since = broken.contains(id).then(|| real.broken_since.unwrap_or(self.now));
        }
    }
}
