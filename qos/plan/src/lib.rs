//! Classes + link + kernel capabilities → one nftables ruleset and one tc tree.
//!
//! Pure: texts and data only.

mod policy;

pub use policy::{Match, QosPolicy, QosRule, TrafficClass, Transport};
