//! Segmentation offload on shaped ports.

use sluice_qos_plan::{InterfaceName, Links};
use tracing::warn;

use crate::program;

/// A 64 KiB super-packet takes 5 ms at this rate; below it, offload costs the urgent class more than it saves.
const OFFLOAD_FROM_KBIT: u32 = 100_000;

/// Turns segmentation and receive offload off on both ports of a slow line, so that the shaper sees single frames.
pub(crate) fn tune(links: &Links) {
    if links.wan.up_kbit.max(links.wan.down_kbit.unwrap_or(0)) < OFFLOAD_FROM_KBIT {
        for port in [&links.wan.interface, &links.lan.interface] {
            off(port);
        }
    }
}

fn off(port: &InterfaceName) {
    let args = ["-K", port.as_str(), "gro", "off", "gso", "off", "tso", "off"];
    if let Err(error) = program::run("ethtool", &args, "") {
        // Some drivers have nothing to turn off; shaping works all the same, less finely.
        warn!(%port, "segmentation offload stays as it is: {error:#}");
    }
}
