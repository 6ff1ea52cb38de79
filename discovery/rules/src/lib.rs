//! What to answer to whom on a hub LAN: hub classes, DHCP, DNS, router advertisements, staging.
//!
//! Pure: packets in, packets out; time is passed in.

pub mod advert;
mod check;
pub mod dhcp;
pub mod dns;
mod document;
mod hint;
pub mod staging;

pub use check::{DocumentError, MAX_ADDRESSES, MAX_CLASSES, MAX_STAGING};
pub use document::{EdgeDocument, HubClass, HubService, SCHEMA, StagingDestination};
pub use hint::{CHECK_IN_PATH, DISCOVERY_PATH, discovery_hint};
pub use sluice_qos_plan::{BadMac, Mac};
