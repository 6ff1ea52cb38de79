//! The connections of one lane, by their phase.

use std::{collections::BTreeMap, time::Duration};

use super::LinkId;
use crate::Transport;

/// Connections of one lane that finish their streams; beyond it one has to close, streams or not. A gateway that says it
/// is leaving as often as it is dialled must not make them pile up.
pub const MAX_FINISHING: usize = 3;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Being dialled and proved.
    Dialling,
    /// Hello is said, no pong yet.
    Greeting,
    /// Gets new streams.
    Up,
    /// As [`Phase::Up`], but it is to be replaced: it is bound to an address that we no longer have, or a certificate
    /// ends.
    Stale,
    /// The gateway stops: it opens no new streams.
    Leaving,
    /// We asked for no new streams.
    Retired,
    /// Told to close.
    Closing,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) transport: Transport,
    pub(super) phase: Phase,
    /// When it was dialled; from `Up` on, when that began.
    pub(super) since: Duration,
    streams: usize,
    /// Since when it carries no stream.
    empty_from: Option<Duration>,
}

impl Link {
    pub(super) const fn is_attempt(&self) -> bool {
        matches!(self.phase, Phase::Dialling | Phase::Greeting)
    }

    pub(super) const fn is_in_use(&self) -> bool {
        matches!(self.phase, Phase::Up | Phase::Stale)
    }

    /// The gateway knows it and was not told otherwise.
    pub(super) const fn gets_streams(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Up | Phase::Stale)
    }

    const fn is_finishing(&self) -> bool {
        matches!(self.phase, Phase::Leaving | Phase::Retired)
    }

    pub(super) const fn enter(&mut self, phase: Phase, now: Duration) {
        if matches!(phase, Phase::Up) {
            self.since = now;
        }
        self.phase = phase;
        self.empty_from = if self.streams == 0 { Some(now) } else { None };
    }

    pub(super) const fn carries(&mut self, streams: usize, now: Duration) {
        if streams == 0 && self.streams != 0 {
            self.empty_from = Some(now);
        } else if streams != 0 {
            self.empty_from = None;
        }
        self.streams = streams;
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Links(BTreeMap<LinkId, Link>);

impl Links {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn dial(&mut self, id: LinkId, transport: Transport, now: Duration) {
        let link = Link { transport, phase: Phase::Dialling, since: now, streams: 0, empty_from: Some(now) };
        self.0.insert(id, link);
    }

    pub(super) fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        self.0.get_mut(&id)
    }

    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        self.0.remove(&id)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn in_use(&self) -> Option<(LinkId, &Link)> {
        self.0.iter().find(|(_, link)| link.is_in_use()).map(|(id, link)| (*id, link))
    }

    pub(super) fn attempting(&self, transport: Transport) -> bool {
        self.0.values().any(|link| link.is_attempt() && link.transport == transport)
    }

    pub(super) fn attempts(&self) -> usize {
        self.0.values().filter(|link| link.is_attempt()).count()
    }

    pub(super) fn finishing(&self) -> usize {
        self.0.values().filter(|link| link.is_finishing()).count()
    }

    /// The one to close when too many are finishing: an empty one if there is any, else the oldest.
    pub(super) fn surplus(&self) -> Option<LinkId> {
        if self.finishing() <= MAX_FINISHING {
            return None;
        }
        let finishing = self.0.iter().filter(|(_, link)| link.is_finishing());
        finishing.min_by_key(|(id, link)| (link.streams > 0, **id)).map(|(id, _)| *id)
    }

    /// Has said hello and has not ended.
    pub(super) fn greeted(&self) -> bool {
        self.0.values().any(|link| link.phase != Phase::Dialling)
    }

    pub(super) fn any_quic(&self) -> bool {
        self.0.values().any(|link| link.transport == Transport::Quic)
    }

    pub(super) fn ids(&self, which: impl Fn(&Link) -> bool) -> Vec<LinkId> {
        self.0.iter().filter(|(_, link)| which(link)).map(|(id, _)| *id).collect()
    }

    /// Attempts that took too long by `now`.
    pub(super) fn overdue(&self, limit: Duration, now: Duration) -> Vec<LinkId> {
        self.ids(|link| link.is_attempt() && link.since + limit <= now)
    }

    /// Those without new streams that have been empty for `linger`.
    pub(super) fn done(&self, linger: Duration, now: Duration) -> Vec<LinkId> {
        self.ids(|link| link.is_finishing() && link.empty_from.is_some_and(|from| from + linger <= now))
    }

    /// When [`Links::overdue`] or [`Links::done`] will next have something.
    pub(super) fn next_due(&self, limit: Duration, linger: Duration) -> Option<Duration> {
        let due = |link: &Link| match link.phase {
            Phase::Dialling | Phase::Greeting => Some(link.since + limit),
            Phase::Leaving | Phase::Retired => link.empty_from.map(|from| from + linger),
            Phase::Up | Phase::Stale | Phase::Closing => None,
        };
        self.0.values().filter_map(due).min()
    }
}
