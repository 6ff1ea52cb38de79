//! One connection of a tunnel, whatever carries it: many streams, datagrams, and frames on any of them.
//!
//! Used by both ends of a tunnel; what may travel in a stream is theirs to decide. The two transports differ in nothing
//! that a user of [`Connection`], [`Stream`] or [`Datagrams`] can see.

mod carry;
mod connection;
mod datagrams;
mod frame;
mod heard;
pub mod quic;
mod reset;
mod rest;
mod stream;
mod tcp;
mod yamux;

pub use carry::{CARRY_BUFFER, carry};
pub use connection::{Connection, End, Opener};
pub use datagrams::{Datagrams, MAX_DATAGRAM};
pub use frame::{read_frame, write_frame};
pub use heard::{Heard, Metered};
pub use reset::PollReset;
pub use stream::Stream;
pub use yamux::{MAX_STREAMS, OUT_LIMIT, STREAM_WINDOW, WINDOW_RESERVE};
