//! Classes + link + kernel capabilities → one nftables ruleset and one tc tree, and their diff.
//!
//! Pure: texts and data only. `qos/kernel` feeds the texts to `nft -f -` and `tc -batch -`.

mod filter;
mod interface;
mod link;
mod mac;
mod mark;
pub mod message;
mod policy;
mod tree;

pub use filter::{ADMITTED_SECONDS, Pinhole, admit, base, pinholes, restage, restage_all};
pub use interface::{BadInterface, InterfaceName};
pub use link::{Capabilities, LanPort, Links, WanPort};
pub use mac::{BadMac, Mac};
pub use mark::{Generation, PolicyError, classify};
pub use policy::{Match, QosPolicy, QosRule, TrafficClass, Transport};
pub use tree::{HEADROOM_DOWN_PERMILLE, HEADROOM_PERMILLE, Leaf, TcClass, TcTree};
