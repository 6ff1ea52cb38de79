//! One lane: what is due when.

use std::time::Duration;

use super::{
    Action, LinkId, Pace,
    desk::{Desk, Leave},
    lane::Lane,
    links::Phase,
};
use crate::Transport;

impl Lane {
    /// Does everything that is due.
    pub(super) fn wake(&mut self, desk: &mut Desk<'_>) {
        for id in self.links.overdue(desk.pace.attempt, desk.now) {
            desk.act(Action::Cancel(id));
            self.ended(id, desk);
        }
        for id in self.links.done(desk.pace.linger, desk.now) {
            self.close(id, desk);
        }
        while let Some(id) = self.links.surplus().filter(|_| self.drain_until.is_none()) {
            self.close(id, desk);
        }
        if self.drain_until.is_some_and(|until| until <= desk.now) {
            for id in self.links.ids(|link| link.phase != Phase::Closing) {
                self.close(id, desk);
            }
        }
        if self.race_due(desk.leave).is_some_and(|at| at <= desk.now) {
            self.race(desk);
        }
        if let Some((_, transport)) = self.second.take_if(|(at, _)| *at <= desk.now && desk.leave.race) {
            self.dial(transport, desk);
        }
        if self.probe_due(desk.leave).is_some_and(|at| at <= desk.now) {
            self.probe_at = None;
            self.dial(Transport::Quic, desk);
        }
    }

    /// When [`Lane::wake`] has something to do next.
    pub(super) fn next_wake(&self, pace: &Pace, leave: Leave) -> Option<Duration> {
        let drain = self.drain_until.filter(|_| !self.links.ids(|link| link.phase != Phase::Closing).is_empty());
        [
            self.links.next_due(pace.attempt, pace.linger),
            self.second.map(|(at, _)| at).filter(|_| leave.race),
            self.race_due(leave),
            self.probe_due(leave),
            drain,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(super) fn race_due(&self, leave: Leave) -> Option<Duration> {
        self.race_at.filter(|_| leave.race)
    }

    pub(super) fn probe_due(&self, leave: Leave) -> Option<Duration> {
        self.probe_at.filter(|_| leave.probe)
    }

    fn race(&mut self, desk: &mut Desk<'_>) {
        (self.race_at, self.quic_failed) = (None, false);
        let held = self.quic_held_until.is_some_and(|until| desk.now < until);
        let first = if held { Transport::Tcp } else { desk.memory.preferred(&self.network, desk.now) };
        let stagger = if held { desk.pace.unsteady_stagger } else { desk.pace.stagger };
        // What is under way already has had its head start.
        let head_start = if self.links.attempting(first) { Duration::ZERO } else { stagger };
        self.dial(first, desk);
        self.second = Some((desk.now + head_start, first.other()));
    }

    /// Never two attempts over the same transport at a time.
    fn dial(&mut self, transport: Transport, desk: &mut Desk<'_>) {
        if !self.links.attempting(transport) {
            let link = desk.next_link();
            self.links.dial(link, transport, desk.now);
            desk.act(Action::Dial { link, pair: self.pair, transport });
        }
    }

    fn close(&mut self, id: LinkId, desk: &mut Desk<'_>) {
        if let Some(link) = self.links.find(id) {
            link.phase = Phase::Closing;
            desk.act(Action::Close(id));
        }
    }
}
