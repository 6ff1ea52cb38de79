//! What a lane is given and what it asks for.

use std::time::Duration;

use super::{Pace, memory::Memory, pauses::Spread};
use crate::{ClassPair, Transport};

/// One connection, from its dial to its end; never reused within a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What the shell shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial, prove the gateway, then report [`super::Event::Reached`], or [`super::Event::Ended`].
    Dial {
        /// The new connection.
        link: LinkId,
        /// For which streams.
        pair: ClassPair,
        /// Over what.
        transport: Transport,
    },
    /// Say hello with the sid of this session (a new one for a new number) and report the first pong as
    /// [`super::Event::Up`].
    Greet {
        /// Which connection.
        link: LinkId,
        /// Counts the tunnel's sessions.
        session: u64,
    },
    /// Drop it; report nothing more of it. It has not said hello, or the gateway never answered.
    Cancel(LinkId),
    /// Say that no new streams are wanted on it, whether or not the gateway has answered its hello.
    Retire(LinkId),
    /// Close it, streams or not (too many are finishing, or the time to drain is over), and report [`super::Event::Ended`].
    Close(LinkId),
    /// The address has changed: move this pair's QUIC endpoint to a new socket, connections and all.
    Rebind(ClassPair),
}

/// What a lane works with during one event.
pub(super) struct Desk<'a> {
    pub(super) now: Duration,
    pub(super) pace: &'a Pace,
    pub(super) spread: &'a mut Spread,
    pub(super) memory: &'a mut Memory,
    pub(super) last_link: &'a mut u64,
    pub(super) actions: &'a mut Vec<Action>,
    pub(super) leave: Leave,
}

/// What the other lanes let a lane do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave {
    /// Races: the standard lane always, the others while that one has a connection.
    pub(super) race: bool,
    /// Trying QUIC while on TCP: the others only when the standard lane has QUIC.
    pub(super) probe: bool,
}

impl Desk<'_> {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) const fn next_link(&mut self) -> LinkId {
        *self.last_link += 1;
        LinkId(*self.last_link)
    }
}
