//! Who may reach what through a gateway: its document, login flows, sessions, app policy, identity assertions.
//!
//! Pure: time and randomness are passed in.

mod document;

pub use document::{App, GatewayDocument, Relay, SCHEMA, Secret, Splice, Upstream};
