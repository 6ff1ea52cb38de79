//! What the box is plugged into, and what its kernel can do.

use serde::{Deserialize, Serialize};

use crate::InterfaceName;

/// The ports of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Hub LAN.
    pub lan: LanPort,
    /// Wide area line.
    pub wan: WanPort,
}

/// Where hubs are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanPort {
    /// Interface.
    pub interface: InterfaceName,
    /// TCP ports of the edge's own services that every device may reach (DNS, discovery, check-in).
    pub tcp_services: Vec<u16>,
    /// UDP ports likewise (DHCP, DNS, NTP).
    pub udp_services: Vec<u16>,
}

/// The line to the world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanPort {
    /// Interface.
    pub interface: InterfaceName,
    /// Line rate towards the world, kbit/s, counted in Ethernet frames.
    pub up_kbit: u32,
    /// Line rate from the world, kbit/s; shaped on the LAN port's egress. `None`: not shaped.
    pub down_kbit: Option<u32>,
}

/// What the running kernel offers; probed at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `fq_codel` can be a leaf.
    pub fq_codel: bool,
    /// `tbf` can stand before a leaf, to cut super-packets into frames.
    pub tbf: bool,
    /// Largest IP packet of the LAN port, bytes; none when it is not known.
    pub lan_mtu: Option<u32>,
    /// Likewise of the WAN port.
    pub wan_mtu: Option<u32>,
}
