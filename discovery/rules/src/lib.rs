//! What to answer to whom on a hub LAN: hub classes, DHCP, DNS, router advertisements, staging.
//!
//! Pure: packets in, packets out; time is passed in.

mod document;

pub use document::{EdgeDocument, HubClass, HubService, SCHEMA, StagingDestination};
