//! The shaper: one HTB tree per shaped port, one leaf per class.

use crate::{Capabilities, InterfaceName, Links, TrafficClass};

/// One leaf class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcClass {
    /// Which.
    pub class: TrafficClass,
    /// Guaranteed, kbit/s.
    pub rate_kbit: u32,
    /// At most, kbit/s.
    pub ceil_kbit: u32,
    /// HTB priority for what is left over; 0 first.
    pub priority: u8,
    /// Its queue.
    pub leaf: Leaf,
}

/// A leaf's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// First in, first out, at most so many packets.
    Pfifo(u32),
    /// Flow queueing with CoDel.
    FqCodel,
}

/// One port's shaper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcTree {
    /// Port.
    pub interface: InterfaceName,
    /// What the whole tree sends at most, kbit/s.
    pub rate_kbit: u32,
    /// Bytes that may leave back to back.
    pub burst: u32,
    /// Super-packets above so many bytes are cut into frames before they queue; none: they pass whole.
    pub cut: Option<u32>,
    /// Leaves, most urgent first.
    pub classes: Vec<TcClass>,
}

/// Upwards the tree sends a little less than the line carries, so that the queue is ours and not the modem's: 985/1000.
pub const HEADROOM_PERMILLE: u32 = 985;

/// Downwards the queue stands at the provider and can only be starved: what a burst has put there drains by the
/// difference between the two rates, so that difference must not be small.
pub const HEADROOM_DOWN_PERMILLE: u32 = 900;

/// A full Ethernet frame without preamble and check sum, as the kernel counts it.
const FRAME: u32 = 1_514;

/// What surrounds an IP packet in a frame at most: Ethernet header and two VLAN tags.
const FRAME_OVERHEAD: u32 = 22;

/// Below this rate a super-packet of 64 KiB (segmentation or receive offload, a neighbour on the same host) holds the
/// line for more than a millisecond, and is cut. `ethtool` cannot do it: what it switches comes after the queue, or
/// not at all on virtual ports.
const CUT_BELOW_KBIT: u32 = 500_000;

/// (class, guaranteed percent, ceiling percent). Guarantees add up to 100; the two urgent classes cannot starve the rest.
const SHARES: [(TrafficClass, u32, u32); 6] = [
    (TrafficClass::Realtime, 20, 95),
    (TrafficClass::Interactive, 40, 95),
    (TrafficClass::Iot, 10, 100),
    (TrafficClass::Default, 15, 100),
    (TrafficClass::Bulk, 10, 100),
    (TrafficClass::Background, 5, 100),
];

/// The HTB class of a traffic class, as `nft` and `tc` write it.
pub(crate) fn class_id(class: TrafficClass) -> String {
    format!("1:{:x}", 0x10 + u32::from(class.mark()))
}

impl TcTree {
    /// The shapers of an edge: WAN egress, and LAN egress when the line's download rate is known.
    #[must_use]
    pub fn of(links: &Links, can: Capabilities) -> Vec<Self> {
        let up = percent(links.wan.up_kbit, HEADROOM_PERMILLE, 1_000);
        let up = Self::port(&links.wan.interface, up, can.wan_mtu, can);
        let down = links.wan.down_kbit.map(|line| percent(line, HEADROOM_DOWN_PERMILLE, 1_000));
        let down = down.map(|rate| Self::port(&links.lan.interface, rate, can.lan_mtu, can));
        std::iter::once(up).chain(down).collect()
    }

    fn port(interface: &InterfaceName, rate_kbit: u32, mtu: Option<u32>, can: Capabilities) -> Self {
        let classes = SHARES
            .iter()
            .zip(0u8..)
            .map(|(&(class, share, ceiling), priority)| TcClass {
                class,
                rate_kbit: percent(rate_kbit, share, 100),
                ceil_kbit: percent(rate_kbit, ceiling, 100),
                priority,
                leaf: if can.fq_codel { Leaf::FqCodel } else { Leaf::Pfifo(queue_packets(rate_kbit)) },
            })
            .collect();
        // Two frames, or one millisecond's worth on fast lines: less would idle the line, more would delay the urgent.
        let burst = (2 * FRAME).max(rate_kbit / 8);
        // A port's own longest frame must pass: what is too long and cannot be cut would be dropped.
        let frame = mtu.map(|mtu| mtu.saturating_add(FRAME_OVERHEAD).max(FRAME));
        let cut = frame.filter(|_| can.tbf && rate_kbit < CUT_BELOW_KBIT);
        Self { interface: interface.clone(), rate_kbit, burst, cut, classes }
    }

    /// A `tc -batch` script that puts this tree in place of whatever shapes the port.
    #[must_use]
    pub fn install(&self) -> String {
        let port = &self.interface;
        let default = 0x10 + u32::from(TrafficClass::Default.mark());
        // HTB cannot be replaced by HTB under the same handle; a queue of another kind in between can.
        let mut script = format!(
            "qdisc replace dev {port} root handle 2: pfifo limit 1000\nqdisc replace dev {port} root handle 1: htb default {default:x}\n"
        );
        script.push_str(&self.root_class());
        for class in &self.classes {
            script.push_str(&self.leaf_class(class));
            script.push_str(&self.queue(class));
        }
        script
    }

    fn queue(&self, class: &TcClass) -> String {
        let port = &self.interface;
        let parent = class_id(class.class);
        let handle = 0x10 + u32::from(class.class.mark());
        let queue = match class.leaf {
            Leaf::Pfifo(limit) => format!("pfifo limit {limit}"),
            Leaf::FqCodel => "fq_codel".to_owned(),
        };
        let Some(frame) = self.cut else {
            return format!("qdisc add dev {port} parent {parent} handle {handle:x}: {queue}\n");
        };
        // So fast that it never holds a frame back; all it does is cut what is longer than its burst. The queue
        // inside has the limit, this one's is only asked for.
        let cutter = handle + 0x10;
        format!(
            "qdisc add dev {port} parent {parent} handle {cutter:x}: tbf rate 100gbit burst {frame} limit {frame}\n\
             qdisc add dev {port} parent {cutter:x}:1 handle {handle:x}: {queue}\n"
        )
    }

    /// A `tc -batch` script from `running` to `self`; `None` when nothing differs. Rates change in place, so that no
    /// queued packet is lost; anything else rebuilds the tree.
    #[must_use]
    pub fn change_from(&self, running: &Self) -> Option<String> {
        if self == running {
            return None;
        }
        let same_shape = self.interface == running.interface
            && self.cut == running.cut
            && self.classes.len() == running.classes.len()
            && self.classes.iter().zip(&running.classes).all(|(a, b)| a.class == b.class && a.leaf == b.leaf);
        if !same_shape {
            return Some(self.install());
        }
        Some(
            std::iter::once(self.root_class()).chain(self.classes.iter().map(|class| self.leaf_class(class))).collect(),
        )
    }

    fn root_class(&self) -> String {
        let Self { interface, rate_kbit, burst, .. } = self;
        format!(
            "class replace dev {interface} parent 1: classid 1:1 htb rate {rate_kbit}kbit ceil {rate_kbit}kbit burst {burst} cburst {burst} quantum {FRAME}\n"
        )
    }

    fn leaf_class(&self, class: &TcClass) -> String {
        let Self { interface, burst, .. } = self;
        let TcClass { rate_kbit, ceil_kbit, priority, .. } = class;
        let id = class_id(class.class);
        format!(
            "class replace dev {interface} parent 1:1 classid {id} htb rate {rate_kbit}kbit ceil {ceil_kbit}kbit burst {burst} cburst {burst} prio {priority} quantum {FRAME}\n"
        )
    }
}

/// `part`/`whole` of `kbit`, at least 8 kbit/s (tc refuses 0).
fn percent(kbit: u32, part: u32, whole: u32) -> u32 {
    let scaled = u64::from(kbit) * u64::from(part) / u64::from(whole.max(1));
    u32::try_from(scaled).unwrap_or(u32::MAX).max(8)
}

/// Without flow queueing a leaf holds 200 ms of the line in full frames: enough for a flow to fill the line, 32 to 10,000.
fn queue_packets(rate_kbit: u32) -> u32 {
    ((rate_kbit / 8).saturating_mul(200) / FRAME).clamp(32, 10_000)
}
