//! The kernel writer: the one owner of table `inet sluice`, of conntrack marks and of the shapers.
//!
//! It takes typed messages from one local socket and reads nothing from the network.

mod program;
mod writer;

pub use writer::KernelWriter;
