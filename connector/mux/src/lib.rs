//! One tunnel connection carrying many streams (yamux), and frames on any of them.
//!
//! Used by both ends of a tunnel; what may travel in a stream is theirs to decide.

mod connection;
mod frame;
mod stream;

pub use connection::{Connection, MAX_STREAMS, WINDOW_RESERVE};
pub use frame::{read_frame, write_frame};
pub use stream::Stream;
