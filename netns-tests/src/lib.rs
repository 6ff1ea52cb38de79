//! Topologies of network namespaces and whole-system cases on real programs.
//!
//! Everything here needs root: it makes namespaces, links and firewalls of its own and removes them again.
//! Nothing outside those namespaces is touched, except `/etc/netns/<our prefix>*`.

mod admin;
mod authority;
pub mod browser;
pub mod demo;
pub mod emulator;
mod health;
pub mod probe;
pub mod process;
pub mod roundup;
pub mod samba;
pub mod site;
pub mod topology;

pub use health::transport;
