//! Which connections a tunnel should have and when to dial them: a state machine without sockets, clock or randomness.
//!
//! The shell tells [`Tunnel::on`] what happened and the time since it started, does the [`Action`]s it gets, and calls
//! again with [`Event::Wake`] at [`Tunnel::next_wake`]. Each pair of classes is a *lane* that races QUIC and TCP, uses
//! the winner, moves to QUIC when that comes up later, and lets what it used before finish its streams. Beside it,
//! [`Liveness`] says when the other end of one connection has gone.

mod desk;
mod lane;
mod links;
mod liveness;
mod memory;
mod pace;
mod pauses;
mod schedule;
mod tunnel;

pub use desk::{Action, LinkId};
pub use links::MAX_FINISHING;
pub use liveness::{Liveness, Pulse, TICK, UnknownPing};
pub use memory::{MAX_NETWORKS, Network};
pub use pace::Pace;
pub use tunnel::{Event, InUse, LaneView, Tunnel};
