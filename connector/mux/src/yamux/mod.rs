//! yamux as a state machine: streams, windows and frames of one connection, without any I/O.
//!
//! The wire is that of HashiCorp's specification, version 0. What it leaves open is settled so that a stream behaves as
//! one of QUIC does: RST stops both directions, but what was finished before stays finished, so `FIN` then `RST` reads
//! "that was all, and I take nothing more". Stream numbers only grow.

mod header;
mod input;
mod queue;
mod session;
mod slot;
#[cfg(test)]
mod tests;

pub(crate) use header::HEADER;
pub(crate) use input::Input;
pub(crate) use session::{FIRST_WINDOW, Session, Violation};
pub use session::{MAX_STREAMS, OUT_LIMIT, STREAM_WINDOW, WINDOW_RESERVE};
pub(crate) use slot::{Read, Write};
