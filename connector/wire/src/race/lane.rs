//! One lane: what happens to its connections.

use std::time::Duration;

use super::{
    Action, LinkId, Pace,
    desk::Desk,
    links::{Link, Links, Phase},
    memory::Network,
    pauses::{Allowance, Doubling},
};
use crate::{ClassPair, Transport};

#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) pair: ClassPair,
    pub(super) links: Links,
    pub(super) network: Network,
    pub(super) backoff: Doubling,
    /// Dials that do not wait for what went before: after address changes and losses.
    pub(super) prompt: Allowance,
    pub(super) race_at: Option<Duration>,
    /// The race's second transport.
    pub(super) second: Option<(Duration, Transport)>,
    pub(super) probe: Doubling,
    pub(super) probe_at: Option<Duration>,
    /// QUIC came up here and was lost soon: until then it has to wait for TCP to fail.
    pub(super) quic_held_until: Option<Duration>,
    /// QUIC has failed since the race began.
    pub(super) quic_failed: bool,
    /// We stop; at this time for good.
    pub(super) drain_until: Option<Duration>,
}

impl Lane {
    pub(super) const fn new(pair: ClassPair, network: Network, pace: &Pace) -> Self {
        Self {
            pair,
            links: Links::new(),
            network,
            backoff: Doubling::new(pace.pause_min, pace.pause_max),
            prompt: Allowance::new(pace.prompt_burst, pace.prompt_every),
            race_at: Some(Duration::ZERO),
            second: None,
            probe: Doubling::new(pace.probe_min, pace.probe_max),
            probe_at: None,
            quic_held_until: None,
            quic_failed: false,
            drain_until: None,
        }
    }

    /// The gateway has proved itself; gives whether hello may be said.
    pub(super) fn reached(&mut self, id: LinkId, desk: &Desk<'_>) -> bool {
        let Some(link) = self.links.find(id).filter(|link| link.phase == Phase::Dialling) else { return false };
        link.enter(Phase::Greeting, desk.now);
        true
    }

    pub(super) fn up(&mut self, id: LinkId, desk: &mut Desk<'_>) {
        let Some(link) = self.links.find(id).filter(|link| link.phase == Phase::Greeting) else { return };
        let transport = link.transport;
        let before = self.links.in_use().map(|(before, _)| before);
        if let Some(link) = self.links.find(id) {
            link.enter(Phase::Up, desk.now);
        }
        if let Some(before) = before {
            self.retire(before, desk);
        }
        (self.race_at, self.second, self.probe_at) = (None, None, None);
        match transport {
            Transport::Quic => {
                self.give_up_attempts(desk);
                desk.memory.remember(self.network, Transport::Quic, desk.now);
            }
            Transport::Tcp if self.links.attempting(Transport::Quic) => {}
            Transport::Tcp => self.stay_on_tcp(desk),
        }
    }

    /// A dial failed, or a connection is gone.
    pub(super) fn ended(&mut self, id: LinkId, desk: &mut Desk<'_>) {
        let Some(link) = self.links.remove(id) else { return };
        match link.phase {
            Phase::Dialling | Phase::Greeting => self.failed(&link, desk),
            Phase::Up | Phase::Stale | Phase::Leaving => self.lost(&link, desk),
            Phase::Retired | Phase::Closing => {}
        }
    }

    fn failed(&mut self, link: &Link, desk: &mut Desk<'_>) {
        let served = self.links.in_use().is_some_and(|(_, used)| used.phase == Phase::Up);
        if link.transport == Transport::Quic {
            self.quic_failed = true;
            if served {
                self.stay_on_tcp(desk);
            }
        }
        if served || self.drain_until.is_some() {
            return;
        }
        if let Some((at, _)) = &mut self.second {
            *at = desk.now;
        } else if self.race_at.is_none() {
            // Also while the other attempt goes on: it may well hang until it is given up.
            self.race_at = Some(desk.now + self.backoff.take(desk.spread));
        }
    }

    fn lost(&mut self, link: &Link, desk: &mut Desk<'_>) {
        if desk.now >= link.since + desk.pace.steady {
            self.backoff.reset();
            if link.transport == Transport::Quic {
                self.probe.reset();
            }
        } else if link.transport == Transport::Quic && link.phase != Phase::Leaving {
            // Perhaps a path that lets handshakes through and little else.
            desk.memory.remember(self.network, Transport::Tcp, desk.now);
            self.quic_held_until = Some(desk.now + self.probe.take(desk.spread));
        }
        // The pauses that stood before it came up say nothing of a gateway that was restarted once more.
        if self.prompt.take(desk.now) {
            self.backoff.reset();
        }
        if self.links.in_use().is_none() && self.drain_until.is_none() {
            let again = desk.now + self.backoff.take(desk.spread);
            self.race_at = Some(self.race_at.map_or(again, |at| at.min(again)));
        }
        self.probe_at = None;
    }

    pub(super) fn streams(&mut self, id: LinkId, open: usize, desk: &Desk<'_>) {
        if let Some(link) = self.links.find(id) {
            link.carries(open, desk.now);
        }
    }

    /// The gateway opens no more streams on it.
    pub(super) fn leaving(&mut self, id: LinkId, desk: &mut Desk<'_>) {
        let Some(link) = self.links.find(id).filter(|link| link.gets_streams()) else { return };
        link.enter(Phase::Leaving, desk.now);
        if self.drain_until.is_none() && self.links.in_use().is_none() {
            self.give_up_attempts(desk);
            (self.second, self.probe_at) = (None, None);
            self.race_at = Some(desk.now + desk.spread.over(desk.pace.leaving));
        }
    }

    /// It will not be good for long.
    pub(super) fn aging(&mut self, id: LinkId, desk: &Desk<'_>) {
        if let Some(link) = self.links.find(id).filter(|link| link.phase == Phase::Up) {
            link.phase = Phase::Stale;
            self.race_at = Some(desk.now);
        }
    }

    /// The machine has another address.
    pub(super) fn moved(&mut self, network: Network, desk: &mut Desk<'_>) {
        if self.network == network || self.drain_until.is_some() {
            return;
        }
        self.network = network;
        self.give_up_attempts(desk);
        (self.second, self.probe_at, self.quic_held_until) = (None, None, None);
        self.probe.reset();
        if self.links.any_quic() {
            desk.act(Action::Rebind(self.pair));
        }
        if let Some((id, link)) = self.links.in_use() {
            match (link.transport, link.phase) {
                (Transport::Quic, Phase::Up) => return,
                // To be replaced anyway.
                (Transport::Quic, _) => {}
                (Transport::Tcp, _) => {
                    if let Some(link) = self.links.find(id) {
                        link.phase = Phase::Stale;
                    }
                }
            }
        }
        let again = if self.prompt.take(desk.now) {
            self.backoff.reset();
            desk.now
        } else {
            desk.now + self.backoff.take(desk.spread)
        };
        self.race_at = Some(self.race_at.map_or(again, |at| at.min(again)));
    }

    /// QUIC came up for another lane.
    pub(super) fn probe_now(&mut self, desk: &Desk<'_>) {
        self.probe_at = self.probe_at.map(|at| at.min(desk.now));
    }

    /// No new streams; those that run may end.
    pub(super) fn stop(&mut self, desk: &mut Desk<'_>) {
        if self.drain_until.is_some() {
            return;
        }
        self.drain_until = Some(desk.now + desk.pace.drain);
        (self.race_at, self.second, self.probe_at) = (None, None, None);
        self.give_up_attempts(desk);
        for id in self.links.ids(|link| link.is_in_use() || link.phase == Phase::Leaving) {
            self.retire(id, desk);
        }
    }

    fn stay_on_tcp(&mut self, desk: &mut Desk<'_>) {
        if self.quic_failed {
            desk.memory.remember(self.network, Transport::Tcp, desk.now);
        }
        self.probe_at = Some(desk.now + self.probe.take(desk.spread));
    }

    fn retire(&mut self, id: LinkId, desk: &mut Desk<'_>) {
        if let Some(link) = self.links.find(id) {
            link.enter(Phase::Retired, desk.now);
            desk.act(Action::Retire(id));
        }
    }

    /// Those that have said hello may have been given streams already: they finish these.
    fn give_up_attempts(&mut self, desk: &mut Desk<'_>) {
        for id in self.links.ids(|link| link.phase == Phase::Dialling) {
            self.links.remove(id);
            desk.act(Action::Cancel(id));
        }
        for id in self.links.ids(|link| link.phase == Phase::Greeting) {
            self.retire(id, desk);
        }
    }
}
