//! Classes + link + kernel capabilities → one nftables ruleset and one tc tree, and their diff.
//!
//! Pure: texts and data only. `qos/kernel` feeds the texts to `nft -f -` and `tc -batch -`.

mod address;
mod filter;
mod link;
mod mark;
pub mod message;
mod policy;
mod tree;

pub use address::{BadInterface, BadMac, InterfaceName, MacAddress};
pub use filter::{Pinhole, admit, base, pinholes, restage, restage_all};
pub use link::{Capabilities, LanPort, Links, WanPort};
pub use mark::{Generation, PolicyError, classify};
pub use policy::{Match, QosPolicy, QosRule, TrafficClass, Transport};
pub use tree::{HEADROOM_DOWN_PERMILLE, HEADROOM_PERMILLE, Leaf, TcClass, TcTree};
